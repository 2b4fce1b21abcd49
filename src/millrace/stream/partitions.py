"""Which partition a key belongs to: one rule for every log, equal on every machine."""

from __future__ import annotations

import zlib
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from millrace.base.errors import LogError


def partition_of(key: str, n_partitions: int) -> int:
    """Return the partition of ``key``: CRC-32 of its UTF-8 bytes, modulo; the empty key is in partition 0."""
    return zlib.crc32(key.encode()) % n_partitions


def partition_mask(partitions: Collection[int] | None, n_partitions: int) -> npt.NDArray[np.bool_] | None:
    """Return which partitions were asked for, shape (n_partitions,); None stands for all of them.

    Raises
    ------
    LogError
        If one of them does not exist, or none is given.
    """
    if partitions is None:
        return None
    wanted = sorted(set(partitions))
    if not wanted or wanted[0] < 0 or wanted[-1] >= n_partitions:
        raise LogError(
            "partitions",
            value=wanted,
            problem=f"not partitions of a log with {n_partitions}",
            remedy=f"use numbers from 0 to {n_partitions - 1}, at least one",
        )
    mask = np.zeros(n_partitions, dtype=np.bool_)
    mask[wanted] = True
    return None if mask.all() else mask
