"""`Trace`: everything that explains one request, as one compact record: a small head, and arrays as they are.

Packing happens for every request, so it copies arrays and decides nothing; words are found when somebody asks
(`millrace.mixer.explain`). Heads with a weight of 0 are left out. Predictions are kept as the ranker gave them for
the page and the best `N_EXACT` others; for the rest in sixteen bits (2.4e-4 at worst), which answers call
approximate. Values, steps and scores are exact for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.errors import GoneError
from millrace.base.ids import Int64Array
from millrace.base.params import ParamValue
from millrace.features.columns import ACTION_PROBS, OFFSET_VALUE, SCORE, VALUE
from millrace.features.query_fields import VIEWER
from millrace.mixer.home_models import versions_of
from millrace.mixer.near_line_shifts import near_line_shifts
from millrace.mixer.trace_codes import from_codes, to_codes
from millrace.mixer.value_model.steps import Operation, steps_of
from millrace.mixer.value_model.weighted_sum import WeightedSum
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.column import PROVENANCE, Column, IntArray
from millrace.pipeline.merge import first_appearances
from millrace.pipeline.outcome import ComponentReport, Outcome
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import Filter

N_EXACT: Final = 150
FORMAT_VERSION: Final = 1

AnyArray = npt.NDArray[Any]

_SCORES: Final = (VALUE, OFFSET_VALUE, SCORE)
_SHIFTS: Final = ("calibration_shifts", "fast_shifts")
_LENGTH_BYTES: Final = 4


class ArrayPlace(msgspec.Struct, frozen=True, array_like=True):
    """One array of a record; a shape of ``()`` is one value that holds for all rows."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class TraceHead(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What of a trace is no array.

    Attributes
    ----------
    viewer_id
        The viewer's outside id.
    params, param_levels
        The params that differed from their defaults, and who decided.
    sources, drops
        Names of the provenance bits, and of the codes of who dropped a candidate.
    n_found
        Per source that answered: its name and how many posts it returned.
    heads
        The heads that weigh something, with their weights.
    steps
        What happened to the offset value, in order.
    models
        Versions of the models that the page was made with, by kind; records of before they were kept have none.
    """

    version: int
    request_id: str
    viewer_id: str
    now_ms: int
    pipeline: str
    limit: int
    state_offset: tuple[int, ...]
    params: dict[str, ParamValue]
    param_levels: dict[str, str]
    total_ms: float
    n_refills: int
    components: tuple[ComponentReport, ...]
    outcomes: tuple[Outcome, ...]
    sources: tuple[str, ...]
    drops: tuple[str, ...]
    n_found: tuple[tuple[str, int], ...]
    heads: tuple[tuple[str, float], ...]
    steps: tuple[tuple[str, Operation], ...]
    arrays: tuple[ArrayPlace, ...] = ()
    models: dict[str, str] = {}  # last, and with a default: older records end before it


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(TraceHead)


def viewer_mark(viewer_id: str) -> bytes:
    """Return the bytes that records of a viewer's pages hold, and no others'; what erasure looks for.

    In a record the viewer is followed by the time: eight bytes, of which the first three are the same until 2039.
    """
    return _ENCODER.encode(viewer_id) + b"\xcf\x00\x00\x01"


class TracePacker:
    """Makes traces of one pipeline's results.

    Parameters
    ----------
    pipeline
        What is to be kept is read off its stages.
    action_names
        Names of the heads, in order.
    """

    def __init__(self, pipeline: Pipeline, action_names: Sequence[str]) -> None:
        stages = pipeline.stages
        self._names = tuple(action_names)
        self._sum = next((ranker for ranker in stages.rankers if isinstance(ranker, WeightedSum)), None)
        self._steps = steps_of(stages.rankers)
        written = dict.fromkeys(column for stage in stages.re_rankers for column in stage.writes)
        self._re_ranked = tuple(c for c in written if isinstance(c, Column) and not c.shape and c not in _SCORES)
        filters = {stage.name: stage for stage in (*stages.filters, *stages.late_filters)}
        self._judged = tuple(
            (code, column)
            for code, name in enumerate(pipeline.drop_names)
            if name in filters
            for column in explaining_columns(filters[name])
        )

    def pack(self, result: PipelineResult) -> bytes:
        """Return the record of a finished request."""
        query, report = result.query, result.report
        arrays = self._candidates(result)
        heads = self._ranked(result, arrays)
        places, parts = [], []
        for name, array in arrays.items():
            places.append(ArrayPlace(name, array.dtype.str, array.shape))
            parts.append(array.tobytes())
        head = TraceHead(
            version=FORMAT_VERSION,
            request_id=query.request_id,
            viewer_id=query[VIEWER],
            now_ms=query.now_ms,
            pipeline=report.pipeline,
            limit=query.limit,
            state_offset=query.state_offset,
            params=dict(query.params.values),
            param_levels=dict(query.params.level_by_name),
            total_ms=report.total_ms,
            n_refills=report.n_refills,
            components=report.components,
            outcomes=report.outcomes,
            sources=result.source_names,
            drops=result.drop_names,
            n_found=tuple((name, len(keys)) for name, keys in result.retrieved),
            heads=heads,
            steps=tuple((step.name, step.kind) for step in self._steps),
            arrays=tuple(places),
            models=dict(versions_of(query)),
        )
        encoded = _ENCODER.encode(head)
        return b"".join((len(encoded).to_bytes(_LENGTH_BYTES, "little"), encoded, *parts))

    def _candidates(self, result: PipelineResult) -> dict[str, AnyArray]:
        candidates = result.candidates
        keys = candidates[result.key]
        arrays: dict[str, AnyArray] = {"keys": keys}
        arrays["provenance"] = _narrow(candidates[PROVENANCE], 1 << len(result.source_names))
        arrays["dropped_by"] = _narrow(result.dropped_by, len(result.drop_names))
        found = [returned for _, returned in result.retrieved if len(returned)]
        # Candidates stand in the order of their first appearance, so their places among those are their rows.
        places = first_appearances(np.concatenate(found))[1] if found else np.empty(0, dtype=np.int64)
        arrays["found_rows"] = _narrow(places, candidates.n)
        for code, column in self._judged:
            if column in candidates:
                arrays[_judged(code, column.name)] = candidates[column][result.dropped_by == code]
        return arrays

    def _ranked(self, result: PipelineResult, arrays: dict[str, AnyArray]) -> tuple[tuple[str, float], ...]:
        """Add the arrays of the ranked rows; return the heads that weigh something."""
        ranked, n_candidates = result.ranked, result.candidates.n
        arrays["ranked_rows"] = _narrow(result.ranked_rows, n_candidates)
        arrays["page_rows"] = _narrow(result.slate_rows, n_candidates)
        for column in (*_SCORES, *self._re_ranked):
            if column in ranked:
                arrays[column.name] = ranked[column]
        for number, step in enumerate(self._steps):
            arrays[f"step.{number}"] = _whole(ranked[step.column])
        if self._sum is None or ACTION_PROBS not in ranked:
            return ()
        weights = self._sum.weights.read(result.query.params)
        exceptions = self._sum.exceptions(result.query, ranked)
        columns = np.union1d(np.flatnonzero(weights), np.array([e.head for e in exceptions], dtype=np.intp))
        for head, weight, holds in exceptions:
            arrays[_other_weight(self._names[head])] = np.array([weight])
            arrays[_other_rows(self._names[head])] = np.packbits(holds)
        exact = self._exact_rows(result)
        is_exact = np.zeros(ranked.n, dtype=np.bool_)
        is_exact[exact] = True
        exact, rest = np.flatnonzero(is_exact), np.flatnonzero(~is_exact)
        probs = ranked[ACTION_PROBS]
        arrays["exact_rows"] = _narrow(exact, ranked.n)
        arrays["exact_probs"] = probs.take(exact, axis=0).take(columns, axis=1)
        arrays["rest_probs"], arrays["rest_bases"] = to_codes(probs, rest, columns)
        for name, shifts in zip(_SHIFTS, near_line_shifts(ranked), strict=True):
            some = shifts.take(exact, axis=0).take(columns, axis=1)
            if some.any():
                arrays[name] = some
        return tuple((self._names[column], float(weights[column])) for column in columns.tolist())

    def _exact_rows(self, result: PipelineResult) -> IntArray:
        """Return rows of ``ranked``: the page and the best others, some of them twice."""
        ranked = result.ranked
        scores, best = ranked[SCORE], np.arange(ranked.n)
        if ranked.n > N_EXACT:
            best = np.flatnonzero(scores >= np.partition(scores, -N_EXACT)[-N_EXACT])[: 2 * N_EXACT]
        row_of = np.zeros(result.candidates.n, dtype=np.intp)
        row_of[result.ranked_rows] = np.arange(ranked.n)
        return np.concatenate((best, row_of[result.slate_rows]))


class Trace:
    """A trace as it was packed: the head and the arrays, mapped over the record.

    Parameters
    ----------
    record
        What `TracePacker.pack` returned.

    Raises
    ------
    GoneError
        If the record was written by another version.

    Attributes
    ----------
    keys, provenance, dropped_by
        Of all candidates, shape (n,).
    ranked_rows, page_rows
        Rows of those that were ranked, and of the page in its order.
    """

    def __init__(self, record: bytes) -> None:
        start = _LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "little")
        try:
            self.head: TraceHead = _DECODER.decode(record[_LENGTH_BYTES:start])
        except msgspec.DecodeError as error:
            raise _foreign(str(error)) from error
        if self.head.version != FORMAT_VERSION:
            raise _foreign(f"format {self.head.version}")
        self._arrays: dict[str, AnyArray] = {}
        for place in self.head.arrays:
            dtype, n = np.dtype(place.dtype), int(np.prod(place.shape, dtype=np.int64))
            array = np.frombuffer(record, dtype, n, start).reshape(place.shape)
            self._arrays[place.name] = array
            start += array.nbytes
        self.keys: Int64Array = self["keys"]
        self.provenance = self["provenance"]
        self.dropped_by = self["dropped_by"]
        self.ranked_rows = self["ranked_rows"].astype(np.intp)
        self.page_rows = self["page_rows"].astype(np.intp)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> AnyArray:
        return self._arrays[name]

    def row_of(self, key: int) -> int:
        """Return a candidate's row, -1 if no source returned it."""
        return _first(self.keys == key)

    def ranked_row(self, row: int) -> int:
        """Return a candidate's row among the ranked, -1 if it is none of them."""
        return _first(self.ranked_rows == row)

    def found_by(self, row: int) -> list[tuple[str, int]]:
        """Return each source that returned a candidate, with the candidate's place in its list, 1 for the first."""
        found, start = [], 0
        for name, n_found in self.head.n_found:
            place = _first(self["found_rows"][start : start + n_found] == row)
            if place >= 0:
                found.append((name, place + 1))
            start += n_found
        return found

    def predictions(self, ranked_row: int) -> tuple[Float32Array, bool]:
        """Return a ranked candidate's predictions in the order of ``head.heads``, and whether they are exact."""
        place = _first(self["exact_rows"] == ranked_row)
        if place >= 0:
            return self["exact_probs"][place], True
        place = ranked_row - int(np.count_nonzero(self["exact_rows"] < ranked_row))
        return from_codes(self["rest_probs"][place], self["rest_bases"]), False

    def shifts(self, ranked_row: int) -> tuple[Float32Array, Float32Array]:
        """Return what near-line calibration and the fast layer added to the log-odds of a ranked candidate's heads.

        Each of the shape of ``head.heads``; zeros where they did nothing, or the predictions are not exact.
        """
        place = _first(self["exact_rows"] == ranked_row)
        nothing = np.zeros(len(self.head.heads), dtype=np.float32)
        calibration, fast = (self[name][place] if place >= 0 and name in self else nothing for name in _SHIFTS)
        return calibration, fast

    def weight(self, head: str, weight: float, ranked_row: int) -> float:
        """Return the weight that a head had for a ranked candidate: ``weight``, or what it weighs by exception."""
        if _other_rows(head) in self and np.unpackbits(self[_other_rows(head)])[ranked_row]:
            return float(self[_other_weight(head)][0])
        return weight

    def amount(self, step: int, ranked_row: int) -> float:
        """Return what a step did to a ranked candidate."""
        amounts = self[f"step.{step}"]
        return float(amounts[ranked_row] if amounts.shape else amounts)

    def judged(self, row: int) -> Mapping[str, AnyArray]:
        """Return what is kept of a dropped candidate for its filter to explain: column name to one value."""
        code = int(self.dropped_by[row])
        place = int(np.count_nonzero(self.dropped_by[:row] == code))
        prefix = _judged(code, "")
        return {
            name.removeprefix(prefix): array[place : place + 1]
            for name, array in self._arrays.items()
            if name.startswith(prefix)
        }


def explaining_columns(stage: Filter) -> tuple[Column[Any], ...]:
    """Return the columns that a filter's `Filter.explain` needs, if it has one that reads nothing but plain columns."""
    if type(stage).explain is Filter.explain:
        return ()
    columns = tuple(column for column in stage.reads if isinstance(column, Column) and not column.shape)
    return columns if len(columns) == len(stage.reads) else ()


def _judged(code: int, column: str) -> str:
    return f"judged.{code}.{column}"


def _other_weight(head: str) -> str:
    return f"other_weight.{head}"


def _other_rows(head: str) -> str:
    return f"other_rows.{head}"


def _narrow(array: AnyArray, n: int) -> AnyArray:
    """Return whole numbers below ``n`` in the narrowest type that holds them."""
    narrow = np.uint8 if n <= 1 << 8 else np.uint16 if n <= 1 << 16 else np.uint32
    return array.astype(narrow)


def _whole(array: AnyArray) -> AnyArray:
    """Return a column, or its one value where all rows have the same."""
    return array[0].reshape(()) if len(array) and (array == array[0]).all() else array


def _first(is_it: npt.NDArray[np.bool_]) -> int:
    row = int(np.argmax(is_it)) if len(is_it) else -1
    return row if row >= 0 and is_it[row] else -1


def _foreign(problem: str) -> GoneError:
    return GoneError("trace", problem=f"cannot be read ({problem})", remedy="ask for a newer request")
