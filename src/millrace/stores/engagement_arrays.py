"""The arrays of the engagement store, as its kernels take them, and the operations that change them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.stores.decayed_rows import DecayedArrays, Float32Array, Float64Array
from millrace.stores.hot_posts import HeatArrays
from millrace.stores.marks import MarkArrays
from millrace.stores.slab_lists import Slab

OP_CREATE: Final = 0
OP_ANNOTATE: Final = 1
OP_ENGAGE: Final = 2
OP_IMPRESS: Final = 3
OP_OBSERVE: Final = 4
OP_DELETE: Final = 5
OP_ERASE: Final = 6

KIND: Final = 0
POST: Final = 1
USER: Final = 2
AT_MS: Final = 3
X: Final = 4
Y: Final = 5
SURFACE: Final = 6
N_OP_FIELDS: Final = 7

DWELL_SHIFT: Final = 8
SURFACE_SHIFT: Final = 40
"""The last word of a history's record: the action in the lowest byte, then 32 bits of dwell, then the surface."""

IS_DELETED: Final = 1

IMPRESSION_MARK: Final = 255
"""Stands for an impression in the keys of marks; no action has this code, however many are declared."""

ENGAGERS: Final = 0
ENGAGED: Final = 1
HISTORIES: Final = 2

TOP: Final = 0
FREE: Final = 1
CURSOR: Final = 2


class PostArrays(NamedTuple):
    """One row per post that was created, annotated or acted on.

    ``keys``, ``values`` and ``n_keys`` are the table from id to row; ``stat`` and ``observed`` are rows plus 1 in the
    statistics and in the observed totals, 0 for none; ``credit`` is the number of the present credit
    (`millrace.stores.credits`). ``n`` is (rows ever used, first free row plus 1, next row to look at for expiry);
    free rows are chained through ``stat``.
    """

    keys: Int64Array
    values: Int32Array
    n_keys: Int64Array
    post_id: Int64Array
    author_id: Int64Array
    last_ms: Int64Array
    topics: Int32Array
    stat: Int32Array
    observed: Int32Array
    flags: npt.NDArray[np.uint8]
    credit: npt.NDArray[np.uint8]
    n: Int64Array


class RowArrays(NamedTuple):
    """A table from id to dense rows, and the id of each row: users, authors."""

    keys: Int64Array
    values: Int32Array
    n_keys: Int64Array
    ids: Int64Array


class StatArrays(NamedTuple):
    """Which post each row of statistics belongs to; free rows are chained through it. ``n``: (top, free + 1)."""

    post_row: Int32Array
    n: Int64Array


class ObservedArrays(NamedTuple):
    """Totals known from elsewhere, shape (n_rows, n_columns); ``chain`` links free rows; ``n``: (top, free + 1)."""

    totals: Float32Array
    chain: Int32Array
    n: Int64Array


class FoldSettings(NamedTuple):
    """What configuration decides.

    Attributes
    ----------
    heat_rate_per_ms
        1 / half-life of heat, shape (1,).
    log2_heat
        Shape (n_columns,), float64: log2 of each action's weight in heat; -inf for none.
    is_indexed
        Shape (n_columns,), bool: which actions the engagement index keeps.
    dwell
        `DwellThresholds.as_array`.
    max_len
        Shape (3,), int64: records per ring of ENGAGERS, ENGAGED, HISTORIES.
    """

    heat_rate_per_ms: Float64Array
    log2_heat: Float64Array
    is_indexed: npt.NDArray[np.bool_]
    dwell: Int64Array
    max_len: Int64Array


class EngagementArrays(NamedTuple):
    """The whole state."""

    posts: PostArrays
    users: RowArrays
    authors: RowArrays
    stats: StatArrays
    observed: ObservedArrays
    heat: HeatArrays
    marks: MarkArrays
    post_counts: DecayedArrays
    author_counts: DecayedArrays
    topic_counts: DecayedArrays
    engagers: Slab
    engaged: Slab
    histories: Slab
    credits: Slab
    settings: FoldSettings
