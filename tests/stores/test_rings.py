import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.stores.rings import make_room, ring_find_pair, ring_push, rings_have_room
from millrace.stores.slab_lists import SlabLists


@settings(max_examples=50, deadline=None)
@given(pushes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1_000)), max_size=120), max_len=st.integers(1, 20))
def test_rings_keep_the_newest(pushes: list[tuple[int, int]], max_len: int) -> None:
    rings = SlabLists(2, n_rows=4, capacity=64)
    model: dict[int, list[int]] = {row: [] for row in range(4)}
    for row, value in pushes:
        make_room(rings, max_len)
        slot = ring_push(rings.slab, row, max_len)
        rings.slab.words[slot] = (value, value << 8 | 5)
        model[row] = [*model[row], value][-max_len:]
    for row, values in model.items():
        assert rings.read(row)[:, 0].tolist() == values
        if values:
            newest = len(values) - 1 - values[::-1].index(values[0])
            assert ring_find_pair(rings.slab, row, values[0], 5) == newest
            assert ring_find_pair(rings.slab, row, values[0], 6) == -1
    assert rings_have_room(rings.slab, 1) in (True, False)
    assert np.count_nonzero(rings.slab.rows[:, 3]) == sum(1 for values in model.values() if values)
