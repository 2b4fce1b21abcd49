"""The streaming join, compiled: what `millrace.flywheel.join_reference` does, over rings and hash tables.

Every function takes `JoinTables` and changes them in place. Nothing grows in here: `hear_kernel` says what has no
room before it touches a record, and is called again once there is.

They count no references (``_nrt=False``): to pass all tables on would count one for every array, at every call, which
takes a third of the time. The entry holds them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_columns import DEED, LOOK, PAGE
from millrace.flywheel.join_rules import GRAIN_MS, PLAIN, delay_bucket, draw, kernel, longest_window_ms
from millrace.flywheel.join_stats import COUNTERS
from millrace.flywheel.join_tables import (
    NONE,
    JoinTables,
    add_group,
    chain_deed,
    chain_look,
    find_group,
    find_page,
    put_page,
    remove_group,
    remove_page,
    stop_waiting,
    wait,
)
from millrace.stores.dwell import IS_DWELL, IS_NOT_DWELLED, dwell_flags_kernel

DONE: Final = 0
NO_ROOM_FOR_PAGES: Final = 1
NO_ROOM_FOR_POSTS: Final = 2
NO_ROOM_FOR_LOOKS: Final = 3
NO_ROOM_FOR_DEEDS: Final = 4
NO_ROOM_FOR_GROUPS: Final = 5
NO_ROOM_FOR_OUT: Final = 6

_PAGES: Final = at.COUNTS + COUNTERS.index("pages")
_LOOKS: Final = at.COUNTS + COUNTERS.index("looks")
_DEEDS: Final = at.COUNTS + COUNTERS.index("deeds")
_OTHERS: Final = at.COUNTS + COUNTERS.index("others")
_PAGE_DUPLICATES: Final = at.COUNTS + COUNTERS.index("page_duplicates")
_LOOK_DUPLICATES: Final = at.COUNTS + COUNTERS.index("look_duplicates")
_DEED_DUPLICATES: Final = at.COUNTS + COUNTERS.index("deed_duplicates")
_LOOKS_OF_PAGES: Final = at.COUNTS + COUNTERS.index("looks_of_pages")
_LOOKS_JOINED: Final = at.COUNTS + COUNTERS.index("looks_joined")
_DEEDS_JOINED: Final = at.COUNTS + COUNTERS.index("deeds_joined")
_LATE_DEEDS: Final = at.COUNTS + COUNTERS.index("late_deeds")
_ROWS_OUT: Final = at.COUNTS + COUNTERS.index("rows_out")
_CORRECTIONS: Final = at.COUNTS + COUNTERS.index("corrections")
_SAMPLED_OUT: Final = at.COUNTS + COUNTERS.index("sampled_out")
_FOR_AGE: Final = at.COUNTS + COUNTERS.index("dropped_for_age")
_FOR_BOUNDS: Final = at.COUNTS + COUNTERS.index("dropped_for_bounds")

_DWELL: Final = 1 << int(Action.DWELL)
_NOT_DWELLED: Final = 1 << int(Action.NOT_DWELLED)
_COMPLETE: Final = 1 << int(Action.COMPLETE)

_FINE: Final = 0
_TOO_OLD: Final = 1
_OF_NO_PAGE: Final = 2
_GONE: Final = 3

_NEWS: Final = 8
"""Rows that a record may let out besides those of its own posts: what is dropped to make room."""


@kernel
def is_dead(t: JoinTables, time_ms: int) -> bool:
    """Whether nothing that has to do with a moment may still come."""
    return bool(time_ms + t.limits[at.LATE_MS] + t.limits[at.SLACK_MS] < t.numbers[at.WATERMARK])


@kernel
def labels_of(t: JoinTables, slot: int, number: int) -> int:
    """Return the actions that hold for a look, as bits."""
    look = t.looks[number & (len(t.looks) - 1)]
    seen = 0
    deed_number = t.groups[slot].first_deed
    while deed_number != NONE:
        deed = t.deeds[deed_number & (len(t.deeds) - 1)]
        if deed.look == number:
            word = deed.time_ms * 2 + deed.is_undo
            bit = 1 << deed.action
            if seen & bit == 0 or word > t.words[deed.action]:
                t.words[deed.action] = word
            seen |= bit
        deed_number = deed.next
    held = 0
    if seen != 0:
        for action in range(len(t.windows_ms)):
            if seen & (1 << action) != 0 and t.words[action] & 1 == 0:
                held |= 1 << action
        held &= ~t.limits[at.DERIVED_BITS]
    flags = dwell_flags_kernel(look.dwell_ms, look.dwell_ms, 0, t.thresholds)
    if flags & IS_DWELL:
        held |= _DWELL
    if flags & IS_NOT_DWELLED:
        held |= _NOT_DWELLED
    if look.is_complete:
        held |= _COMPLETE
    return held


@kernel
def let_out(t: JoinTables, slot: int, number: int) -> None:
    """Let a row out if it says something new; the caller has made sure of room."""
    look = t.looks[number & (len(t.looks) - 1)]
    if look.is_frozen:
        return
    held = labels_of(t, slot, number)
    if held & ~PLAIN != 0:
        look.was_positive = 1
    rate = 1.0 if look.was_positive else t.rates[at.NEGATIVE_RATE]
    dwell_ms = min(look.dwell_ms, t.thresholds[2])
    if (
        look.revision >= 0
        and look.told_labels == held
        and look.told_dwell_ms == dwell_ms
        and look.told_position == look.position
        and look.told_began_ms == look.began_ms
    ):
        return
    if rate < 1.0 and draw(look.request, look.post) >= rate:
        t.numbers[_SAMPLED_OUT] += 1
        return
    look.revision += 1
    look.told_labels = held
    look.told_dwell_ms = dwell_ms
    look.told_position = look.position
    look.told_began_ms = look.began_ms
    t.numbers[_CORRECTIONS if look.revision > 0 else _ROWS_OUT] += 1
    out = t.out[t.numbers[at.N_OUT]]
    t.numbers[at.N_OUT] += 1
    out.request = look.request
    out.viewer = look.viewer
    out.post = look.post
    out.page_offset = look.page_offset
    out.page_ms = look.page_ms
    out.labels = held
    out.dwell_ms = dwell_ms
    out.position = look.position
    out.looked_ms = look.began_ms
    out.rate = rate
    out.page_row = look.page_row
    out.revision = look.revision


@kernel
def tell(t: JoinTables, slot: int) -> None:
    """Let out what has changed of a group."""
    number = t.groups[slot].first_look
    while number != NONE:
        look = t.looks[number & (len(t.looks) - 1)]
        if look.is_out and look.page_row >= 0:
            let_out(t, slot, number)
        number = look.next


@kernel
def out_now(t: JoinTables, slot: int, number: int) -> None:
    """Let a waiting row out before its time."""
    look = t.looks[number & (len(t.looks) - 1)]
    if look.request == 0 or look.is_out:
        return
    look.is_out = 1
    stop_waiting(t, number)
    if look.page_row >= 0:
        let_out(t, slot, number)


@kernel
def place_one(t: JoinTables, slot: int, deed_number: int) -> None:
    """Find the look that an action belongs to."""
    deed = t.deeds[deed_number & (len(t.deeds) - 1)]
    if deed.look != NONE and deed.look < t.numbers[at.LOOK_HEAD]:
        return
    late_ms = t.limits[at.LATE_MS]
    found, found_began_ms, found_request, is_out = NONE, 0, 0, 0
    number = t.groups[slot].first_look
    while number != NONE:
        look = t.looks[number & (len(t.looks) - 1)]
        after_ms = deed.time_ms - look.began_ms
        if deed.request != 0 and look.request == deed.request and abs(after_ms) <= late_ms:
            found, found_began_ms, is_out = number, look.began_ms, look.is_out
            break
        if 0 <= after_ms <= late_ms and (
            found == NONE
            or look.began_ms > found_began_ms
            or (look.began_ms == found_began_ms and look.request > found_request)
        ):
            found, found_began_ms, found_request, is_out = number, look.began_ms, look.request, look.is_out
        number = look.next
    if found != NONE and deed.look == NONE:
        t.numbers[_DEEDS_JOINED] += 1
        t.numbers[_LATE_DEEDS] += is_out
        t.delays[deed.action, delay_bucket(deed.time_ms - found_began_ms)] += 1
    if found == NONE and deed.look != NONE:
        t.numbers[_DEEDS_JOINED] -= 1
    deed.look = found


@kernel
def place(t: JoinTables, slot: int) -> None:
    """Find the looks of all actions of a group anew."""
    number = t.groups[slot].first_deed
    while number != NONE:
        place_one(t, slot, number)
        number = t.deeds[number & (len(t.deeds) - 1)].next


@kernel
def drop_page(t: JoinTables) -> None:
    """Forget the oldest page."""
    page = t.pages[t.numbers[at.PAGE_HEAD] & (len(t.pages) - 1)]
    remove_page(t, page.viewer, page.request)
    t.numbers[at.POST_HEAD] = page.start + page.n_posts
    t.numbers[at.PAGE_HEAD] += 1


@kernel
def row_of(t: JoinTables, page_number: int, post: int) -> int:
    """Return the first row of a page that holds a post, `NONE` where none does."""
    page = t.pages[page_number & (len(t.pages) - 1)]
    mask = len(t.posts) - 1
    for row in range(page.n_posts):
        if t.posts[(page.start + row) & mask] == post:
            return row
    return NONE


@kernel
def drop_look(t: JoinTables, is_for_room: bool) -> None:  # noqa: FBT001 - kernels know no keywords
    """Forget the oldest look; it goes out first if it has not."""
    number = t.numbers[at.LOOK_HEAD]
    look = t.looks[number & (len(t.looks) - 1)]
    slot = find_group(t, look.viewer, look.post)
    out_now(t, slot, number)
    if is_for_room:
        t.numbers[_FOR_BOUNDS] += 1
        if look.page_row >= 0:
            page_number = find_page(t, look.viewer, look.request)
            if page_number != NONE:
                row = row_of(t, page_number, look.post)
                if row != NONE:
                    start = t.pages[page_number & (len(t.pages) - 1)].start
                    t.gone[(start + row) & (len(t.gone) - 1)] = 1
    group = t.groups[slot]
    group.first_look = look.next
    group.n_looks -= 1
    t.numbers[at.LOOK_HEAD] += 1
    if group.n_looks == 0 and group.n_deeds == 0:
        remove_group(t, slot)


@kernel
def drop_deed(t: JoinTables, is_for_room: bool) -> None:  # noqa: FBT001 - kernels know no keywords
    """Forget the oldest action."""
    deed = t.deeds[t.numbers[at.DEED_HEAD] & (len(t.deeds) - 1)]
    slot = find_group(t, deed.viewer, deed.post)
    if is_for_room:
        t.numbers[_FOR_BOUNDS] += 1
        if deed.look >= t.numbers[at.LOOK_HEAD]:
            out_now(t, slot, deed.look)
            t.looks[deed.look & (len(t.looks) - 1)].is_frozen = 1
    group = t.groups[slot]
    group.first_deed = deed.next
    group.n_deeds -= 1
    t.numbers[at.DEED_HEAD] += 1
    if group.n_looks == 0 and group.n_deeds == 0:
        remove_group(t, slot)


@kernel
def new_page(t: JoinTables, viewer: int, request: int, time_ms: int, offset: int) -> int:
    """Return the number of a new page, of no posts yet."""
    if t.numbers[at.PAGE_TAIL] - t.numbers[at.PAGE_HEAD] >= t.limits[at.MAX_PAGES]:
        drop_page(t)
        t.numbers[_FOR_BOUNDS] += 1
    number = t.numbers[at.PAGE_TAIL]
    page = t.pages[number & (len(t.pages) - 1)]
    page.request = request
    page.viewer = viewer
    page.time_ms = time_ms
    page.offset = offset
    page.start = t.numbers[at.POST_TAIL]
    page.n_posts = 0
    put_page(t, viewer, request, number)
    t.numbers[at.PAGE_TAIL] += 1
    return int(number)


@kernel
def attach(t: JoinTables, look_number: int, page_number: int, row: int) -> None:
    """Let a look be one at a row of a page."""
    look = t.looks[look_number & (len(t.looks) - 1)]
    page = t.pages[page_number & (len(t.pages) - 1)]
    look.page_offset = page.offset
    look.page_row = row
    look.page_ms = page.time_ms
    t.numbers[_LOOKS_JOINED] += 1


@kernel
def hear_page(t: JoinTables, offset: int, time_ms: int, viewer: int, request: int, posts: Int64Array) -> None:
    """Take in what was logged of a page."""
    if is_dead(t, time_ms) or request == 0:
        t.numbers[_FOR_AGE] += 1
        return
    if find_page(t, viewer, request) != NONE:
        t.numbers[_PAGE_DUPLICATES] += 1
        return
    t.numbers[_PAGES] += 1
    number = new_page(t, viewer, request, time_ms, offset)
    page = t.pages[number & (len(t.pages) - 1)]
    page.n_posts = len(posts)
    mask = len(t.posts) - 1
    for row in range(len(posts)):
        t.posts[(page.start + row) & mask] = posts[row]
        t.gone[(page.start + row) & mask] = 0
    t.numbers[at.POST_TAIL] += len(posts)
    # Looks that came before their page are found by their posts: a place kept for each page that a look names would be
    # one that made-up requests take away from pages.
    for row in range(len(posts)):
        slot = find_group(t, viewer, posts[row])
        if slot == NONE:
            continue
        look_number = look_of_request(t, slot, request)
        if look_number == NONE:
            continue
        look = t.looks[look_number & (len(t.looks) - 1)]
        if look.page_row < 0 and abs(look.began_ms - time_ms) <= t.limits[at.LATE_MS]:
            attach(t, look_number, number, row)
            tell(t, slot)


@kernel
def look_of_request(t: JoinTables, slot: int, request: int) -> int:
    """Return the look of a group that names a request, `NONE` where there is none."""
    number = t.groups[slot].first_look
    while number != NONE:
        look = t.looks[number & (len(t.looks) - 1)]
        if look.request == request:
            return int(number)
        number = look.next
    return NONE


@kernel
def look_begun_at(t: JoinTables, slot: int, began_ms: int) -> int:
    """Return the look of a group that names no request and began then, `NONE` where there is none."""
    number = t.groups[slot].first_look
    while number != NONE:
        look = t.looks[number & (len(t.looks) - 1)]
        if look.request == 0 and look.began_ms == began_ms:
            return int(number)
        number = look.next
    return NONE


@kernel
def merge(t: JoinTables, slot: int, number: int, began_ms: int, dwell_ms: int, position: int, is_complete: int) -> None:
    """Take in another look of one request at one post."""
    look = t.looks[number & (len(t.looks) - 1)]
    is_new = False
    if began_ms < look.began_ms:
        look.began_ms = began_ms
        is_new = True
    if dwell_ms > look.dwell_ms:
        look.dwell_ms = dwell_ms
        is_new = True
    if is_complete > look.is_complete:
        look.is_complete = is_complete
        is_new = True
    if position >= 0 and (look.position < 0 or position < look.position):
        look.position = position
        is_new = True
    if not is_new:
        t.numbers[_LOOK_DUPLICATES] += 1
        return
    place(t, slot)
    tell(t, slot)


@kernel
def find_row(t: JoinTables, viewer: int, request: int, post: int, began_ms: int) -> tuple[int, int, int]:
    """Return what a look is worth, the number of its page (`NONE`: not heard of) and its row (`NONE`: not there)."""
    number = find_page(t, viewer, request)
    if number == NONE:
        return _FINE, NONE, NONE
    page = t.pages[number & (len(t.pages) - 1)]
    if is_dead(t, page.time_ms):
        return _TOO_OLD, number, NONE
    if abs(began_ms - page.time_ms) > t.limits[at.LATE_MS]:
        return _OF_NO_PAGE, number, NONE
    row = row_of(t, number, post)
    if row != NONE and t.gone[(page.start + row) & (len(t.gone) - 1)]:
        return _GONE, number, row
    return _FINE, number, row


@kernel
def add_look(
    t: JoinTables, viewer: int, request: int, post: int, began_ms: int, dwell_ms: int, position: int, is_complete: int
) -> int:
    """Return the number of a new look, of no page yet and in no group."""
    number = t.numbers[at.LOOK_TAIL]
    look = t.looks[number & (len(t.looks) - 1)]
    look.request = request
    look.viewer = viewer
    look.post = post
    look.began_ms = began_ms
    look.dwell_ms = dwell_ms
    look.position = position
    look.due = (began_ms + t.numbers[at.WINDOW_MS]) // GRAIN_MS + 1
    look.page_ms = 0
    look.page_offset = NONE
    look.told_labels = 0
    look.told_dwell_ms = 0
    look.told_position = 0
    look.told_began_ms = 0
    look.page_row = NONE
    look.revision = -1
    look.is_complete = is_complete
    look.is_out = 0
    look.is_frozen = 0
    look.was_positive = 0
    t.numbers[at.LOOK_TAIL] += 1
    return int(number)


@kernel
def hear_look(  # noqa: C901 - one case after the other, each of them short
    t: JoinTables, viewer: int, request: int, post: int, time_ms: int, dwell_ms: int, position: int, is_complete: int
) -> None:
    """Take in an impression."""
    began_ms = time_ms - min(dwell_ms, t.thresholds[2])
    if is_dead(t, began_ms):
        t.numbers[_FOR_AGE] += 1
        return
    page_number, row = NONE, NONE
    if request != 0:
        fate, page_number, row = find_row(t, viewer, request, post, began_ms)
        if fate == _TOO_OLD:
            t.numbers[_FOR_AGE] += 1
            return
        if fate == _GONE:
            t.numbers[_FOR_BOUNDS] += 1
            return
        if fate == _OF_NO_PAGE:  # it only shows where actions belong
            request = 0
    slot = find_group(t, viewer, post)
    if slot != NONE:
        known = look_of_request(t, slot, request) if request != 0 else look_begun_at(t, slot, began_ms)
        if known != NONE:
            merge(t, slot, known, began_ms, dwell_ms, position, is_complete)
            return
        if t.groups[slot].n_looks >= t.limits[at.MAX_LOOKS_OF]:
            t.numbers[_FOR_BOUNDS] += 1
            return
    t.numbers[_LOOKS] += 1
    if t.numbers[at.LOOK_TAIL] - t.numbers[at.LOOK_HEAD] >= t.limits[at.MAX_LOOKS]:
        drop_look(t, True)
    number = add_look(t, viewer, request, post, began_ms, dwell_ms, position, is_complete)
    slot = add_group(t, viewer, post)
    chain_look(t, slot, number)
    if request != 0:
        t.numbers[_LOOKS_OF_PAGES] += 1
        if row != NONE:
            attach(t, number, page_number, row)
        look = t.looks[number & (len(t.looks) - 1)]
        if look.due <= t.numbers[at.CURSOR]:
            look.is_out = 1
        else:
            wait(t, number)
    place(t, slot)
    tell(t, slot)


@kernel
def hear_deed(t: JoinTables, viewer: int, request: int, post: int, time_ms: int, action: int, is_undo: int) -> None:
    """Take in an engagement."""
    if is_dead(t, time_ms):
        t.numbers[_FOR_AGE] += 1
        return
    slot = find_group(t, viewer, post)
    if slot != NONE:
        known = t.groups[slot].first_deed
        while known != NONE:
            deed = t.deeds[known & (len(t.deeds) - 1)]
            if (
                deed.time_ms == time_ms
                and deed.request == request
                and deed.action == action
                and deed.is_undo == is_undo
            ):
                t.numbers[_DEED_DUPLICATES] += 1
                return
            known = deed.next
        if t.groups[slot].n_deeds >= t.limits[at.MAX_DEEDS_ON]:
            t.numbers[_FOR_BOUNDS] += 1
            return
    t.numbers[_DEEDS] += 1
    if t.numbers[at.DEED_TAIL] - t.numbers[at.DEED_HEAD] >= t.limits[at.MAX_DEEDS]:
        drop_deed(t, True)
    number = t.numbers[at.DEED_TAIL]
    fresh = t.deeds[number & (len(t.deeds) - 1)]
    fresh.request = request
    fresh.viewer = viewer
    fresh.post = post
    fresh.time_ms = time_ms
    fresh.look = NONE
    fresh.action = action
    fresh.is_undo = is_undo
    t.numbers[at.DEED_TAIL] += 1
    slot = add_group(t, viewer, post)
    chain_deed(t, slot, number)
    place_one(t, slot, number)
    tell(t, slot)


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
def release(t: JoinTables) -> bool:
    """Let out what is due; False if there is no room for it, to be called again."""
    due = max(t.numbers[at.RELEASED] + 1, t.numbers[at.LEAST_DUE])
    while due <= t.numbers[at.CURSOR] and t.numbers[at.N_WAITING] > 0:
        number = t.wheel[due & (at.N_WHEEL - 1), 0]
        while number != NONE:
            if t.numbers[at.N_OUT] >= len(t.out):
                t.numbers[at.RELEASED] = due - 1
                return False
            look = t.looks[number & (len(t.looks) - 1)]
            after = look.wheel_next
            if look.due == due:
                stop_waiting(t, number)
                look.is_out = 1
                if look.page_row >= 0:
                    let_out(t, find_group(t, look.viewer, look.post), number)
            number = after
        due += 1
    t.numbers[at.RELEASED] = t.numbers[at.CURSOR]
    return True


@kernel
def forget(t: JoinTables) -> bool:
    """Forget what is too old; False if there is no room for what goes out before."""
    while t.numbers[at.PAGE_HEAD] < t.numbers[at.PAGE_TAIL]:
        page = t.pages[t.numbers[at.PAGE_HEAD] & (len(t.pages) - 1)]
        if not is_dead(t, page.time_ms):
            break
        drop_page(t)
    while t.numbers[at.LOOK_HEAD] < t.numbers[at.LOOK_TAIL]:
        look = t.looks[t.numbers[at.LOOK_HEAD] & (len(t.looks) - 1)]
        if not is_dead(t, max(look.began_ms, look.page_ms)):
            break
        if t.numbers[at.N_OUT] >= len(t.out):
            return False
        drop_look(t, False)
    while t.numbers[at.DEED_HEAD] < t.numbers[at.DEED_TAIL]:
        deed = t.deeds[t.numbers[at.DEED_HEAD] & (len(t.deeds) - 1)]
        if not is_dead(t, deed.time_ms) or deed.look >= t.numbers[at.LOOK_HEAD]:
            break
        drop_deed(t, False)
    return True


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
            t.numbers[_OTHERS] += 1
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
