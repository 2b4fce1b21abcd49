"""What the compiled join holds: rings of records in the order in which they came, and hash tables over them.

Records of a ring are named by a number that only grows; the record is at that number modulo the ring's size. How one is
found by whom it is of: `millrace.flywheel.join_index`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_parts import OUT, JoinShape
from millrace.flywheel.join_rules import BUCKET_ENDS_MS, N_DELAYS
from millrace.flywheel.join_stats import COUNTERS

RecordArray = npt.NDArray[Any]

LOOK_RECORD: Final = np.dtype(
    [
        ("request", "i8"),
        ("viewer", "i8"),
        ("post", "i8"),
        ("began_ms", "i8"),
        ("dwell_ms", "i8"),
        ("position", "i8"),
        ("due", "i8"),
        ("page_ms", "i8"),
        ("page_offset", "i8"),
        ("told_labels", "i8"),
        ("told_dwell_ms", "i8"),
        ("told_position", "i8"),
        ("told_began_ms", "i8"),
        ("next", "i8"),
        ("wheel_next", "i8"),
        ("wheel_prev", "i8"),
        ("page_row", "i4"),
        ("revision", "i4"),
        ("is_complete", "u1"),
        ("is_out", "u1"),
        ("is_frozen", "u1"),
        ("was_positive", "u1"),
        ("unused", "u4"),
    ]
)
DEED_RECORD: Final = np.dtype(
    [
        ("request", "i8"),
        ("viewer", "i8"),
        ("post", "i8"),
        ("time_ms", "i8"),
        ("look", "i8"),
        ("next", "i8"),
        ("action", "i4"),
        ("is_undo", "i4"),
    ]
)
PAGE_RECORD: Final = np.dtype(
    [
        ("request", "i8"),
        ("viewer", "i8"),
        ("time_ms", "i8"),
        ("offset", "i8"),
        ("start", "i8"),
        ("n_posts", "i8"),
    ]
)
GROUP_RECORD: Final = np.dtype(
    [
        ("viewer", "i8"),
        ("post", "i8"),
        ("first_look", "i8"),
        ("last_look", "i8"),
        ("first_deed", "i8"),
        ("last_deed", "i8"),
        ("n_looks", "i4"),
        ("n_deeds", "i4"),
    ]
)

NONE: Final = -1

N_WHEEL: Final = 1 << 13
"""Slots of the timing wheel, a second each; who is due a lap later stays in it (Varghese, Lauck 1987, scheme 6)."""

# Places in `JoinTables.numbers`.
FEATURES_MS: Final = 0
WATERMARK: Final = 1
NEWEST_MS: Final = 2
CURSOR: Final = 3
WINDOW_MS: Final = 4
RELEASED: Final = 5
LEAST_DUE: Final = 6
IS_PENDING: Final = 7
PAGE_HEAD: Final = 8
PAGE_TAIL: Final = 9
LOOK_HEAD: Final = 10
LOOK_TAIL: Final = 11
DEED_HEAD: Final = 12
DEED_TAIL: Final = 13
POST_HEAD: Final = 14
POST_TAIL: Final = 15
N_GROUPS: Final = 16
N_WAITING: Final = 17
N_OUT: Final = 18
COUNTS: Final = 19
N_NUMBERS: Final = COUNTS + len(COUNTERS)

# Places of the counters in `JoinTables.numbers`.
PAGES: Final = COUNTS + COUNTERS.index("pages")
LOOKS: Final = COUNTS + COUNTERS.index("looks")
DEEDS: Final = COUNTS + COUNTERS.index("deeds")
OTHERS: Final = COUNTS + COUNTERS.index("others")
PAGE_DUPLICATES: Final = COUNTS + COUNTERS.index("page_duplicates")
LOOK_DUPLICATES: Final = COUNTS + COUNTERS.index("look_duplicates")
DEED_DUPLICATES: Final = COUNTS + COUNTERS.index("deed_duplicates")
LOOKS_OF_PAGES: Final = COUNTS + COUNTERS.index("looks_of_pages")
LOOKS_JOINED: Final = COUNTS + COUNTERS.index("looks_joined")
DEEDS_JOINED: Final = COUNTS + COUNTERS.index("deeds_joined")
LATE_DEEDS: Final = COUNTS + COUNTERS.index("late_deeds")
ROWS_OUT: Final = COUNTS + COUNTERS.index("rows_out")
CORRECTIONS: Final = COUNTS + COUNTERS.index("corrections")
SAMPLED_OUT: Final = COUNTS + COUNTERS.index("sampled_out")
DROPPED_FOR_AGE: Final = COUNTS + COUNTERS.index("dropped_for_age")
DROPPED_FOR_BOUNDS: Final = COUNTS + COUNTERS.index("dropped_for_bounds")

# Places in `JoinTables.limits`.
LATE_MS: Final = 0
ORDER_MS: Final = 1
SLACK_MS: Final = 2
MAX_PAGES: Final = 3
MAX_LOOKS: Final = 4
MAX_DEEDS: Final = 5
MAX_LOOKS_OF: Final = 6
MAX_DEEDS_ON: Final = 7
DERIVED_BITS: Final = 8
IS_DYNAMIC: Final = 9
MIN_DELAYS: Final = 10
MIN_MS: Final = 11
MAX_MS: Final = 12

# Places in `JoinTables.rates`.
NEGATIVE_RATE: Final = 0
QUANTILE: Final = 1


class JoinTables(NamedTuple):
    """All state of the compiled join; arrays are changed in place, and replaced by larger ones from outside."""

    looks: RecordArray
    deeds: RecordArray
    pages: RecordArray
    page_table: Int64Array
    posts: Int64Array
    gone: npt.NDArray[np.uint8]
    groups: RecordArray
    wheel: Int64Array
    numbers: Int64Array
    label_witnesses: Int64Array
    other_witnesses: Int64Array
    delays: Int64Array
    out: RecordArray
    words: Int64Array
    limits: Int64Array
    rates: npt.NDArray[np.float64]
    thresholds: Int64Array
    windows_ms: Int64Array
    delay_ends_ms: Int64Array


def new_tables(shape: JoinShape, config: JoinConfig, n_out: int) -> JoinTables:
    """Return tables that hold nothing, small ones."""
    numbers = np.zeros(N_NUMBERS, dtype=np.int64)
    numbers[[CURSOR, RELEASED]] = -1
    numbers[WINDOW_MS] = shape.windows_ms.max()
    limits = [
        config.late_ms,
        config.out_of_order_ms,
        shape.slack_ms,
        config.max_pages,
        config.max_looks,
        config.max_deeds,
        config.max_looks_of_post,
        config.max_deeds_on_post,
        shape.derived,
        int(config.windows == "dynamic"),
        config.min_delays,
        config.min_window_ms,
        config.max_window_ms,
    ]
    return JoinTables(
        looks=np.zeros(64, dtype=LOOK_RECORD),
        deeds=np.zeros(64, dtype=DEED_RECORD),
        pages=np.zeros(64, dtype=PAGE_RECORD),
        page_table=np.zeros(128, dtype=np.int64),
        posts=np.zeros(256, dtype=np.int64),
        gone=np.zeros(256, dtype=np.uint8),
        groups=np.zeros(128, dtype=GROUP_RECORD),
        wheel=np.full((N_WHEEL, 2), NONE, dtype=np.int64),
        numbers=numbers,
        label_witnesses=np.zeros(config.n_witnesses, dtype=np.int64),
        other_witnesses=np.zeros(config.n_witnesses, dtype=np.int64),
        delays=np.zeros((shape.n_actions, N_DELAYS), dtype=np.int64),
        out=np.zeros(n_out, dtype=OUT),
        words=np.zeros(64, dtype=np.int64),
        limits=np.array(limits, dtype=np.int64),
        rates=np.array([config.negative_rate, config.delay_quantile], dtype=np.float64),
        thresholds=shape.thresholds,
        windows_ms=shape.windows_ms,
        delay_ends_ms=BUCKET_ENDS_MS,
    )


def copy_ring(source: npt.NDArray[Any], target: npt.NDArray[Any], head: int, tail: int) -> None:
    """Copy the records of one ring to their places in another, whatever their sizes (powers of two)."""
    least = min(len(source), len(target))
    rows = [np.ascontiguousarray(ring).view(np.uint8).reshape(len(ring), -1) for ring in (source, target)]
    number = head
    while number < tail:
        n = min(least - (number & (least - 1)), tail - number)
        at, to = number & (len(source) - 1), number & (len(target) - 1)
        rows[1][to : to + n] = rows[0][at : at + n]
        number += n
