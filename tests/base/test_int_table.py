"""The hash table behaves like a dict, whatever is put in and taken out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.int_table import MISSING, IntTable

# Few distinct keys, many of one home slot: long runs, wrap-around and backward shifts all happen.
keys = st.one_of(st.integers(1, 12), st.integers(-(2**63), 2**63 - 1)).filter(bool)
steps = st.lists(st.tuples(st.booleans(), keys, st.integers(0, 2**31 - 1)), max_size=80)


@given(steps)
@settings(max_examples=50, deadline=None)
def test_it_is_a_dict(done: list[tuple[bool, int, int]]) -> None:
    table, model = IntTable(2), {}
    for is_put, key, value in done:
        if is_put:
            assert table.put(key, value) == (key not in model)
            model[key] = value
        else:
            assert table.remove(key) == (model.pop(key, None) is not None)
        assert len(table) == len(model)
    wanted = np.array([*model, 987_654_321], dtype=np.int64)
    assert table.get_many(wanted).tolist() == [*model.values(), model.get(987_654_321, MISSING)]
    assert all(table.get(key) == value for key, value in model.items())


@given(steps)
@settings(max_examples=20, deadline=None)
def test_a_table_from_its_own_arrays_is_the_same_table(done: list[tuple[bool, int, int]]) -> None:
    table, copy = IntTable(2), IntTable()
    for is_put, key, value in done:
        _ = table.put(key, value) if is_put else table.remove(key)
    copy.load("t", {name: array.copy() for name, array in table.arrays("t").items()})
    assert len(copy) == len(table)
    assert copy.get_many(table.keys).tolist() == table.get_many(table.keys).tolist()


def test_it_grows_before_it_is_more_than_half_full() -> None:
    table = IntTable(4)
    for key in range(1, 100):
        table.put(key, key)
        assert len(table) * 2 <= len(table.keys)
    assert table.get_many(np.arange(1, 100)).tolist() == list(range(1, 100))


def test_the_same_keys_in_the_same_order_give_the_same_arrays() -> None:
    first, second = IntTable(4), IntTable(4)
    for table in (first, second):
        for key in (5, 9, -3, 77, 5, 12):
            table.put(key, 1)
        table.remove(9)
    assert first.keys.tobytes() == second.keys.tobytes()


def test_a_missing_key_has_the_value_minus_one() -> None:
    assert IntTable().get(5) == MISSING
    assert not IntTable().remove(5)
    assert IntTable().get_many(np.empty(0, dtype=np.int64)).shape == (0,)
