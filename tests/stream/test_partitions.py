import pytest

from millrace.base.errors import LogError
from millrace.stream.partitions import partition_mask, partition_of


def test_a_key_has_the_same_partition_everywhere() -> None:
    assert [partition_of(key, 16) for key in ("", "u1", "u2", "é")] == [0, 6, 12, 14]


def test_all_partitions_need_no_mask() -> None:
    assert partition_mask(None, 3) is None
    assert partition_mask([2, 1, 0, 0], 3) is None
    mask = partition_mask([2], 3)
    assert mask is not None
    assert mask.tolist() == [False, False, True]


def test_wrong_partitions_are_refused() -> None:
    with pytest.raises(LogError, match="0 to 2"):
        partition_mask([3], 3)
