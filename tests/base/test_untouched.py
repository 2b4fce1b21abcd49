"""Memory that comes with its first touch, by small pages."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from millrace.base.untouched import untouched_zeros
from millrace.testing.memory_maps import mapping_of


@pytest.mark.parametrize("shape", [(3, 2), (1_000, 8, 100), (0, 4)])
def test_are_zeros_that_can_be_written_like_any_others(shape: tuple[int, ...]) -> None:
    found = untouched_zeros(shape, np.float32)
    assert (found.shape, found.dtype) == (shape, np.float32)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_array_equal(found, np.zeros(shape, dtype=np.float32))
    found[:] = 2.0
    assert found.sum() == 2.0 * found.size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_first_row_costs_one_small_page_and_not_megabytes() -> None:
    found = untouched_zeros((16_384, 1_024), np.float32)
    found[9_000] = 1.0
    facts = mapping_of(found)
    assert "nh" in facts["VmFlags"].split()  # no huge pages
    assert int(facts["Rss"].split()[0]) <= 8
