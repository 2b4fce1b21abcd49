"""The duplicate window: which of the newest event ids were seen before.

An event is a duplicate if its id is among the ``window`` newest events that were let in before it. Two forms of
that one rule:

* `DuplicateWindow`, for logs that carry much: 128-bit digests in a ring, and a hash table of ring places beside
  it (open addressing, linear probing, removal by backward shift). 24 bytes per event of the window.
* `ReferenceDuplicateWindow`: a dictionary in order of arrival. Tests hold the first against it, and the memory
  log uses it.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit

BoolArray = npt.NDArray[np.bool_]
DigestArray = npt.NDArray[np.uint64]
"""Event-id digests: shape (n, 2), uint64, little-endian halves."""

DIGEST_BYTES: Final = 16
_MIN_SLOTS: Final = 1024


def digest_bytes(event_ids: Iterable[str]) -> bytes:
    """Return the BLAKE2b-128 digests of event ids, one after the other.

    128 bits, because a collision would drop an event that is none: with 64 bits that would happen once in
    10^13 events, by chance alone, and could be forced by a patient client.
    """
    blake2b = hashlib.blake2b
    return b"".join([blake2b(text.encode(), digest_size=DIGEST_BYTES, person=b"event").digest() for text in event_ids])


def digests_from(data: bytes) -> DigestArray:
    """Return `digest_bytes`'s result as an array, shape (n, 2), uint64."""
    # A copy, because arrays over bytes are read-only, and Numba would compile the kernel once more for those.
    return np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(-1, 2)


@njit(cache=True, nogil=True)
def _find(table: npt.NDArray[np.int32], ring: DigestArray, low: np.uint64, high: np.uint64) -> np.int64:
    """Return the slot that holds the digest, or the empty one where it would go as ``-1 - slot``."""
    mask = np.int64(len(table) - 1)
    slot = np.int64(low) & mask
    while table[slot] != 0:
        place = table[slot] - 1
        if ring[place, 0] == low and ring[place, 1] == high:
            return slot
        slot = (slot + 1) & mask
    return -1 - slot


@njit(cache=True, nogil=True)
def _admit(
    table: npt.NDArray[np.int32], ring: DigestArray, count: np.int64, digests: DigestArray, is_new: BoolArray
) -> np.int64:
    """Let digests in, in order; fill ``is_new`` and return the new count. The caller keeps the load at most 1/2."""
    window = np.int64(len(ring))
    mask = np.int64(len(table) - 1)
    for i in range(len(digests)):
        low, high = digests[i, 0], digests[i, 1]
        slot = _find(table, ring, low, high)
        is_new[i] = slot < 0
        if slot >= 0:
            continue
        place = count % window
        if count >= window:
            hole = _find(table, ring, ring[place, 0], ring[place, 1])
            scan = hole
            while True:
                scan = (scan + 1) & mask
                if table[scan] == 0:
                    break
                home = np.int64(ring[table[scan] - 1, 0]) & mask
                # It may move into the hole only if its home does not lie between the two (cyclically).
                if ((scan - home) & mask) >= ((scan - hole) & mask):
                    table[hole] = table[scan]
                    hole = scan
            table[hole] = 0
            slot = _find(table, ring, low, high)  # the shift may have moved the empty slot
        ring[place, 0] = low
        ring[place, 1] = high
        table[-1 - slot] = np.int32(place + 1)
        count += 1
    return count


@njit(cache=True, nogil=True)
def _fill(table: npt.NDArray[np.int32], ring: DigestArray, n: np.int64) -> None:
    mask = np.int64(len(table) - 1)
    for place in range(n):
        slot = np.int64(ring[place, 0]) & mask
        while table[slot] != 0:
            slot = (slot + 1) & mask
        table[slot] = np.int32(place + 1)


class DuplicateWindow:
    """The digests of the newest ``window`` events.

    Parameters
    ----------
    window
        How many events are remembered.
    first
        The offset of the first event that will be let in (the ring begins there).

    Notes
    -----
    A failed append leaves the window ahead of the log; its owner throws it away and fills a new one from the log.
    """

    def __init__(self, window: int, first: int = 0) -> None:
        self.window = window
        self._first = first
        self._count = 0
        # Zero pages are not touched before they are needed: a young log's ring costs nothing.
        self._ring: DigestArray = np.zeros((window, 2), dtype=np.uint64)
        self._table: npt.NDArray[np.int32] = np.zeros(_MIN_SLOTS, dtype=np.int32)

    @property
    def end(self) -> int:
        """The offset of the next event to let in."""
        return self._first + self._count

    @property
    def n_bytes(self) -> int:
        """Memory reserved, in bytes."""
        return self._ring.nbytes + self._table.nbytes

    def admit(self, digests: DigestArray) -> BoolArray:
        """Let events in, one after the other; return which were new, shape (n,)."""
        n_after = min(self._count + len(digests), self.window)
        if n_after * 2 > len(self._table):
            self._table = np.zeros(1 << (n_after * 2 - 1).bit_length(), dtype=np.int32)
            _fill(self._table, self._ring, np.int64(min(self._count, self.window)))
        is_new = np.empty(len(digests), dtype=np.bool_)
        self._count = int(_admit(self._table, self._ring, np.int64(self._count), digests, is_new))
        return is_new


@functools.cache
def load_kernels() -> None:
    """Load the window's kernels, or compile them after a fresh install: seconds that nobody should spend in a lock."""
    many = range(_MIN_SLOTS)  # a window that grows uses all of them
    DuplicateWindow(len(many)).admit(digests_from(digest_bytes(map(str, many))))


class ReferenceDuplicateWindow:
    """The same rule over any ids, as one would write it first.

    Parameters
    ----------
    window
        How many events are remembered.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._known: OrderedDict[Hashable, None] = OrderedDict()

    def admit(self, event_ids: Sequence[Hashable]) -> BoolArray:
        """Let events in, one after the other; return which were new, shape (n,)."""
        is_new = np.zeros(len(event_ids), dtype=np.bool_)
        for i, event_id in enumerate(event_ids):
            if event_id in self._known:
                continue
            if len(self._known) >= self.window:
                self._known.popitem(last=False)
            self._known[event_id] = None
            is_new[i] = True
        return is_new
