"""Forgetting, of the compiled join: what falls due goes out, what is too old is let go, the oldest makes room.

Rings are emptied from the oldest record on. A look goes out before it is let go, if it has not; what is dropped for
room and not for its age is counted as such.
"""

from __future__ import annotations

from millrace.base.kernels import kernel
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_index import find_group, find_page, remove_group, remove_page, stop_waiting
from millrace.flywheel.join_labelling import let_out, out_now
from millrace.flywheel.join_tables import NONE, JoinTables


@kernel
def is_dead(t: JoinTables, time_ms: int) -> bool:
    """Whether nothing that has to do with a moment may still come."""
    return bool(time_ms + t.limits[at.LATE_MS] + t.limits[at.SLACK_MS] < t.numbers[at.WATERMARK])


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
def drop_page(t: JoinTables) -> None:
    """Forget the oldest page."""
    page = t.pages[t.numbers[at.PAGE_HEAD] & (len(t.pages) - 1)]
    remove_page(t, page.viewer, page.request)
    t.numbers[at.POST_HEAD] = page.start + page.n_posts
    t.numbers[at.PAGE_HEAD] += 1


@kernel
def drop_look(t: JoinTables, is_for_room: bool) -> None:  # noqa: FBT001 - kernels know no keywords
    """Forget the oldest look; it goes out first if it has not."""
    number = t.numbers[at.LOOK_HEAD]
    look = t.looks[number & (len(t.looks) - 1)]
    slot = find_group(t, look.viewer, look.post)
    out_now(t, slot, number)
    if is_for_room:
        t.numbers[at.DROPPED_FOR_BOUNDS] += 1
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
        t.numbers[at.DROPPED_FOR_BOUNDS] += 1
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
