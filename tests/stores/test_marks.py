import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.stores.marks import (
    MARK_CREDIT_MASK,
    MARK_TIME_SHIFT,
    N_SWEEP_SLICES,
    Marks,
    mark_key,
    mark_put,
    mark_slot,
    mark_word,
)


def put(marks: Marks, key: int, at_ms: int) -> None:
    while not marks.has_room(1):
        marks.grow()
    slot = mark_slot(marks.arrays_for_kernels, key)
    if slot < 0:
        mark_put(marks.arrays_for_kernels, -1 - slot, key, mark_word(at_ms, key % 256), key % 7)


def contents(marks: Marks) -> dict[int, tuple[int, int]]:
    """Time and value by key; of each mark the credit is checked."""
    table = marks.arrays_for_kernels
    for key, word in zip(table.keys.tolist(), table.times.tolist(), strict=True):
        assert word & MARK_CREDIT_MASK == key % 256
    return {
        int(key): (int(word) >> MARK_TIME_SHIFT, int(value))
        for key, word, value in zip(table.keys, table.times, table.values, strict=True)
        if key
    }


@settings(max_examples=50, deadline=None)
@given(
    rounds=st.lists(
        st.tuples(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 100)), max_size=40), st.integers(0, 100)),
        max_size=4,
    )
)
def test_agrees_with_a_dict_through_growth_and_sweeps(rounds: list[tuple[list[tuple[int, int]], int]]) -> None:
    marks, model = Marks(16), {}
    for entries, before_ms in rounds:
        for key, at_ms in entries:
            put(marks, key, at_ms)
            model.setdefault(key, (at_ms, key % 7))
        for _ in range(2 * N_SWEEP_SLICES + 1):
            marks.sweep(before_ms)
        model = {key: entry for key, entry in model.items() if entry[0] >= before_ms}
        assert contents(marks) == model
        assert len(marks) == len(model)


def test_keys_of_different_triples_differ_and_are_never_zero() -> None:
    keys = {mark_key(viewer, post, code) for viewer in range(-20, 20) for post in range(-20, 20) for code in range(24)}
    assert len(keys) == 40 * 40 * 24
    assert 0 not in keys


def test_marks_survive_a_checkpoint() -> None:
    marks, again = Marks(16), Marks(16)
    for key in range(1, 50):
        put(marks, key, key)
    again.load("marks", {name: np.copy(array) for name, array in marks.arrays("marks").items()})
    assert contents(again) == contents(marks)
