"""`Run`: one execution of a pipeline: what is known so far, and one method a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.pipeline.batch import CandidateBatch, empty_batch
from millrace.pipeline.blueprint import Blueprint
from millrace.pipeline.column import AnyColumn, Attachment, BoolArray, Column, Dims, IntArray
from millrace.pipeline.contracts import check_mask, checks_batch, checks_fields, checks_mask, checks_rows, checks_values
from millrace.pipeline.merge import merge
from millrace.pipeline.outcome import Fate
from millrace.pipeline.query import Query, QueryField
from millrace.pipeline.stages import Filter, Hydrator, OnError, PreRanker, Ranker, Readable, Source
from millrace.pipeline.turns import Taken, Turn, Turns
from millrace.pipeline.verdicts import Verdicts

_LEAST_PAGES: Final = 2
"""So many pages' worth of candidates pass every pre-ranker: late filters and rules of the page need a choice."""


def drop_names(blueprint: Blueprint) -> tuple[str, ...]:
    """Return the names of the codes in ``dropped_by``: who can drop a candidate, in order of their turns."""
    stages = blueprint.stages
    droppers = (*stages.filters, *stages.pre_rankers, *stages.late_filters)
    return ("", *(stage.name for stage in droppers))


class Run:
    """One request on its way through the pipeline."""

    def __init__(self, blueprint: Blueprint, query: Query, turns: Turns, dims: Dims, max_refills: int) -> None:
        self._blueprint = blueprint
        self._stages = blueprint.stages
        self._key = blueprint.key
        self._dims = dims
        self._max_refills = max_refills
        self._first_pre_ranker = 1 + len(blueprint.stages.filters)  # its code in ``dropped_by``
        self._missing: set[Readable] = set()
        self.turns = turns
        self.query = query
        self.candidates = empty_batch((), dims)
        self.ranked = self.candidates
        self.ranked_rows: IntArray = np.empty(0, dtype=np.intp)
        self.pre_ranked = self.candidates
        self.pre_ranked_rows: IntArray = self.ranked_rows
        self.slate = self.candidates
        self.slate_rows: IntArray = self.ranked_rows
        self.dropped_by: npt.NDArray[np.int16] = np.empty(0, dtype=np.int16)
        self.retrieved: list[tuple[str, Int64Array]] = []
        self.attachments: dict[Attachment[Any], dict[int, Any]] = {}
        self.n_refills = 0
        self._found: dict[int, CandidateBatch] = {}
        self._last_resorts: list[int] = []
        self._droppers: list[tuple[int, Filter]] = []

    async def hydrate_query(self) -> None:
        """Run the query hydrators; what a failed one would have written is remembered as missing."""
        for wave in self._blueprint.query_waves:
            query = self.query
            turns = [Turn(stage, 0, checks_fields(stage), stage.hydrate, (query,)) for stage in wave]
            found: dict[Any, Any] = {}
            for stage, turn, taken in zip(wave, turns, await self.turns.take_all(turns), strict=True):
                if _needs_fallback(taken):
                    taken = self.turns.fall_back(turn._replace(method=stage.fallback))
                if taken.fate is Fate.OK:
                    found.update(taken.value)
                elif taken.fate is not Fate.DISABLED:
                    self._missing.update(stage.writes)
            self.query = self.turns.query = query.with_fields(found)

    async def retrieve(self) -> None:
        """Run the sources, last resorts only where the others found too little, and merge what they found."""
        await self._retrieve([bit for bit, source in enumerate(self._stages.sources) if not source.only_below])
        n_found = sum(batch.n for batch in self._found.values())
        wanted: list[int] = []
        for bit, source in enumerate(self._stages.sources):
            if source.only_below is not None:
                only_below = self.query.params.get_int(source.only_below)
                if only_below == 0:
                    self.turns.leave_out(source, 0, Fate.DISABLED)
                else:
                    (wanted if n_found < only_below else self._last_resorts).append(bit)
        await self._retrieve(wanted)
        self._merge()

    async def retrieve_more(self) -> bool:
        """Run the last resorts left out so far if the filters left less than a page; return whether any was."""
        wanted, self._last_resorts = self._last_resorts, []
        if self.ranked.n >= self.query.limit:
            for bit in wanted:
                self.turns.leave_out(self._stages.sources[bit], 0, Fate.DISABLED)
            return False
        await self._retrieve(wanted)
        if wanted:
            self._merge()
        return bool(wanted)

    async def take_given(self, keys: Int64Array) -> None:
        """Make given keys the candidates, in their order; sources are asked only for columns that later stages read."""
        stages = self._stages
        read = {thing for stage in (*stages.hydrators, *stages.pre_rankers, *stages.rankers) for thing in stage.reads}
        read.discard(self._key)
        await self._retrieve([bit for bit, source in enumerate(stages.sources) if read.intersection(source.writes)])
        given = CandidateBatch({self._key: keys.copy()})
        parts = [(len(stages.sources), given), *sorted(self._found.items())]
        merged = merge(parts, self._key, self._blueprint.source_columns, self._dims)
        self.candidates = merged.take(np.arange(len(keys)))

    def keep_all(self) -> None:
        """Let every candidate pass, unjudged."""
        self.ranked, self.ranked_rows = self.candidates, np.arange(self.candidates.n)

    async def hydrate(self) -> None:
        """Run the hydrators, wave after wave; a failed one's columns get their fill and are remembered."""
        for wave in self._blueprint.hydrator_waves:
            new = await self._hydrate(wave, self.candidates)
            self.candidates = self.candidates.with_checked_columns(new)  # type: ignore[arg-type]

    def filter(self) -> None:
        """Run the filters over all candidates; compact at the end, and before a filter that compares rows."""
        rows: IntArray = np.arange(self.candidates.n)
        verdicts = Verdicts(self.candidates)
        for code, stage in enumerate(self._stages.filters, start=1):
            if stage.compares_rows and verdicts.n_alive < verdicts.batch.n:
                rows, verdicts = self._settle(rows, verdicts)
            self._judge(stage, verdicts, code)
        self.ranked_rows, verdicts = self._settle(rows, verdicts)
        self.ranked = verdicts.batch

    def pre_rank(self) -> None:
        """Run the pre-rankers where there are more candidates than they let through; each keeps its best.

        One that failed keeps as many, by the fill of its score.
        """
        self.pre_ranked, self.pre_ranked_rows = self.ranked, self.ranked_rows
        for code, stage in enumerate(self._stages.pre_rankers, start=self._first_pre_ranker):
            n_kept = max(self.query.params.get_int(stage.max_kept), _LEAST_PAGES * self.query.limit)
            if self.ranked.n <= n_kept or not self.turns.takes_part(stage):
                self.turns.leave_out(stage, self.ranked.n, Fate.DISABLED)
                self._fill(stage)
                continue
            self._rank(stage)
            self.pre_ranked, self.pre_ranked_rows = self.ranked, self.ranked_rows
            rows = np.sort(stage.choose(self.query, self.ranked, n_kept, self._key))
            dropped = np.ones(self.ranked.n, dtype=np.bool_)
            dropped[rows] = False
            self.dropped_by[self.ranked_rows[dropped]] = code
            self.ranked_rows = self.ranked_rows[rows]
            self.ranked = self.ranked.take(rows)

    def take_back(self) -> bool:
        """Bring back what pre-rankers cut if the page is short, to be ranked with the others; return whether any was.

        They chose the best of many for a dear ranker; that late filters or a selector's rules leave less than a page of
        those is rare, and then the whole reserve is worth its price. What a late filter dropped stays dropped.
        """
        n = len(self._stages.pre_rankers)
        is_cut = (self.dropped_by >= self._first_pre_ranker) & (self.dropped_by < self._first_pre_ranker + n)
        if self.slate.n >= self.query.limit or self.query.is_out_of_time() or not is_cut.any():
            return False
        self.dropped_by[is_cut] = 0
        self.ranked_rows = np.flatnonzero(self.dropped_by == 0)
        self.ranked = self.candidates.take(self.ranked_rows)
        for stage in self._stages.pre_rankers:
            self._fill(stage)
        return True

    def rank(self) -> None:
        """Run rankers and value models, one after the other."""
        for stage in self._stages.rankers:
            self._rank(stage)

    def re_rank(self) -> None:
        """Run the re-rankers, one after the other."""
        for stage in self._stages.re_rankers:
            self._rank(stage)

    async def select(self) -> None:
        """Choose the page, check it with the late filters, and choose again without what they dropped.

        The whole page is chosen and checked anew each round, so that rules across rows hold for what leaves.
        """
        late = LateColumns(self.ranked, self._stages.late_hydrators, self._dims)
        alive = np.ones(self.ranked.n, dtype=np.bool_)
        while True:
            rows = self._select(np.flatnonzero(alive))
            await self._hydrate_late(late, late.new_rows(rows))
            slate = late.slate(rows).with_attachments(self.attachments)
            passed, can_refill = await self._filter_late(slate, rows)
            if len(passed) == len(rows):
                break
            alive[np.setdiff1d(rows, passed, assume_unique=True)] = False
            rows, slate = passed, late.slate(passed).with_attachments(self.attachments)
            if not can_refill or self.n_refills >= self._max_refills or self.query.is_out_of_time():
                break
            self.n_refills += 1
            await self._foresee(alive, passed)
        self.slate_rows, self.slate = rows, slate

    def blend(self) -> None:
        """Run the blenders; a failed one leaves the order as it is."""
        for stage in self._stages.blenders:
            slate = self.slate
            check = checks_rows(stage, slate.n, slate.n)
            taken = self.turns.take(stage, slate.n, check, stage.blend, self.query, slate)
            if taken.fate is Fate.OK:
                self.slate_rows = self.slate_rows[taken.value]
                self.slate = slate.take(taken.value)

    # ------------------------------------------------------------------------------------------- pieces

    async def _retrieve(self, bits: Sequence[int]) -> None:
        sources = [self._stages.sources[bit] for bit in bits]
        turns = [Turn(stage, 0, checks_batch(stage, self._key), stage.retrieve, (self.query,)) for stage in sources]
        for bit, source, taken in zip(bits, sources, await self.turns.take_all(turns), strict=True):
            if taken.fate is Fate.OK:
                self._found[bit] = self._cut(source, taken.value)

    def _merge(self) -> None:
        parts = sorted(self._found.items())
        self.retrieved = [(self._stages.sources[bit].name, batch[self._key]) for bit, batch in parts]
        self.candidates = merge(parts, self._key, self._blueprint.source_columns, self._dims)
        self.dropped_by = np.zeros(self.candidates.n, dtype=np.int16)

    def _cut(self, source: Source, batch: CandidateBatch) -> CandidateBatch:
        cap = self.query.params.get_int(source.cap) if source.cap is not None else batch.n
        return batch if batch.n <= cap else batch.take(np.arange(cap))

    async def _hydrate(self, wave: Sequence[Hydrator], batch: CandidateBatch) -> dict[Readable, Any]:
        query, n = self.query, batch.n
        turns = [Turn(stage, n, checks_values(stage, n), stage.hydrate, (query, batch)) for stage in wave]
        new: dict[Readable, Any] = {}
        for stage, turn, taken in zip(wave, turns, await self.turns.take_all(turns), strict=True):
            if _needs_fallback(taken):
                taken = self.turns.fall_back(turn._replace(method=stage.fallback))
            if taken.fate is Fate.OK:
                new.update(taken.value)
                continue
            if taken.fate is not Fate.DISABLED:
                self._missing.update(stage.writes)
            new.update((c, c.full(n, self._dims)) for c in stage.writes if not isinstance(c, Attachment))  # type: ignore[union-attr]
        return new

    def _settle(self, rows: IntArray, verdicts: Verdicts) -> tuple[IntArray, Verdicts]:
        """Write down who dropped what; return the rows that are left, as candidates' rows and as a new group."""
        if verdicts.n_alive == verdicts.batch.n:
            return rows, verdicts
        self.dropped_by[rows] = verdicts.codes
        alive = verdicts.alive_rows()
        return rows[alive], Verdicts(verdicts.batch.take(alive))

    def _judge(self, stage: Filter, verdicts: Verdicts, code: int) -> None:
        """Let a plain filter, or its policy, decide."""
        batch, n_in = verdicts.batch, verdicts.n_alive
        blind = self._blind(stage, batch.n, n_in)
        if blind is not None:
            verdicts.drop(blind, code)
            return

        def check(keep: Any) -> int:
            check_mask(stage, batch.n, keep)
            return verdicts.drop(keep, code)

        taken = self.turns.take(stage, n_in, check, stage.keep, self.query, batch)
        if taken.fate is Fate.FAILED and stage.on_error is OnError.DROP_ALL:
            verdicts.drop_all(code)

    def _blind(self, stage: Filter, n: int, n_in: int) -> BoolArray | None:
        if not self._missing or not self.turns.takes_part(stage):
            return None
        missing = next((thing for thing in stage.reads if thing in self._missing), None)
        if missing is None:
            return None
        keeps = stage.on_error is OnError.KEEP_ALL
        self.turns.blind(stage, missing.name, n_in, n_in if keeps else 0)
        return np.full(n, keeps, dtype=np.bool_)

    def _verdict(self, stage: Filter, taken: Taken, n: int) -> BoolArray | None:
        if taken.fate is Fate.OK:
            return taken.value  # type: ignore[no-any-return]
        if taken.fate is Fate.DISABLED or stage.on_error is OnError.KEEP_ALL:
            return None
        return np.zeros(n, dtype=np.bool_)

    def _rank(self, stage: Ranker | PreRanker) -> None:
        batch = self.ranked
        taken = self.turns.take(stage, batch.n, checks_values(stage, batch.n), stage.rank, self.query, batch)
        if taken.fate is Fate.OK:
            self.ranked = batch.with_checked_columns(taken.value)
        else:
            self._fill(stage)

    def _fill(self, stage: Ranker) -> None:
        """Give a ranker's columns their fill; one that an earlier ranker wrote keeps the earlier values."""
        batch = self.ranked
        columns = [c for c in stage.writes if not isinstance(c, Attachment | QueryField) and c not in batch]
        self.ranked = batch.with_checked_columns({c: c.full(batch.n, self._dims) for c in columns})

    def _select(self, alive_rows: IntArray) -> IntArray:
        """Return rows of ``ranked``, best first; the first ones in their order if the selector failed."""
        stage, limit = self._stages.selector, self.query.limit
        batch = self.ranked if len(alive_rows) == self.ranked.n else self.ranked.take(alive_rows)
        check = checks_rows(stage, batch.n, limit)
        taken = self.turns.take(stage, batch.n, check, stage.select, self.query, batch, limit)
        return alive_rows[taken.value if taken.fate is Fate.OK else np.arange(min(limit, batch.n))]

    async def _hydrate_late(self, late: LateColumns, rows: IntArray) -> None:
        if not len(rows):
            return
        batch = self.ranked.take(rows)
        for wave in self._blueprint.late_waves:
            new = await self._hydrate(wave, batch)
            columns: dict[AnyColumn, Any] = {}
            for thing, data in new.items():
                if isinstance(thing, Attachment):
                    self.attachments.setdefault(thing, {}).update(data)
                else:
                    columns[thing] = data  # type: ignore[index]
            late.write(rows, columns)
            batch = batch.with_checked_columns(columns)

    async def _filter_late(self, slate: CandidateBatch, rows: IntArray) -> tuple[IntArray, bool]:
        """Return the rows that passed, and whether choosing others could help (not if a filter itself failed)."""
        can_refill = True
        first = 1 + len(self._stages.filters) + len(self._stages.pre_rankers)
        self._droppers.clear()
        for code, stage in enumerate(self._stages.late_filters, start=first):
            keep = self._blind(stage, slate.n, slate.n)
            if keep is not None:
                can_refill = can_refill and bool(keep.all())
            else:
                check = checks_mask(stage, slate.n)
                turn = Turn(stage, slate.n, check, stage.keep, (self.query, slate))
                (taken,) = await self.turns.take_all([turn])
                keep = self._verdict(stage, taken, slate.n)
                can_refill = can_refill and (keep is None or taken.fate is Fate.OK)
            if keep is not None and not keep.all():
                self.dropped_by[self.ranked_rows[rows[~keep]]] = code
                rows, slate = rows[keep], slate.compact(keep)
                self._droppers.append((code, stage))
        return rows, can_refill

    async def _foresee(self, alive: BoolArray, passed: IntArray) -> None:
        """Leave out of the next round what the filters that dropped something know they would drop as well."""
        for code, stage in self._droppers:
            keep = await stage.foresee(self.query, self.ranked)
            if keep is None:
                continue
            dropped = alive & ~keep
            dropped[passed] = False
            alive &= ~dropped
            self.dropped_by[self.ranked_rows[dropped]] = code


class LateColumns:
    """Columns that late hydrators write, row by row as rows reach the page."""

    def __init__(self, ranked: CandidateBatch, hydrators: Sequence[Hydrator], dims: Dims) -> None:
        self._ranked = ranked
        written = (c for stage in hydrators for c in stage.writes if isinstance(c, Column))
        self._data = {column: column.full(ranked.n, dims) for column in written}
        self._is_done = np.zeros(ranked.n, dtype=np.bool_)

    def new_rows(self, rows: IntArray) -> IntArray:
        """Return those rows that were not hydrated before, and count them as hydrated."""
        new = rows[~self._is_done[rows]]
        self._is_done[new] = True
        return new

    def write(self, rows: IntArray, columns: dict[AnyColumn, Any]) -> None:
        """Keep the values of some rows."""
        for column, values in columns.items():
            self._data[column][rows] = values  # type: ignore[index]

    def slate(self, rows: IntArray) -> CandidateBatch:
        """Return rows of the ranked candidates with their late columns."""
        slate = self._ranked.take(rows)
        if not self._data:
            return slate
        return slate.with_checked_columns({c: data[rows] for c, data in self._data.items()})


def _needs_fallback(taken: Taken) -> bool:
    return taken.fate is Fate.FAILED or taken.fate is Fate.LATE
