"""Membership of ids in sets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.pipeline.membership import is_either_member, is_member, is_member_reference

IDS = st.lists(st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)), max_size=40)


@given(IDS, IDS)
@settings(max_examples=50, deadline=None)
def test_kernel_agrees_with_its_reference(values: list[int], members: list[int]) -> None:
    first, second = np.array(values, dtype=np.int64), np.array(members, dtype=np.int64)
    assert is_member(first, second).tolist() == is_member_reference(first, second).tolist()


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=40), IDS)
@settings(max_examples=50, deadline=None)
def test_either_is_the_one_or_the_other(pairs: list[tuple[int, int]], members: list[int]) -> None:
    values, others = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    second = np.array(members, dtype=np.int64)
    expected = is_member_reference(values, second) | is_member_reference(others, second)
    assert is_either_member(values, others, second).tolist() == expected.tolist()


def test_none_is_never_a_member() -> None:
    assert is_member(np.array([0, 5]), np.array([0, 5])).tolist() == [False, True]


def test_read_only_and_strided_arrays_are_taken() -> None:
    values = np.arange(6)
    values.setflags(write=False)
    assert is_member(values, np.arange(12)[::3]).tolist() == [False, False, False, True, False, False]
