"""How the compiled join finds its records: the table of pages, groups with their chains, and the timing wheel.

What one viewer saw and did of one post is a *group*: a chain of looks and one of deeds, each in the order of the ring,
so that the oldest of a ring is always the first of its chain. Tables are open addressing with linear probing; a removal
shifts back what follows (Knuth, TAOCP 3, 6.4, algorithm R), so that there are no tombstones.
"""

from __future__ import annotations

from millrace.base.kernels import kernel, njit
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_rules import mix
from millrace.flywheel.join_tables import N_WHEEL, NONE, JoinTables, RecordArray


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
    for number in range(t.numbers[at.PAGE_HEAD], t.numbers[at.PAGE_TAIL]):
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
    t.numbers[at.N_GROUPS] += 1
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
    t.numbers[at.N_GROUPS] -= 1


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
    for number in range(t.numbers[at.LOOK_HEAD], t.numbers[at.LOOK_TAIL]):
        look = t.looks[number & (len(t.looks) - 1)]
        chain_look(t, add_group(t, look.viewer, look.post), number)
        if look.request != 0 and look.is_out == 0:
            wait(t, number)
    for number in range(t.numbers[at.DEED_HEAD], t.numbers[at.DEED_TAIL]):
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
    if t.numbers[at.N_WAITING] == 0 or look.due < t.numbers[at.LEAST_DUE]:
        t.numbers[at.LEAST_DUE] = look.due
    t.numbers[at.N_WAITING] += 1


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
    t.numbers[at.N_WAITING] -= 1
