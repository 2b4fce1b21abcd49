"""`untouched_zeros`: large arrays of which a request may touch a few rows for the first time, and pays for those only.

NumPy asks the system for huge pages where an array is large. That is right for arrays that are read all over, and wrong
for caches that fill by and by: the first rows that somebody keeps, wherever they lie, have as many megabytes cleared
(and other memory moved out of the way), which took a page of the feed 30 to 130 milliseconds when models were swapped.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

ScalarT = TypeVar("ScalarT", bound=np.generic)

_FROM_BYTES: Final = 1 << 20
"""Smaller ones are never in huge pages."""


def untouched_zeros(shape: tuple[int, ...], dtype: type[ScalarT]) -> npt.NDArray[ScalarT]:
    """Return zeros whose memory comes by small pages, each with the first touch; to be freed as any array is.

    Parameters
    ----------
    shape, dtype
        As of `numpy.zeros`.
    """
    n = math.prod(shape)
    n_bytes = n * np.dtype(dtype).itemsize
    advice: Any = getattr(mmap, "MADV_NOHUGEPAGE", None)
    if n_bytes < _FROM_BYTES or advice is None:  # other systems have other pages
        return np.zeros(shape, dtype=dtype)
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(advice)
    except OSError:  # a kernel without huge pages
        return np.zeros(shape, dtype=dtype)
    return np.frombuffer(memory, dtype=dtype, count=n).reshape(shape)
