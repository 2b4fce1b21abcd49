"""`Windows`: what was done to posts, to authors' posts and by users within the last hour, day and week.

The same effects that the decayed counters count (a viewer counts once per post and action, an undo takes back), in
sliding windows that move by whole minutes of event time. Windows end with the minute that sixteen events have reached;
a reader whose clock is further ahead gets what has left them by then taken back (`Windows.read`).

A key is known as long as an effect of it lies in the longest window: what nothing happens to costs nothing. Source of
the form: the timing wheel of Varghese and Lauck (1987), one slot a minute, with running sums beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, IntTable
from millrace.stores.decayed_rows import Float32Array, Float64Array
from millrace.stores.fold import Arrays
from millrace.stores.slab_lists import doubled
from millrace.stores.watermark import N_WITNESSES
from millrace.stores.window_kernels import (
    AHEAD,
    FREE,
    MINUTE,
    MINUTE_MS,
    N_NODE_WORDS,
    TOP,
    SumArrays,
    WheelArrays,
    add_effects,
    find_leaving,
    forget_key,
    read_sums,
)

WindowKind = Literal["posts", "authors", "users"]

STALE_MINUTES: Final = 2
"""So far a reader may be ahead of the windows before anything is taken back for it: while events flow it never is."""

_KINDS: Final[tuple[WindowKind, ...]] = ("posts", "authors", "users")


class Windows:
    """Sliding sums by post, author and user.

    Parameters
    ----------
    windows_ms
        Lengths in whole minutes, shortest first; none: nothing is kept.
    n_columns
        Actions, and impressions last.
    """

    def __init__(self, windows_ms: tuple[int, ...], n_columns: int) -> None:
        self.windows_ms = windows_ms
        self._n_columns = n_columns
        minutes = np.array([ms // MINUTE_MS for ms in windows_ms], dtype=np.int64)
        n_slots = int(minutes[-1]) + AHEAD if windows_ms else 1
        self._sums = {kind: _Sums(len(windows_ms), n_columns) for kind in _KINDS}
        self._nodes: Int32Array = np.zeros((64, N_NODE_WORDS), dtype=np.int32)
        self._heads: Int32Array = np.zeros(n_slots, dtype=np.int32)
        self._n = np.zeros(3, dtype=np.int64)
        self._witnesses: Int64Array = np.zeros(N_WITNESSES, dtype=np.int64)
        self._minutes = minutes

    @property
    def minute(self) -> int:
        """The minute since the epoch that windows end with; 0 before the first effect."""
        return int(self._n[MINUTE])

    @property
    def n_effects(self) -> int:
        """How many effects lie in the longest window."""
        n_free, link = 0, int(self._n[FREE])
        while link:
            n_free += 1
            link = int(self._nodes[link - 1, 0])
        return int(self._n[TOP]) - n_free

    def add(self, effects: Int64Array) -> None:
        """Count effects, shape (n, 7), int64 (`millrace.stores.window_kernels`), in log order."""
        done = 0
        while done < len(effects):
            done = int(add_effects(*self._kernel_sums(), self.wheel(), effects, done))
            if done < len(effects):
                self._make_room()

    def read(self, kind: WindowKind, ids: Int64Array, now_ms: int) -> Float32Array:
        """Return the sums of ids as of ``now_ms``, zeros where nothing happened.

        Where ``now_ms`` is at most `STALE_MINUTES` ahead of the windows (always, while events flow), the sums are those
        of the windows' own end; else what has left them by then is taken back: a walk over the events between.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_windows, n_columns), float32: viewers, and seconds of ``dwell_time``.
        """
        if not self.windows_ms:
            return np.zeros((len(ids), 0, self._n_columns), dtype=np.float32)
        of, wheel = self.sums(kind), self.wheel()
        leaving = np.zeros((0, 0, 0), dtype=np.float64)
        if self.is_stale(now_ms):
            leaving = find_leaving(of, _KINDS.index(kind), wheel, ids, now_ms // MINUTE_MS)
        found: Float32Array = read_sums(of, ids, leaving)
        return found

    def is_stale(self, now_ms: int) -> bool:
        """Whether a reader at this time must have something taken back."""
        return 0 < self.minute < now_ms // MINUTE_MS - STALE_MINUTES

    def forget(self, kind: WindowKind, ids: Int64Array) -> None:
        """Make ids unknown: they were erased."""
        for key in ids.tolist():
            forget_key(self.sums(kind), key)

    def sums(self, kind: WindowKind) -> SumArrays:
        """Return one kind's sums, as kernels take them."""
        return self._sums[kind].arrays_for_kernels()

    def wheel(self) -> WheelArrays:
        """Return the effects by minute, as kernels take them."""
        return WheelArrays(self._nodes, self._heads, self._n, self._witnesses, self._minutes)

    def arrays(self, prefix: str) -> Arrays:
        """Return the state for a checkpoint; the arrays are the live ones."""
        if not self.windows_ms:
            return {}
        arrays: Arrays = {
            f"{prefix}.nodes": self._nodes,
            f"{prefix}.heads": self._heads,
            f"{prefix}.n": self._n,
            f"{prefix}.witnesses": self._witnesses,
        }
        for kind in _KINDS:
            arrays |= self._sums[kind].arrays(f"{prefix}.{kind}")
        return arrays

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over arrays written by `arrays`."""
        if not self.windows_ms:
            return
        self._nodes, self._heads = arrays[f"{prefix}.nodes"], arrays[f"{prefix}.heads"]
        self._n, self._witnesses = arrays[f"{prefix}.n"], arrays[f"{prefix}.witnesses"]
        for kind in _KINDS:
            self._sums[kind].load(f"{prefix}.{kind}", arrays)

    def _kernel_sums(self) -> tuple[SumArrays, SumArrays, SumArrays]:
        return self.sums("posts"), self.sums("authors"), self.sums("users")

    def _make_room(self) -> None:
        if self._n[FREE] == 0 and self._n[TOP] == len(self._nodes):
            self._nodes = doubled(self._nodes)
        for of in self._sums.values():
            of.make_room()


class _Sums:
    """Owner of one kind's sums."""

    def __init__(self, n_windows: int, n_columns: int) -> None:
        self.table = IntTable(128)
        self.id_by_row: Int64Array = np.zeros(64, dtype=np.int64)
        self.n_nodes: Int32Array = np.zeros(64, dtype=np.int32)
        self.chain: Int32Array = np.zeros(64, dtype=np.int32)
        self.n = np.zeros(2, dtype=np.int64)
        self.sums: Float64Array = np.zeros((64, n_columns, n_windows), dtype=np.float64)

    def make_room(self) -> None:
        if self.table.is_full():
            self.table.grow()
        if self.n[FREE] == 0 and self.n[TOP] == len(self.chain):
            self.id_by_row, self.n_nodes = doubled(self.id_by_row), doubled(self.n_nodes)
            self.chain, self.sums = doubled(self.chain), doubled(self.sums)

    def arrays_for_kernels(self) -> SumArrays:
        table = self.table
        return SumArrays(table.keys, table.values, table.n, self.id_by_row, self.n_nodes, self.chain, self.n, self.sums)

    def arrays(self, prefix: str) -> Arrays:
        return {
            **self.table.arrays(prefix),
            f"{prefix}.id_by_row": self.id_by_row,
            f"{prefix}.n_nodes": self.n_nodes,
            f"{prefix}.chain": self.chain,
            f"{prefix}.rows_n": self.n,
            f"{prefix}.sums": self.sums,
        }

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.table.load(prefix, arrays)
        self.id_by_row, self.n_nodes = arrays[f"{prefix}.id_by_row"], arrays[f"{prefix}.n_nodes"]
        self.chain, self.n = arrays[f"{prefix}.chain"], arrays[f"{prefix}.rows_n"]
        self.sums = arrays[f"{prefix}.sums"]
