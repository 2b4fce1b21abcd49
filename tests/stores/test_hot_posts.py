import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.stores.hot_posts import HeatArrays, heat_change, heat_remove

N_ROWS = 12


def a_heap(size: int) -> HeatArrays:
    return HeatArrays(
        heat=np.zeros(N_ROWS),
        place=np.zeros(N_ROWS, dtype=np.int32),
        is_warm=np.zeros(N_ROWS, dtype=np.int8),
        heap=np.zeros(size, dtype=np.int32),
        n=np.zeros(1, dtype=np.int64),
    )


changes = st.lists(st.tuples(st.integers(0, N_ROWS - 1), st.integers(-3, 3), st.sampled_from("aaaur")), max_size=60)


@settings(max_examples=60, deadline=None)
@given(changes=changes, size=st.sampled_from((4, N_ROWS)))
def test_the_heap_stays_a_heap_and_sums_stay_sums(changes: list[tuple[int, int, str]], size: int) -> None:
    hot = a_heap(size)
    given_by_row: dict[int, list[int]] = {row: [] for row in range(N_ROWS)}
    for row, exponent, what in changes:
        given = given_by_row[row]
        if what == "r":
            heat_remove(hot, row)
            given.clear()
        elif what == "u" and exponent in given:
            heat_change(hot, row, float(exponent), True)
            given.remove(exponent)
        elif what == "a":
            heat_change(hot, row, float(exponent), False)
            given.append(exponent)
        n = int(hot.n[0])
        members = hot.heap[:n].tolist()
        assert len(set(members)) == n
        assert {row for row in range(N_ROWS) if hot.place[row]} == set(members)
        for place in range(n):
            assert hot.place[members[place]] == place + 1
            assert hot.heat[members[(place - 1) // 2 if place else 0]] <= hot.heat[members[place]]
    for row, given in given_by_row.items():
        assert bool(hot.is_warm[row]) == bool(given)
        if given:
            assert math.isclose(hot.heat[row], math.log2(sum(2.0**x for x in given)), abs_tol=1e-6)
    if size == N_ROWS:
        assert set(hot.heap[: int(hot.n[0])].tolist()) == {row for row, given in given_by_row.items() if given}


def test_a_hotter_row_takes_the_place_of_the_coolest() -> None:
    hot = a_heap(2)
    for row, exponent in ((0, 1.0), (1, 5.0), (2, 3.0), (3, 0.0)):
        heat_change(hot, row, exponent, False)
    assert sorted(hot.heap.tolist()) == [1, 2]
