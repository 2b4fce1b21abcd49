"""Labelling, of the compiled join: which look an action belongs to, which labels hold for it, and what that lets out.

Nothing here adds or removes a record: it says again, of one viewer and one post, what `millrace.flywheel.join_hearing`
has heard. What goes out is a row of `JoinTables.out`, for which the caller has made sure of room.
"""

from __future__ import annotations

from typing import Final

from millrace.base.actions import Action
from millrace.base.kernels import kernel
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_index import stop_waiting
from millrace.flywheel.join_rules import PLAIN, delay_bucket, draw
from millrace.flywheel.join_tables import NONE, JoinTables
from millrace.stores.dwell import IS_DWELL, IS_NOT_DWELLED, dwell_flags_kernel

_DWELL: Final = 1 << int(Action.DWELL)
_NOT_DWELLED: Final = 1 << int(Action.NOT_DWELLED)
_COMPLETE: Final = 1 << int(Action.COMPLETE)


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
        t.numbers[at.DEEDS_JOINED] += 1
        t.numbers[at.LATE_DEEDS] += is_out
        t.delays[deed.action, delay_bucket(deed.time_ms - found_began_ms)] += 1
    if found == NONE and deed.look != NONE:
        t.numbers[at.DEEDS_JOINED] -= 1
    deed.look = found


@kernel
def place(t: JoinTables, slot: int) -> None:
    """Find the looks of all actions of a group anew."""
    number = t.groups[slot].first_deed
    while number != NONE:
        place_one(t, slot, number)
        number = t.deeds[number & (len(t.deeds) - 1)].next


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
        t.numbers[at.SAMPLED_OUT] += 1
        return
    look.revision += 1
    look.told_labels = held
    look.told_dwell_ms = dwell_ms
    look.told_position = look.position
    look.told_began_ms = look.began_ms
    t.numbers[at.CORRECTIONS if look.revision > 0 else at.ROWS_OUT] += 1
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
