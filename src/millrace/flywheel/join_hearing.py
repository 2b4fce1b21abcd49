"""Hearing, of the compiled join: a page, a look or an action is taken into the rings, unless it is too old or known.

Each begins with what refuses it, counted by its reason, and ends with what it changes of labels that are out already
(`millrace.flywheel.join_labelling`). Rings, groups and `JoinTables.out` have room: the caller has made sure.
"""

from __future__ import annotations

from typing import Final

from millrace.base.ids import Int64Array
from millrace.base.kernels import kernel
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_forgetting import drop_deed, drop_look, drop_page, is_dead, row_of
from millrace.flywheel.join_index import add_group, chain_deed, chain_look, find_group, find_page, put_page, wait
from millrace.flywheel.join_labelling import place, place_one, tell
from millrace.flywheel.join_rules import GRAIN_MS
from millrace.flywheel.join_tables import NONE, JoinTables

# What a look is worth (`find_row`).
_FINE: Final = 0
_TOO_OLD: Final = 1
_OF_NO_PAGE: Final = 2
_GONE: Final = 3


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
def new_page(t: JoinTables, viewer: int, request: int, time_ms: int, offset: int) -> int:
    """Return the number of a new page, of no posts yet."""
    if t.numbers[at.PAGE_TAIL] - t.numbers[at.PAGE_HEAD] >= t.limits[at.MAX_PAGES]:
        drop_page(t)
        t.numbers[at.DROPPED_FOR_BOUNDS] += 1
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
    t.numbers[at.LOOKS_JOINED] += 1


@kernel
def hear_page(t: JoinTables, offset: int, time_ms: int, viewer: int, request: int, posts: Int64Array) -> None:
    """Take in what was logged of a page."""
    if is_dead(t, time_ms) or request == 0:
        t.numbers[at.DROPPED_FOR_AGE] += 1
        return
    if find_page(t, viewer, request) != NONE:
        t.numbers[at.PAGE_DUPLICATES] += 1
        return
    t.numbers[at.PAGES] += 1
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
        t.numbers[at.LOOK_DUPLICATES] += 1
        return
    place(t, slot)
    tell(t, slot)


@kernel
def hear_look(  # noqa: C901 - one case after the other, each of them short
    t: JoinTables, viewer: int, request: int, post: int, time_ms: int, dwell_ms: int, position: int, is_complete: int
) -> None:
    """Take in an impression."""
    began_ms = time_ms - min(dwell_ms, t.thresholds[2])
    if is_dead(t, began_ms):
        t.numbers[at.DROPPED_FOR_AGE] += 1
        return
    page_number, row = NONE, NONE
    if request != 0:
        fate, page_number, row = find_row(t, viewer, request, post, began_ms)
        if fate == _TOO_OLD:
            t.numbers[at.DROPPED_FOR_AGE] += 1
            return
        if fate == _GONE:
            t.numbers[at.DROPPED_FOR_BOUNDS] += 1
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
            t.numbers[at.DROPPED_FOR_BOUNDS] += 1
            return
    t.numbers[at.LOOKS] += 1
    if t.numbers[at.LOOK_TAIL] - t.numbers[at.LOOK_HEAD] >= t.limits[at.MAX_LOOKS]:
        drop_look(t, True)
    number = add_look(t, viewer, request, post, began_ms, dwell_ms, position, is_complete)
    slot = add_group(t, viewer, post)
    chain_look(t, slot, number)
    if request != 0:
        t.numbers[at.LOOKS_OF_PAGES] += 1
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
        t.numbers[at.DROPPED_FOR_AGE] += 1
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
                t.numbers[at.DEED_DUPLICATES] += 1
                return
            known = deed.next
        if t.groups[slot].n_deeds >= t.limits[at.MAX_DEEDS_ON]:
            t.numbers[at.DROPPED_FOR_BOUNDS] += 1
            return
    t.numbers[at.DEEDS] += 1
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
