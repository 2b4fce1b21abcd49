"""What a model saw, as it is logged: `ViewerInputs` and `CandidateInputs` to the arrays of an event, and back.

Inputs come back byte for byte. Predictions are kept to three digits (`to_bits`): a page is an eighth smaller, and no
metric or teacher needs more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.events.feature_events import AUTHORS, CONTENTS, HISTORY, POSTS, WHOLE, InputsLogged
from millrace.events.packed import PackedArrays, unpack_arrays
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.viewers import ViewerInputs

Float32Array = npt.NDArray[np.float32]
UInt16Array = npt.NDArray[np.uint16]

SERVED: Final = 0
RANKED: Final = 1
CUT: Final = 2
"""How far a candidate came: on the page; ranked, and not on it; cut by a pre-ranker."""

_HALF: Final = np.uint32(0x8000)


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """Candidates of an event, n rows.

    Attributes
    ----------
    post_ids
        Shape (n,), int64: what was on the page, a repost as itself.
    inputs
        What models read of them.
    predictions
        Shape (n, n_actions), float32: P(action) of whoever predicted; NaN for those that a pre-ranker cut.
    baseline
        Shape (n, n_actions): what the counters-based ranker predicted, where a model did; None where it did itself.
    scores
        Shape (n,), float32: what they were sorted by in the end; NaN for those that a pre-ranker cut.
    propensities
        Shape (n,), float32: the probability with which the row is here, given that its request is.
    stages
        Shape (n,), uint8: `SERVED`, `RANKED` or `CUT`.
    deep
        Shape (n, n_actions): what the learned ranker itself predicted, where the near-line layer changed that; None
        where ``predictions`` are its own.
    """

    post_ids: Int64Array
    inputs: CandidateInputs
    predictions: Float32Array
    baseline: Float32Array | None
    scores: Float32Array
    propensities: Float32Array
    stages: npt.NDArray[np.uint8]
    deep: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.post_ids)

    def take(self, rows: npt.NDArray[np.intp]) -> LoggedRows:
        """Return some of the rows."""
        return LoggedRows(
            self.post_ids[rows],
            self.inputs.take(rows),
            self.predictions[rows],
            None if self.baseline is None else self.baseline[rows],
            self.scores[rows],
            self.propensities[rows],
            self.stages[rows],
            None if self.deep is None else self.deep[rows],
        )


@dataclass(frozen=True, slots=True)
class LoggedInputs:
    """An event's arrays, read: the viewer and the candidates."""

    viewer: ViewerInputs
    rows: LoggedRows


def viewer_arrays(viewer: ViewerInputs) -> PackedArrays:
    """Return a viewer's inputs as arrays of an event."""
    history = viewer.history
    return {
        HISTORY + POSTS: history.post_ids,
        HISTORY + AUTHORS: history.author_ids,
        HISTORY + "actions": history.actions,
        HISTORY + "dense": history.dense,
        HISTORY + "surfaces": history.surfaces,
        WHOLE + "newest_ms": np.array([history.newest_ms], dtype=np.int64),
        WHOLE + "languages": viewer.languages,
        WHOLE + "bio": viewer.bio,
        WHOLE + "dense": viewer.dense,
    }


def row_arrays(rows: LoggedRows) -> PackedArrays:
    """Return candidates as arrays of an event; what says nothing is left out."""
    arrays: PackedArrays = {
        POSTS: rows.post_ids,
        CONTENTS: rows.inputs.post_ids,
        AUTHORS: rows.inputs.author_ids,
        "languages": rows.inputs.languages,
        "dense": rows.inputs.dense,
        "predictions": to_bits(rows.predictions),
        "scores": rows.scores,
    }
    if rows.baseline is not None:
        arrays["baseline"] = to_bits(rows.baseline)
    if rows.deep is not None:
        arrays["deep"] = to_bits(rows.deep)
    if (rows.propensities != 1.0).any():
        arrays["propensities"] = rows.propensities
    if (rows.stages != SERVED).any():
        arrays["stages"] = rows.stages
    return arrays


def read_inputs(payload: InputsLogged, viewer_id: int, schema: str) -> LoggedInputs:
    """Return what an event holds.

    Parameters
    ----------
    payload
        The event.
    viewer_id
        Inside id of its viewer.
    schema
        The hash that the reader expects.

    Raises
    ------
    SchemaError
        If the inputs mean something else than the reader's, or the arrays are damaged.
    """
    if payload.schema != schema:
        raise SchemaError(
            "logged features",
            value=payload.schema,
            problem=f"are other features than this version's {schema}",
            remedy="leave the page out, or replay the log (millrace.app.sampling)",
        )
    arrays = unpack_arrays(payload.arrays)
    try:
        return LoggedInputs(_viewer(arrays, viewer_id), _rows(arrays))
    except KeyError as error:
        raise SchemaError(
            "logged features", value=payload.request_id, problem=f"lack {error}", remedy="leave the page out"
        ) from error


def _viewer(arrays: PackedArrays, viewer_id: int) -> ViewerInputs:
    history = HistoryTokens(
        post_ids=arrays[HISTORY + POSTS],
        author_ids=arrays[HISTORY + AUTHORS],
        actions=arrays[HISTORY + "actions"],
        dense=arrays[HISTORY + "dense"],
        surfaces=arrays[HISTORY + "surfaces"],
        newest_ms=int(arrays[WHOLE + "newest_ms"][0]),
    )
    whole = {name: arrays[WHOLE + name] for name in ("languages", "bio", "dense")}
    return ViewerInputs(viewer_id, history, **whole)


def _rows(arrays: PackedArrays) -> LoggedRows:
    n = len(arrays[POSTS])
    inputs = CandidateInputs(arrays[CONTENTS], arrays[AUTHORS], arrays["languages"], arrays["dense"])
    ones: Any = np.ones(n, dtype=np.float32)
    return LoggedRows(
        post_ids=arrays[POSTS],
        inputs=inputs,
        predictions=from_bits(arrays["predictions"]),
        baseline=from_bits(arrays["baseline"]) if "baseline" in arrays else None,
        scores=arrays["scores"],
        propensities=arrays.get("propensities", ones),
        stages=arrays.get("stages", np.full(n, SERVED, dtype=np.uint8)),
        deep=from_bits(arrays["deep"]) if "deep" in arrays else None,
    )


def to_bits(values: Float32Array) -> UInt16Array:
    """Return the upper halves of float32 numbers, rounded: within 0.4 % at any size; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    halves: UInt16Array = ((bits + _HALF) >> np.uint32(16)).astype(np.uint16)
    halves[np.isnan(values)] = 0x7FC0
    return halves


def from_bits(halves: UInt16Array) -> Float32Array:
    """Return the numbers of `to_bits`, float32."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
