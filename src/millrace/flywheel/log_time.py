"""`LogTime`: when a log had reached which moment; a few events from the far future do not drag it along."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np

from millrace.base.kernels import njit
from millrace.flywheel.metrics import IntArray
from millrace.stores.watermark import N_WITNESSES


class LogTime:
    """Offsets and effective times of a log's records, in log order."""

    def __init__(self) -> None:
        self._offsets = array("q")
        self._times_ms = array("q")

    def add(self, offset: int, time_ms: int) -> None:
        """Take in the next record."""
        self._offsets.append(offset)
        self._times_ms.append(time_ms)

    def extend(self, offsets: IntArray, times_ms: IntArray) -> None:
        """Take in the next records, shape (n,) each."""
        self._offsets.frombytes(np.ascontiguousarray(offsets, dtype=np.int64).tobytes())
        self._times_ms.frombytes(np.ascontiguousarray(times_ms, dtype=np.int64).tobytes())

    def last_ms(self) -> int:
        """Return the time reached at the end, 0 for an empty log."""
        times_ms = np.frombuffer(self._times_ms, dtype=np.int64) if self._times_ms else np.zeros(1, dtype=np.int64)
        place = max(len(times_ms) - N_WITNESSES, 0) if len(times_ms) > 10 * N_WITNESSES else len(times_ms) - 1
        return int(np.partition(times_ms, place)[place])

    def cuts(self, moments_ms: IntArray) -> IntArray:
        """Return for each moment an offset before which the log holds nothing from then or later, shape (n,), int64.

        But for fewer than `N_WITNESSES` events whose times are ahead of everybody else's. In a log in order of time it
        is the offset of the first record from that moment or later.
        """
        if not self._offsets:
            return np.zeros(len(moments_ms), dtype=np.int64)
        offsets = np.frombuffer(self._offsets, dtype=np.int64)
        reached_ms = reached_kernel(np.frombuffer(self._times_ms, dtype=np.int64), N_WITNESSES)
        # The witness that completes a moment is the last of N: the first of them may be as many records before it.
        places = np.searchsorted(reached_ms, moments_ms, side="left") - (N_WITNESSES - 1)
        return offsets[np.clip(places, 0, len(offsets) - 1)]


def _reached(times_ms: IntArray, n_witnesses: int) -> IntArray:
    """Return after each record the ``n_witnesses``-th largest time so far, 0 as long as there are fewer."""
    witnesses = np.zeros(n_witnesses, dtype=np.int64)
    out = np.empty(len(times_ms), dtype=np.int64)
    for row in range(len(times_ms)):
        time_ms = times_ms[row]
        if time_ms > witnesses[0]:
            slot = 0
            while slot < n_witnesses - 1 and witnesses[slot + 1] < time_ms:
                witnesses[slot] = witnesses[slot + 1]
                slot += 1
            witnesses[slot] = time_ms
        out[row] = witnesses[0]
    return out


reached_kernel: Callable[[IntArray, int], IntArray] = njit(cache=True)(_reached)
"""`_reached`, compiled; read-only views of buffers are fine."""
