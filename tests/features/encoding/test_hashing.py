"""Ids as rows: never padding, the same on every machine, and two ids hardly ever share both."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millrace.features.encoding.buckets import log_buckets
from millrace.features.encoding.hashing import id_rows

_MASK = (1 << 64) - 1


def reference(value: int, n_rows: int) -> list[int]:
    rows = []
    for salt in (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03):
        mixed = (value + salt) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        rows.append(1 + (mixed ^ (mixed >> 31)) % (n_rows - 1))
    return rows


@given(st.integers(-(2**63), 2**63 - 1), st.integers(2, 1 << 20))
def test_rows_are_those_of_plain_arithmetic(value: int, n_rows: int) -> None:
    rows = id_rows(np.array([value], dtype=np.int64), n_rows)[0].tolist()
    assert rows == ([0, 0] if value == 0 else reference(value & _MASK, n_rows))


def test_many_ids_share_single_rows_and_hardly_any_share_both() -> None:
    ids = np.arange(1, 5_001)
    rows = id_rows(ids, 4_096)
    assert len(np.unique(rows[:, 0])) < 4_000
    assert len(np.unique(rows, axis=0)) >= 4_998
    assert id_rows(ids.reshape(50, 100), 4_096).shape == (50, 100, 2)


def test_buckets_are_ratios_and_bounded() -> None:
    assert log_buckets(np.array([-3.0, 0.0, 1.0, 3.0, 1e30])).tolist() == [0, 0, 8, 16, 255]
