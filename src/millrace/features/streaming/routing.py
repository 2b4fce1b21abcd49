"""Which partition an operation goes to: by its post in one lane, by its user in the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.stores.engagement_arrays import KIND, OP_ENGAGE, OP_ERASE, OP_IMPRESS, POST, USER

_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_SHIFT: Final = np.uint64(33)


def partition_of(keys: Int64Array, n_partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each key, shape (n,): the same in every process."""
    mixed = (keys.view(np.uint64) * _MIX) >> _SHIFT
    found: npt.NDArray[np.int64] = (mixed % np.uint64(n_partitions)).astype(np.int64)
    return found


def by_post(ops: Int64Array, n_partitions: int) -> Iterator[Int64Array]:
    """Yield each partition's operations, in log order: those of its posts, and every erasure."""
    yield from _split(ops, POST, ops[:, KIND] == OP_ERASE, n_partitions)


def by_user(ops: Int64Array, n_partitions: int) -> Iterator[Int64Array]:
    """Yield each partition's operations, in log order: what its users did, and everything that is said of posts."""
    is_act = (ops[:, KIND] == OP_ENGAGE) | (ops[:, KIND] == OP_IMPRESS)
    yield from _split(ops, USER, ~is_act, n_partitions)


def _split(ops: Int64Array, column: int, is_everybodys: npt.NDArray[np.bool_], n: int) -> Iterator[Int64Array]:
    if n == 1:
        yield ops
        return
    places = partition_of(np.ascontiguousarray(ops[:, column]), n)
    for place in range(n):
        yield ops[is_everybodys | (places == place)]
