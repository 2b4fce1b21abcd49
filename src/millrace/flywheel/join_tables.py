"""What the compiled join holds: rings of records in the order in which they came, and hash tables over them.

Records of a ring are named by a number that only grows; the record is at that number modulo the ring's size. What one
viewer saw and did of one post is a *group*: a chain of looks and one of deeds, each in the order of the ring, so that
the oldest of a ring is always the first of its chain. Tables are open addressing with linear probing; a removal shifts
back what follows (Knuth, TAOCP 3, 6.4, algorithm R), so that there are no tombstones.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_parts import OUT, JoinShape
from millrace.flywheel.join_rules import BUCKET_ENDS_MS, N_DELAYS, kernel, mix
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


@kernel
def find_page(t: JoinTables, viewer: int, request: int) -> int:
    """Return the number of a page, `NONE` where there is none."""
    mask = len(t.page_table) - 1
    slot = mix(viewer, request) & mask
    while t.page_table[slot] != 0:
        number = t.page_table[slot] - 1
        page = t.pages[number & (len(t.pages) - 1)]
        if page.request == request and page.viewer == viewer:
            return int(number)
        slot = (slot + 1) & mask
    return NONE


@kernel
def put_page(t: JoinTables, viewer: int, request: int, number: int) -> None:
    """Let the table name a page by its number, be it new there or known under another."""
    mask = len(t.page_table) - 1
    slot = mix(viewer, request) & mask
    while t.page_table[slot] != 0:
        page = t.pages[(t.page_table[slot] - 1) & (len(t.pages) - 1)]
        if page.request == request and page.viewer == viewer:
            break
        slot = (slot + 1) & mask
    t.page_table[slot] = number + 1


@kernel
def remove_page(t: JoinTables, viewer: int, request: int) -> None:
    """Take a page that is there out of the table."""
    mask = len(t.page_table) - 1
    slot = mix(viewer, request) & mask
    while True:
        page = t.pages[(t.page_table[slot] - 1) & (len(t.pages) - 1)]
        if page.request == request and page.viewer == viewer:
            break
        slot = (slot + 1) & mask
    after = (slot + 1) & mask
    while t.page_table[after] != 0:
        page = t.pages[(t.page_table[after] - 1) & (len(t.pages) - 1)]
        home = mix(page.viewer, page.request) & mask
        if ((after - home) & mask) >= ((after - slot) & mask):
            t.page_table[slot] = t.page_table[after]
            slot = after
        after = (after + 1) & mask
    t.page_table[slot] = 0


@njit(cache=True)
def fill_page_table(t: JoinTables) -> None:
    """Name all pages of the ring in an empty table."""
    for number in range(t.numbers[PAGE_HEAD], t.numbers[PAGE_TAIL]):
        page = t.pages[number & (len(t.pages) - 1)]
        put_page(t, page.viewer, page.request, number)


@kernel
def find_group(t: JoinTables, viewer: int, post: int) -> int:
    """Return the slot of a group, `NONE` where there is none."""
    mask = len(t.groups) - 1
    slot = mix(viewer, post) & mask
    while True:
        group = t.groups[slot]
        if group.n_looks == 0 and group.n_deeds == 0:
            return NONE
        if group.viewer == viewer and group.post == post:
            return slot
        slot = (slot + 1) & mask


@kernel
def add_group(t: JoinTables, viewer: int, post: int) -> int:
    """Return the slot of a group, made where there is none; a made one is empty until something is added to it."""
    mask = len(t.groups) - 1
    slot = mix(viewer, post) & mask
    while True:
        group = t.groups[slot]
        if group.n_looks == 0 and group.n_deeds == 0:
            break
        if group.viewer == viewer and group.post == post:
            return slot
        slot = (slot + 1) & mask
    group.viewer = viewer
    group.post = post
    group.first_look = NONE
    group.last_look = NONE
    group.first_deed = NONE
    group.last_deed = NONE
    t.numbers[N_GROUPS] += 1
    return slot


@kernel
def remove_group(t: JoinTables, slot: int) -> None:
    """Take a group out in which nothing is left."""
    mask = len(t.groups) - 1
    after = (slot + 1) & mask
    while True:
        group = t.groups[after]
        if group.n_looks == 0 and group.n_deeds == 0:
            break
        home = mix(group.viewer, group.post) & mask
        if ((after - home) & mask) >= ((after - slot) & mask):
            t.groups[slot] = t.groups[after]
            slot = after
        after = (after + 1) & mask
    hole = t.groups[slot]
    hole.n_looks = 0
    hole.n_deeds = 0
    t.numbers[N_GROUPS] -= 1


@kernel
def chain_look(t: JoinTables, slot: int, number: int) -> None:
    """Add a look at the end of its group."""
    group = t.groups[slot]
    t.looks[number & (len(t.looks) - 1)].next = NONE
    if group.n_looks == 0:
        group.first_look = number
    else:
        t.looks[group.last_look & (len(t.looks) - 1)].next = number
    group.last_look = number
    group.n_looks += 1


@kernel
def chain_deed(t: JoinTables, slot: int, number: int) -> None:
    """Add a deed at the end of its group."""
    group = t.groups[slot]
    t.deeds[number & (len(t.deeds) - 1)].next = NONE
    if group.n_deeds == 0:
        group.first_deed = number
    else:
        t.deeds[group.last_deed & (len(t.deeds) - 1)].next = number
    group.last_deed = number
    group.n_deeds += 1


@njit(cache=True)
def regroup(t: JoinTables) -> None:
    """Chain all looks and deeds of the rings anew, in empty groups, and put what waits on the empty wheel."""
    for number in range(t.numbers[LOOK_HEAD], t.numbers[LOOK_TAIL]):
        look = t.looks[number & (len(t.looks) - 1)]
        chain_look(t, add_group(t, look.viewer, look.post), number)
        if look.request != 0 and look.is_out == 0:
            wait(t, number)
    for number in range(t.numbers[DEED_HEAD], t.numbers[DEED_TAIL]):
        deed = t.deeds[number & (len(t.deeds) - 1)]
        chain_deed(t, add_group(t, deed.viewer, deed.post), number)


@njit(cache=True)
def move_groups(t: JoinTables, old: RecordArray) -> None:
    """Take over the groups of a smaller table into an empty one."""
    mask = len(t.groups) - 1
    for row in range(len(old)):
        group = old[row]
        if group.n_looks == 0 and group.n_deeds == 0:
            continue
        slot = mix(group.viewer, group.post) & mask
        while t.groups[slot].n_looks != 0 or t.groups[slot].n_deeds != 0:
            slot = (slot + 1) & mask
        t.groups[slot] = group


@kernel
def wait(t: JoinTables, number: int) -> None:
    """Put a look on the wheel, last of those that are due at the same time."""
    mask = len(t.looks) - 1
    look = t.looks[number & mask]
    slot = look.due & (N_WHEEL - 1)
    last = t.wheel[slot, 1]
    look.wheel_prev = last
    look.wheel_next = NONE
    if last == NONE:
        t.wheel[slot, 0] = number
    else:
        t.looks[last & mask].wheel_next = number
    t.wheel[slot, 1] = number
    if t.numbers[N_WAITING] == 0 or look.due < t.numbers[LEAST_DUE]:
        t.numbers[LEAST_DUE] = look.due
    t.numbers[N_WAITING] += 1


@kernel
def stop_waiting(t: JoinTables, number: int) -> None:
    """Take a look off the wheel."""
    mask = len(t.looks) - 1
    look = t.looks[number & mask]
    slot = look.due & (N_WHEEL - 1)
    if look.wheel_prev == NONE:
        t.wheel[slot, 0] = look.wheel_next
    else:
        t.looks[look.wheel_prev & mask].wheel_next = look.wheel_next
    if look.wheel_next == NONE:
        t.wheel[slot, 1] = look.wheel_prev
    else:
        t.looks[look.wheel_next & mask].wheel_prev = look.wheel_prev
    t.numbers[N_WAITING] -= 1
