"""The streaming join, compiled: what `millrace.flywheel.join_reference` does, over rings and hash tables.

Here is the way in: records are heard one by one (`millrace.flywheel.join_hearing`), and after each the watermark
follows, and what is due goes out and what is old is let go (`millrace.flywheel.join_forgetting`). What goes out, and
with which labels, is said in `millrace.flywheel.join_labelling`.

Every function of the four files takes `JoinTables` and changes them in place. Nothing grows in here: `hear_kernel` says
what has no room before it touches a record, and is called again once there is.

They count no references (`millrace.base.kernels.kernel`): to pass all tables on would count one for every array, at
every call, which takes a third of the time. The entry holds them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import kernel, njit
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_columns import DEED, LOOK, PAGE
from millrace.flywheel.join_forgetting import forget, release
from millrace.flywheel.join_hearing import hear_deed, hear_look, hear_page
from millrace.flywheel.join_rules import GRAIN_MS, longest_window_ms
from millrace.flywheel.join_tables import JoinTables

DONE: Final = 0
NO_ROOM_FOR_PAGES: Final = 1
NO_ROOM_FOR_POSTS: Final = 2
NO_ROOM_FOR_LOOKS: Final = 3
NO_ROOM_FOR_DEEDS: Final = 4
NO_ROOM_FOR_GROUPS: Final = 5
NO_ROOM_FOR_OUT: Final = 6

_NEWS: Final = 8
"""Rows that a record may let out besides those of its own posts: what is dropped to make room."""


@kernel
def no_room(t: JoinTables, kind: int, n_posts: int) -> int:
    """Return what must grow before a record is heard, or `DONE`."""
    if kind != PAGE and kind != LOOK and kind != DEED:
        return DONE
    if len(t.out) - t.numbers[at.N_OUT] < t.limits[at.MAX_LOOKS_OF] + n_posts + _NEWS:
        return NO_ROOM_FOR_OUT
    if kind == PAGE and t.numbers[at.PAGE_TAIL] - t.numbers[at.PAGE_HEAD] >= len(t.pages):
        return NO_ROOM_FOR_PAGES
    if t.numbers[at.POST_TAIL] - t.numbers[at.POST_HEAD] + n_posts > len(t.posts):
        return NO_ROOM_FOR_POSTS
    n_looks = t.numbers[at.LOOK_TAIL] - t.numbers[at.LOOK_HEAD]
    if kind == LOOK and len(t.looks) <= n_looks < t.limits[at.MAX_LOOKS]:
        return NO_ROOM_FOR_LOOKS
    n_deeds = t.numbers[at.DEED_TAIL] - t.numbers[at.DEED_HEAD]
    if kind == DEED and len(t.deeds) <= n_deeds < t.limits[at.MAX_DEEDS]:
        return NO_ROOM_FOR_DEEDS
    if kind != PAGE and 2 * (t.numbers[at.N_GROUPS] + 1) > len(t.groups):
        return NO_ROOM_FOR_GROUPS
    return DONE


@kernel
def witness(witnesses: Int64Array, time_ms: int) -> None:
    """Keep the largest times, ascending."""
    if time_ms > witnesses[0]:
        slot, last = 0, len(witnesses) - 1
        while slot < last and witnesses[slot + 1] < time_ms:
            witnesses[slot] = witnesses[slot + 1]
            slot += 1
        witnesses[slot] = time_ms


@kernel
def advance(t: JoinTables) -> None:
    """Let the watermark follow the newest times."""
    others_ms = t.other_witnesses[0]
    features_ms = max(t.numbers[at.FEATURES_MS], others_ms)
    labels_ms = max(t.label_witnesses[0], others_ms)
    t.numbers[at.NEWEST_MS] = max(t.numbers[at.NEWEST_MS], features_ms, labels_ms)
    reached_ms = min(features_ms, labels_ms) - t.limits[at.ORDER_MS]
    if reached_ms > t.numbers[at.WATERMARK]:
        t.numbers[at.WATERMARK] = reached_ms
    cursor = t.numbers[at.WATERMARK] // GRAIN_MS
    if cursor > t.numbers[at.CURSOR]:
        t.numbers[at.CURSOR] = cursor
        t.numbers[at.IS_PENDING] = 1


@kernel
def settle(t: JoinTables) -> bool:
    """Do what the watermark's last step asks for; False if there is no room for what goes out."""
    if t.numbers[at.IS_PENDING] == 0:
        return True
    if not release(t) or not forget(t):
        return False
    if t.limits[at.IS_DYNAMIC]:
        t.numbers[at.WINDOW_MS] = longest_window_ms(
            t.windows_ms,
            t.delays,
            t.delay_ends_ms,
            t.rates[at.QUANTILE],
            t.limits[at.MIN_DELAYS],
            t.limits[at.MIN_MS],
            t.limits[at.MAX_MS],
        )
    t.numbers[at.IS_PENDING] = 0
    return True


@kernel
def hear_rows(
    t: JoinTables,
    kinds: npt.NDArray[np.uint8],
    offsets: Int64Array,
    times_ms: Int64Array,
    viewers: Int64Array,
    requests: Int64Array,
    posts: Int64Array,
    dwells_ms: Int64Array,
    positions: Int64Array,
    codes: npt.NDArray[np.int32],
    flags: npt.NDArray[np.uint8],
    page_starts: Int64Array,
    page_posts: Int64Array,
    row: int,
    page: int,
) -> tuple[int, int, int]:
    """Do what `hear_kernel` does."""
    if not settle(t):
        return row, page, NO_ROOM_FOR_OUT
    while row < len(kinds):
        kind, time_ms = kinds[row], times_ms[row]
        n_posts = page_starts[page + 1] - page_starts[page] if kind == PAGE else 0
        code = no_room(t, kind, n_posts)
        if code != DONE:
            return row, page, code
        if kind == PAGE:
            t.numbers[at.FEATURES_MS] = max(t.numbers[at.FEATURES_MS], time_ms)
            hear_page(
                t,
                offsets[row],
                time_ms,
                viewers[row],
                requests[row],
                page_posts[page_starts[page] : page_starts[page + 1]],
            )
            page += 1
        elif kind == LOOK:
            witness(t.label_witnesses, time_ms)
            hear_look(t, viewers[row], requests[row], posts[row], time_ms, dwells_ms[row], positions[row], flags[row])
        elif kind == DEED:
            witness(t.label_witnesses, time_ms)
            hear_deed(t, viewers[row], requests[row], posts[row], time_ms, codes[row], flags[row])
        else:
            witness(t.other_witnesses, time_ms)
            t.numbers[at.OTHERS] += 1
        row += 1
        advance(t)
        if not settle(t):
            return row, page, NO_ROOM_FOR_OUT
    return row, page, DONE


@njit(cache=True)
def hear_kernel(
    t: JoinTables,
    kinds: npt.NDArray[np.uint8],
    offsets: Int64Array,
    times_ms: Int64Array,
    viewers: Int64Array,
    requests: Int64Array,
    posts: Int64Array,
    dwells_ms: Int64Array,
    positions: Int64Array,
    codes: npt.NDArray[np.int32],
    flags: npt.NDArray[np.uint8],
    page_starts: Int64Array,
    page_posts: Int64Array,
    row: int,
    page: int,
) -> tuple[int, int, int]:
    """Hear records from a row on; return the next row, the next page, and why it stopped there (`DONE`: all heard)."""
    found: tuple[int, int, int] = hear_rows(
        t,
        kinds,
        offsets,
        times_ms,
        viewers,
        requests,
        posts,
        dwells_ms,
        positions,
        codes,
        flags,
        page_starts,
        page_posts,
        row,
        page,
    )
    return found
