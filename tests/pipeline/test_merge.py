"""Merging sources: one row a candidate, every finder's bit, values from the first source that wrote them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.features.columns import HEAT, N_PROOFS, POST_ID
from millrace.pipeline.column import PROVENANCE
from millrace.pipeline.merge import first_appearances, first_appearances_reference, merge
from millrace.testing.pipeline_builders import DIMS, a_batch


def test_a_post_found_twice_is_one_row_with_both_bits() -> None:
    merged = merge([(0, a_batch({POST_ID: [5, 6]})), (2, a_batch({POST_ID: [7, 5]}))], POST_ID, (POST_ID,), DIMS)
    assert merged[POST_ID].tolist() == [5, 6, 7]
    assert merged[PROVENANCE].tolist() == [0b101, 0b001, 0b100]


def test_values_come_from_the_first_source_that_writes_them_else_the_fill() -> None:
    merged = merge(
        [
            (0, a_batch({POST_ID: [5, 6]})),
            (1, a_batch({POST_ID: [6, 7, 6], N_PROOFS: [1, 2, 9]})),
            (2, a_batch({POST_ID: [7, 8], N_PROOFS: [3, 4], HEAT: [0.5, 0.25]})),
        ],
        POST_ID,
        (POST_ID, N_PROOFS, HEAT),
        DIMS,
    )
    assert merged[POST_ID].tolist() == [5, 6, 7, 8]
    assert merged[N_PROOFS].tolist() == [0, 1, 2, 4]
    assert merged[HEAT].tolist() == [0.0, 0.0, 0.5, 0.25]


def test_nothing_found_is_a_batch_of_no_rows_with_all_columns() -> None:
    merged = merge([(0, a_batch(n=0))], POST_ID, (POST_ID, N_PROOFS), DIMS)
    assert merged.n == 0
    assert PROVENANCE in merged
    assert N_PROOFS in merged


@given(st.lists(st.integers(-5, 5), max_size=60))
@settings(max_examples=50, deadline=None)
def test_kernel_agrees_with_its_reference(keys: list[int]) -> None:
    array = np.array(keys, dtype=np.int64)
    firsts, places = first_appearances(array)
    expected_firsts, expected_places = first_appearances_reference(array)
    assert firsts.tolist() == expected_firsts.tolist()
    assert places.tolist() == expected_places.tolist()


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 99)), max_size=8), min_size=1, max_size=4),
    st.integers(0, 15),
)
@settings(max_examples=50, deadline=None)
def test_merge_agrees_with_dicts(sources: list[list[tuple[int, int]]], writes: int) -> None:
    parts = []
    bits: dict[int, int] = {}
    values: dict[int, int] = {}
    for number, rows in enumerate(sources):
        is_writer = bool(writes >> number & 1)
        columns = {POST_ID: [key for key, _ in rows]}
        if is_writer:
            columns[N_PROOFS] = [value for _, value in rows]
        parts.append((number, a_batch(columns)))
        for key, value in rows:
            bits[key] = bits.get(key, 0) | 1 << number
            if is_writer:
                values.setdefault(key, value)
    merged = merge(parts, POST_ID, (POST_ID, N_PROOFS), DIMS)
    assert merged[POST_ID].tolist() == list(bits)
    assert merged[PROVENANCE].tolist() == list(bits.values())
    assert merged[N_PROOFS].tolist() == [values.get(key, 0) for key in bits]
