"""`SlabLists` and `RowTable` against lists and dicts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from millrace.stores.row_table import RowTable, rows_drop, rows_fit, rows_take
from millrace.stores.slab_lists import (
    Slab,
    SlabLists,
    slab_clear,
    slab_find,
    slab_fits,
    slab_insert,
    slab_remove,
    slab_shrink,
)

INSERT, REMOVE, SHRINK, CLEAR = range(4)
steps = st.lists(
    st.tuples(
        st.sampled_from((INSERT, INSERT, INSERT, INSERT, REMOVE, SHRINK, CLEAR)),
        st.integers(0, 3),
        st.floats(0, 1),
        st.integers(1, 9),
    ),
    max_size=120,
)


@njit(cache=True)
def _step(slab: Slab, change: int, row: int, k: int, value: int) -> bool:
    """Do one step; return False where there is no room."""
    if change == INSERT:
        if not slab_fits(slab, row, 1):
            return False
        slot = slab_insert(slab, row, k)
        slab.words[slot, 0] = value
        slab.words[slot, 1] = -value
    elif change == REMOVE:
        slab_remove(slab, row, k)
    elif change == SHRINK:
        slab_shrink(slab, row)
    else:
        slab_clear(slab, row)
    return True


@settings(max_examples=80, deadline=None)
@given(steps)
def test_lists_are_what_python_lists_would_be_and_leave_no_rest(history: list[tuple[int, int, float, int]]) -> None:
    lists, model = SlabLists(2, n_rows=4, capacity=8), [[] for _ in range(4)]
    for change, row, where, value in history:
        k = int(where * len(model[row]))
        if change == REMOVE:
            if not model[row]:
                continue
            k = min(k, len(model[row]) - 1)
            model[row].pop(k)
        elif change == INSERT:
            model[row].insert(k, value)
        elif change == CLEAR:
            model[row].clear()
        if not _step(lists.slab, change, row, k, value):
            lists.grow()
            assert _step(lists.slab, change, row, k, value)
    for row in range(4):
        assert lists.read(row).tolist() == [[value, -value] for value in model[row]]
        wanted = model[row].index(5) if 5 in model[row] else -1
        assert slab_find(lists.slab, row, 5) == wanted
    assert lists.counts().tolist() == [len(values) for values in model]
    # Beyond the records, only the chains of free blocks (in the first word) are left.
    assert np.count_nonzero(lists.slab.words[:, 1]) == sum(map(len, model))


def test_freed_blocks_are_used_again() -> None:
    lists = SlabLists(2, n_rows=4, capacity=8)
    for _ in range(50):
        for value in range(4):
            assert _step(lists.slab, INSERT, 0, 0, value)
        assert _step(lists.slab, CLEAR, 0, 0, 0)
    assert len(lists.slab.words) == 8


def test_a_list_that_became_short_gives_room_back() -> None:
    lists = SlabLists(2, n_rows=1, capacity=256)
    for value in range(64):
        assert _step(lists.slab, INSERT, 0, value, value)
    for _ in range(60):
        assert _step(lists.slab, REMOVE, 0, 0, 0)
    assert _step(lists.slab, SHRINK, 0, 0, 0)
    assert lists.slab.rows[0, 1] < 6
    assert lists.read(0)[:, 0].tolist() == [60, 61, 62, 63]


keys = st.lists(st.tuples(st.sampled_from((True, True, False)), st.integers(1, 12)), max_size=150)


@settings(max_examples=80, deadline=None)
@given(keys)
def test_rows_are_handed_out_again_and_found_by_their_keys(history: list[tuple[bool, int]]) -> None:
    table, model = RowTable(4), {}
    for is_new, key in history:
        if is_new and key not in model:
            if not rows_fit(table.rows, 1):
                table.grow()
            model[key] = int(rows_take(table.rows, np.int64(key)))
        elif not is_new and key in model:
            rows_drop(table.rows, model.pop(key))
    assert len(table) == len(model)
    assert len(set(model.values())) == len(model)
    wanted = np.arange(1, 13)
    assert table.find(wanted).tolist() == [model.get(key, -1) for key in wanted.tolist()]
    assert all(table.row(key) == row and table.rows.keys_by_row[row] == key for key, row in model.items())
    assert table.n_used <= 12
