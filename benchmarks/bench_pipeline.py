"""`millrace bench pipeline`: framework, 15 filters, value model and selection on 2,000 candidates.

Ours is the real `Pipeline.execute`: two sources merged, columns gathered from a table of posts by a hydrator, the
home feed's fifteen filters, its value model with 23 heads, recency, the page of 35 with at most 3 posts per author,
the report of every component. Predictions are given to both sides.

The baseline, ``per_object``, is what a good engineer would write with objects: posts in a dictionary, a dataclass
with slots per candidate and request (it carries the request's sources and score), sets for membership (built
beforehand), one comprehension per filter so that drops are counted by filter, a generator expression for the
weighted sum. It must give the same page, and the same number of drops per filter. ``per_object_prebuilt`` is the
same without the making of the objects, which ours, hydration included, is compared with all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from harness import emit, interleave, median_ms, percentile_ms, without_options
from millrace.base.actions import CONTINUOUS, Action, ActionSpace
from millrace.base.int_table import IntTable, table_get_many
from millrace.base.order import top_k
from millrace.base.params import ParamSet
from millrace.features import columns as c
from millrace.features import query_fields as q
from millrace.mixer.filters.age import AgeFilter
from millrace.mixer.filters.existence import DeletedParentFilter, HydrationFilter
from millrace.mixer.filters.out_of_network import OutOfNetworkReplyFilter
from millrace.mixer.filters.own import OwnPostsFilter
from millrace.mixer.filters.relations import (
    BlockedAuthorFilter,
    BlockedByAuthorFilter,
    BlockedParentFilter,
    MutedAuthorFilter,
    MutedParentFilter,
)
from millrace.mixer.filters.same_content import SameContentFilter
from millrace.mixer.filters.seen import SeenFilter, ServedFilter
from millrace.mixer.filters.viewer_settings import LanguageFilter, SensitiveFilter
from millrace.mixer.kinds import ORIGINAL, QUOTE, REPLY, REPOST
from millrace.mixer.value_model.multipliers import RecencyMultiplier
from millrace.mixer.value_model.weighted_sum import WeightedSum
from millrace.mixer.value_model.weights import Weights
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.column import PROVENANCE, AnyColumn, IntArray
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Query, QueryField
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import ColumnValues, HydratedValues, Hydrator, Ranker, Selector, Source

N = 2_000
N_POSTS = 50_000
N_FIRST, N_SECOND = 1_300, 1_000  # 300 are found twice
N_ROUNDS = 20
N_REPEATS = 4
N_REQUESTS = 8
NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
VIEWER = 77
LIMIT = 35
MAX_PER_AUTHOR = 3
ACTIONS = ActionSpace()

FIELDS = (
    q.BLOCKED,
    q.BLOCKED_BY,
    q.MUTED,
    q.SEEN,
    q.SERVED,
    q.LANGUAGES,
    q.SHOWS_ALL_LANGUAGES,
    q.SHOWS_SENSITIVE,
)
COLUMNS: tuple[AnyColumn, ...] = (
    c.POST_ID,
    c.HAS_POST,
    c.IS_DELETED,
    c.AUTHOR_ID,
    c.CREATED_MS,
    c.KIND,
    c.PARENT_AUTHOR_ID,
    c.CONTENT_ID,
    c.IS_PARENT_DELETED,
    c.DURATION_MS,
    c.IS_SENSITIVE,
    c.LANGUAGE,
    c.IS_IN_NETWORK,
    c.IS_MUTUAL,
    c.ACTION_PROBS,
)


@dataclass(frozen=True)
class World:
    """All posts as columns, row by row."""

    columns: dict[AnyColumn, np.ndarray]


@dataclass(frozen=True)
class Request:
    """One request's inputs, for both sides: rows of the world, predictions, and what is known of the viewer."""

    rows: np.ndarray
    probs: np.ndarray
    fields: dict[QueryField[Any], Any]


def a_world() -> World:
    """Return made-up posts: about half of them are dropped by one filter or another."""
    n, rng = N_POSTS, np.random.default_rng(0)
    ids = np.unique(rng.integers(1, 1 << 62, n + 100))
    ids = rng.permutation(ids)[:n]
    kind = rng.choice([ORIGINAL, REPLY, REPOST, QUOTE], p=[0.6, 0.2, 0.15, 0.05], size=n).astype(np.int8)
    return World(
        {
            c.POST_ID: ids,
            c.HAS_POST: rng.random(n) > 0.01,
            c.IS_DELETED: np.zeros(n, dtype=np.bool_),
            c.AUTHOR_ID: rng.integers(1_000, 6_000, n),
            c.CREATED_MS: NOW_MS - rng.integers(0, 52 * HOUR_MS, n),
            c.KIND: kind,
            c.PARENT_AUTHOR_ID: np.where(kind == ORIGINAL, 0, rng.integers(1_000, 6_000, n)),
            c.CONTENT_ID: np.where(kind == REPOST, ids[rng.integers(0, n // 10, n)], ids),
            c.IS_PARENT_DELETED: rng.random(n) < 0.01,
            c.DURATION_MS: rng.integers(0, 60_000, n).astype(np.int32),
            c.IS_SENSITIVE: rng.random(n) < 0.02,
            c.LANGUAGE: rng.integers(0, 6, n).astype(np.int32),
            c.IS_IN_NETWORK: rng.random(n) < 0.5,
            c.IS_MUTUAL: rng.random(n) < 0.1,
        }
    )


def a_request(world: World, seed: int) -> Request:
    """Return one viewer's candidates and lists."""
    rng = np.random.default_rng(1_000 + seed)
    rows = rng.choice(N_POSTS, size=N, replace=False)
    ids = world.columns[c.POST_ID]
    probs = (rng.random((N, len(ACTIONS))) ** 8 * 0.2).astype(np.float32)
    probs[:, Action.NOT_INTERESTED : Action.REPORT + 1] *= 0.001
    probs[:, Action.DWELL_TIME] = rng.random(N) * 20
    fields = {
        q.BLOCKED: rng.integers(1_000, 6_000, 50),
        q.BLOCKED_BY: rng.integers(1_000, 6_000, 10),
        q.MUTED: rng.integers(1_000, 6_000, 50),
        q.SEEN: np.concatenate((ids[rows[rng.integers(0, N, 100)]], rng.choice(ids, 1_900))),
        q.SERVED: np.concatenate((ids[rows[rng.integers(0, N, 50)]], rng.choice(ids, 450))),
        q.LANGUAGES: np.array([1, 2, 3, 4], dtype=np.int32),
        q.SHOWS_ALL_LANGUAGES: False,
        q.SHOWS_SENSITIVE: False,
    }
    return Request(rows, probs, fields)


# ------------------------------------------------------------------------------------------------------ ours


class PreparedSource(Source):
    """Finds a part of the current request's candidates."""

    def __init__(self, name: str, ids: list[np.ndarray]) -> None:
        self.name = name
        self.current = 0
        self._ids = ids

    def retrieve(self, query: Query) -> CandidateBatch:  # noqa: ARG002
        return CandidateBatch({c.POST_ID: self._ids[self.current]})


class TableHydrator(Hydrator):
    """Gathers columns of the world by post id."""

    name = "table"
    reads = (c.POST_ID,)

    def __init__(self, world: World) -> None:
        self._columns = {column: data for column, data in world.columns.items() if column is not c.POST_ID}
        self.writes = tuple(self._columns)
        self._table = IntTable(2 * N_POSTS)
        for row, post_id in enumerate(world.columns[c.POST_ID].tolist()):
            self._table.put(post_id, row)

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:  # noqa: ARG002
        rows = table_get_many(self._table.keys, self._table.values, batch[c.POST_ID])
        return {column: data.take(rows) for column, data in self._columns.items()}


class PreparedRanker(Ranker):
    """Has the predictions of the current request's candidates, in their order after the merge."""

    name = "prepared"
    reads = (PROVENANCE,)
    writes = (c.ACTION_PROBS,)

    def __init__(self, requests: list[Request], ids: np.ndarray) -> None:
        self.current = 0
        self._probs = [request.probs for request in requests]
        self._row_by_id = [dict(zip(ids[r.rows].tolist(), range(N), strict=True)) for r in requests]
        self._ready: dict[int, np.ndarray] = {}

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:  # noqa: ARG002
        ready = self._ready.get(self.current)
        if ready is None:  # while warming up
            row_by_id = self._row_by_id[self.current]
            ready = self._probs[self.current][[row_by_id[i] for i in batch[c.POST_ID].tolist()]]
            self._ready[self.current] = ready
        return {c.ACTION_PROBS: ready}


class AuthorCap(Selector):
    """The best scores, few of an author: the one rule of a page that both sides have."""

    name = "author_cap"
    reads = (c.SCORE, c.AUTHOR_ID)

    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:  # noqa: ARG002
        scores, ids, authors = batch[c.SCORE], batch[c.POST_ID], batch[c.AUTHOR_ID]
        n_looked = 2 * n_wanted
        while True:
            chosen: list[int] = []
            taken: dict[int, int] = {}
            order = top_k(scores, ids, n_looked)
            for row, author in zip(order.tolist(), authors[order].tolist(), strict=True):
                if taken.get(author, 0) < MAX_PER_AUTHOR:
                    taken[author] = taken.get(author, 0) + 1
                    chosen.append(row)
                    if len(chosen) == n_wanted:
                        break
            if len(chosen) == n_wanted or n_looked >= batch.n:
                return np.array(chosen, dtype=np.intp)
            n_looked *= 4


class Ours:
    """The real pipeline, but for the page's further rules."""

    def __init__(self, world: World, requests: list[Request]) -> None:
        ids = world.columns[c.POST_ID]
        found = [ids[request.rows] for request in requests]
        ranker = PreparedRanker(requests, ids)
        sources = (
            PreparedSource("first", [part[:N_FIRST] for part in found]),
            PreparedSource("second", [part[N - N_SECOND :] for part in found]),
        )
        self._prepared = (*sources, ranker)
        stages = Stages(
            sources=sources,
            hydrators=(TableHydrator(world),),
            filters=(
                HydrationFilter(),
                AgeFilter(),
                OwnPostsFilter(),
                DeletedParentFilter(),
                BlockedAuthorFilter(),
                BlockedByAuthorFilter(),
                MutedAuthorFilter(),
                BlockedParentFilter(),
                MutedParentFilter(),
                SeenFilter(),
                ServedFilter(),
                OutOfNetworkReplyFilter(),
                LanguageFilter(str),
                SensitiveFilter(),
                SameContentFilter(),
            ),
            rankers=(ranker, WeightedSum(ACTIONS), RecencyMultiplier()),
            selector=AuthorCap(),
        )
        dims = {c.N_ACTIONS_DIM: len(ACTIONS)}
        self.pipeline = Pipeline("bench", stages, key=c.POST_ID, dims=dims, given=FIELDS)
        self._queries = [
            Query(f"r{i}", VIEWER, NOW_MS, LIMIT, fields=request.fields) for i, request in enumerate(requests)
        ]

    def run(self, number: int) -> PipelineResult:
        for stage in self._prepared:
            stage.current = number
        running = self.pipeline.execute(self._queries[number])
        try:
            running.send(None)  # nothing here waits, so it runs to its end at once, as it would in a server's loop
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        raise SystemExit("a component waited")


# ------------------------------------------------------------------------------------------------ per object


@dataclass(slots=True)
class Candidate:
    post_id: int
    has_post: bool
    is_deleted: bool
    author_id: int
    created_ms: int
    kind: int
    parent_author_id: int
    content_id: int
    is_parent_deleted: bool
    duration_ms: int
    is_sensitive: bool
    language: int
    is_in_network: bool
    is_mutual: bool
    probs: list[float]
    sources: int = 0
    score: float = 0.0


Candidates = list[Candidate]
Sets = dict[str, set[int]]


def keep_young(alive: Candidates, _: Sets) -> Candidates:
    oldest_ms = NOW_MS - 48 * HOUR_MS
    return [x for x in alive if x.created_ms >= oldest_ms]


def keep_others(alive: Candidates, _: Sets) -> Candidates:
    return [x for x in alive if x.author_id != VIEWER and not (x.parent_author_id == VIEWER and x.kind == REPOST)]


def keep_authors(name: str) -> Callable[[Candidates, Sets], Candidates]:
    def keep(alive: Candidates, sets: Sets) -> Candidates:
        members = sets[name]
        return [x for x in alive if x.author_id not in members]

    return keep


def keep_unblocked_parents(alive: Candidates, sets: Sets) -> Candidates:
    blocked, blocked_by = sets["blocked"], sets["blocked_by"]
    return [x for x in alive if x.parent_author_id not in blocked and x.parent_author_id not in blocked_by]


def keep_unmuted_parents(alive: Candidates, sets: Sets) -> Candidates:
    muted = sets["muted"]
    return [x for x in alive if x.parent_author_id not in muted]


def keep_new(name: str) -> Callable[[Candidates, Sets], Candidates]:
    def keep(alive: Candidates, sets: Sets) -> Candidates:
        members = sets[name]
        return [x for x in alive if x.post_id not in members and x.content_id not in members]

    return keep


def keep_conversations(alive: Candidates, _: Sets) -> Candidates:
    return [x for x in alive if x.is_in_network or (x.kind != REPLY and x.kind != REPOST)]


def keep_understood(alive: Candidates, sets: Sets) -> Candidates:
    languages = sets["languages"]
    return [x for x in alive if x.language == 0 or x.language in languages or x.is_in_network]


RULES: list[tuple[str, Callable[[Candidates, Sets], Candidates]]] = [
    ("hydration", lambda alive, _: [x for x in alive if x.has_post or x.is_deleted]),
    ("age", keep_young),
    ("own_posts", keep_others),
    ("deleted_parent", lambda alive, _: [x for x in alive if not x.is_parent_deleted or x.kind != REPOST]),
    ("blocked_author", keep_authors("blocked")),
    ("blocked_by_author", keep_authors("blocked_by")),
    ("muted_author", keep_authors("muted")),
    ("blocked_parent", keep_unblocked_parents),
    ("muted_parent", keep_unmuted_parents),
    ("seen", keep_new("seen")),
    ("served", keep_new("served")),
    ("out_of_network_reply", keep_conversations),
    ("language", keep_understood),
    ("sensitive", lambda alive, _: [x for x in alive if not x.is_sensitive]),
]


class PerObject:
    """The same request with objects, sets and list comprehensions."""

    def __init__(self, world: World, requests: list[Request]) -> None:
        ids = world.columns[c.POST_ID]
        fields = zip(*(data.tolist() for column, data in world.columns.items()), strict=True)
        self._posts: dict[int, tuple[Any, ...]] = {row[0]: row for row in fields}
        self._found = [ids[request.rows].tolist() for request in requests]
        self._probs = [
            dict(zip(ids[request.rows].tolist(), request.probs.tolist(), strict=True)) for request in requests
        ]
        self._sets = [
            {field.name: set(np.atleast_1d(value).tolist()) for field, value in request.fields.items()}
            for request in requests
        ]
        weights = Weights(ACTIONS).read(ParamSet()).tolist()
        self._weights = [(code, weight) for code, weight in enumerate(weights) if weight]
        discrete = [weight for code, weight in enumerate(weights) if code not in CONTINUOUS]
        self._negative = -sum(weight for weight in discrete if weight < 0)
        self._total = self._negative + sum(weight for weight in discrete if weight > 0)
        self._complete = weights[Action.COMPLETE]

    def make(self, number: int) -> list[Candidate]:
        """Return the request's candidates, merged and hydrated."""
        found, posts, probs = self._found[number], self._posts, self._probs[number]
        merged: dict[int, Candidate] = {}
        for bit, ids in ((1, found[:N_FIRST]), (2, found[N - N_SECOND :])):
            for post_id in ids:
                known = merged.get(post_id)
                if known is None:
                    known = merged[post_id] = Candidate(*posts[post_id], probs[post_id])
                known.sources |= bit
        return list(merged.values())

    def run(self, number: int, made: list[Candidate] | None = None) -> tuple[list[Candidate], dict[str, int]]:
        alive = made if made is not None else self.make(number)
        sets = self._sets[number]
        drops: dict[str, int] = {}
        for name, keep in RULES:
            kept = keep(alive, sets)
            if len(kept) < len(alive):
                drops[name] = len(alive) - len(kept)
            alive = kept
        kept = self._one_of_each_content(alive)
        if len(kept) < len(alive):
            drops["same_content"] = len(alive) - len(kept)
        for candidate in kept:
            candidate.score = self._score(candidate)
        return self._page(kept), drops

    def _one_of_each_content(self, alive: list[Candidate]) -> list[Candidate]:
        best: dict[int, Candidate] = {}
        for candidate in alive:
            if candidate.content_id not in best or candidate.post_id == candidate.content_id:
                best[candidate.content_id] = candidate
        return [candidate for candidate in alive if best[candidate.content_id] is candidate]

    def _score(self, candidate: Candidate) -> float:
        probs = candidate.probs
        value = sum(probs[code] * weight for code, weight in self._weights)
        if candidate.duration_ms <= 10_000:
            value -= probs[Action.COMPLETE] * self._complete
        if candidate.is_mutual and candidate.kind == ORIGINAL:
            value += probs[Action.REPLY] * 15.0
        offset = value + 0.001 if value >= 0 else 0.001 * (value + self._negative) / self._total
        return offset * exp(-0.1 * (NOW_MS - candidate.created_ms) / HOUR_MS)

    def _page(self, kept: list[Candidate]) -> list[Candidate]:
        page: list[Candidate] = []
        taken: dict[int, int] = {}
        for candidate in sorted(kept, key=lambda x: (-x.score, x.post_id)):
            if taken.get(candidate.author_id, 0) < MAX_PER_AUTHOR:
                taken[candidate.author_id] = taken.get(candidate.author_id, 0) + 1
                page.append(candidate)
                if len(page) == LIMIT:
                    break
        return page


def is_equal(ours: PipelineResult, theirs: tuple[list[Candidate], dict[str, int]]) -> bool:
    """Whether both served the same page, from the same sources, at the same scores, with the same drops."""
    page, drops = theirs
    return (
        ours.slate[c.POST_ID].tolist() == [candidate.post_id for candidate in page]
        and ours.slate_sources()
        == [tuple(n for b, n in enumerate(("first", "second")) if x.sources >> b & 1) for x in page]
        and np.allclose(ours.slate[c.SCORE], [candidate.score for candidate in page], rtol=1e-4)
        and ours.n_dropped_by_name() == drops
        and not ours.report.outcomes
        and ours.candidates.n == N
    )


def main() -> None:
    world = a_world()
    requests = [a_request(world, seed) for seed in range(N_REQUESTS)]
    ours, per_object = Ours(world, requests), PerObject(world, requests)
    equal = all(is_equal(ours.run(i), per_object.run(i)) for i in range(N_REQUESTS))
    made = [per_object.make(i) for i in range(N_REQUESTS)]
    # A turn serves requests one after the other, as a busy server does; figures are per request.
    turn = [i for _ in range(N_REPEATS) for i in range(N_REQUESTS)]
    seconds = interleave(
        {
            "ours": lambda _: [ours.run(i) for i in turn],
            "per_object": lambda _: [per_object.run(i) for i in turn],
            "per_object_prebuilt": lambda _: [per_object.run(i, made[i]) for i in turn],
        },
        n_rounds=N_ROUNDS,
        n_warmup=3,
    )
    took_ms = {name: median_ms(values) / len(turn) for name, values in seconds.items()}
    report = ours.run(0).report
    emit(
        "pipeline",
        equal=equal,
        ratio={name: took_ms[name] / took_ms["ours"] for name in ("per_object", "per_object_prebuilt")},
        ours_ms=took_ms["ours"],
        ours_p99_ms=percentile_ms(seconds["ours"], 99) / len(turn),
        per_object_ms=took_ms["per_object"],
        n_candidates=N,
        n_filters=len(ours.pipeline.stages.filters),
        n_ranked=report.n_ranked,
        stage_ms=report.took_ms_by_stage(),
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
