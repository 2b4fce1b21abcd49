"""`EngagementState`: owns the arrays of the engagement store, gives kernels their view of them, makes room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, IntTable
from millrace.stores.credits import MAX_CREDITS, N_TOPICS
from millrace.stores.decayed_rows import DecayedRows
from millrace.stores.engagement_arrays import (
    FREE,
    TOP,
    EngagementArrays,
    FoldSettings,
    ObservedArrays,
    PostArrays,
    RowArrays,
    StatArrays,
)
from millrace.stores.engagement_config import EngagementConfig
from millrace.stores.fold import Arrays
from millrace.stores.hot_posts import HeatArrays
from millrace.stores.marks import Marks
from millrace.stores.rings import make_room
from millrace.stores.slab_lists import SlabLists, doubled
from millrace.stores.windows import Windows

N_INDEX_WORDS: Final = 2
N_HISTORY_WORDS: Final = 4

_POST_COLUMNS: Final = ("post_id", "author_id", "last_ms", "topics", "stat", "observed", "flags", "credit")
_ACTION_ARRAYS: Final = ("post_counts.values", "author_counts.values", "topic_counts.values", "observed.totals")
_WINDOW_SUMS: Final = ("windows.posts.sums", "windows.authors.sums", "windows.users.sums")
_HEAT_COLUMNS: Final = ("heat", "place", "is_warm")


class EngagementState:
    """All arrays of the engagement store.

    Parameters
    ----------
    config
        Bounds and half-lives.
    settings
        What the kernels take from the configuration.
    """

    def __init__(self, config: EngagementConfig, settings: FoldSettings) -> None:
        n_columns = len(settings.log2_heat)
        self.settings = settings
        self.posts = IntTable(1024)
        self.users = _Rows()
        self.authors = _Rows()
        self.marks = Marks()
        self.post_counts = DecayedRows(config.post_half_lives_ms, n_columns)
        self.author_counts = DecayedRows(config.author_half_lives_ms, n_columns)
        self.topic_counts = DecayedRows(config.topic_half_lives_ms, n_columns)
        self.engagers = SlabLists(N_INDEX_WORDS)
        self.engaged = SlabLists(N_INDEX_WORDS)
        self.histories = SlabLists(N_HISTORY_WORDS)
        self.windows = Windows(config.windows_ms, n_columns)
        self.post_n = np.zeros(3, dtype=np.int64)
        self.post_columns: Arrays = {
            "post_id": np.zeros(512, dtype=np.int64),
            "author_id": np.zeros(512, dtype=np.int64),
            "last_ms": np.zeros(512, dtype=np.int64),
            "topics": np.zeros((512, N_TOPICS), dtype=np.int32),
            "stat": np.zeros(512, dtype=np.int32),
            "observed": np.zeros(512, dtype=np.int32),
            "flags": np.zeros(512, dtype=np.uint8),
            "credit": np.zeros(512, dtype=np.uint8),
        }
        self.credits = SlabLists(1, n_rows=512)
        self.stat_n = np.zeros(2, dtype=np.int64)
        self.stat_post: Int32Array = np.zeros(64, dtype=np.int32)
        self.heat_columns: Arrays = {
            "heat": np.zeros(64, dtype=np.float64),
            "place": np.zeros(64, dtype=np.int32),
            "is_warm": np.zeros(64, dtype=np.int8),
        }
        self.heap: Int32Array = np.zeros(config.max_popular, dtype=np.int32)
        self.heap_n = np.zeros(1, dtype=np.int64)
        self.observed_totals = np.zeros((16, n_columns), dtype=np.float32)
        self.observed_chain: Int32Array = np.zeros(16, dtype=np.int32)
        self.observed_n = np.zeros(2, dtype=np.int64)
        self.kernel = self._assemble()

    def make_room(self, n_topics: int) -> None:
        """Double whatever could not take one more event; ``n_topics``: topic codes that must have a row."""
        if self.posts.is_full():
            self.posts.grow()
        if _is_full(self.post_n, len(self.post_columns["stat"])):
            self.post_columns = {name: doubled(column) for name, column in self.post_columns.items()}
            self.credits.grow_rows()
        if _is_full(self.stat_n, len(self.stat_post)):
            self.stat_post = doubled(self.stat_post)
            self.heat_columns = {name: doubled(column) for name, column in self.heat_columns.items()}
            self.post_counts.grow(len(self.stat_post))
            self.engagers.grow_rows()
        if _is_full(self.observed_n, len(self.observed_chain)):
            self.observed_chain = doubled(self.observed_chain)
            self.observed_totals = doubled(self.observed_totals)
        if self.users.make_room():
            self.engaged.grow_rows()
            self.histories.grow_rows()
        if self.authors.make_room():
            self.author_counts.grow(len(self.authors.ids))
        while len(self.topic_counts) < n_topics:
            self.topic_counts.grow(2 * len(self.topic_counts))
        if not self.marks.has_room(1):
            self.marks.grow()
        for rings, max_len in zip(
            (self.engagers, self.engaged, self.histories), self.settings.max_len.tolist(), strict=True
        ):
            make_room(rings, max_len)
        make_room(self.credits, MAX_CREDITS)
        self.kernel = self._assemble()

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {
            **self.posts.arrays("posts"),
            **{f"posts.{name}": column for name, column in self.post_columns.items()},
            "posts.rows_n": self.post_n,
            **self.users.arrays("users"),
            **self.authors.arrays("authors"),
            "stats.post_row": self.stat_post,
            "stats.n": self.stat_n,
            **{f"heat.{name}": column for name, column in self.heat_columns.items()},
            "heat.heap": self.heap,
            "heat.n": self.heap_n,
            "observed.totals": self.observed_totals,
            "observed.chain": self.observed_chain,
            "observed.n": self.observed_n,
            **self.marks.arrays("marks"),
            **self.post_counts.arrays("post_counts"),
            **self.author_counts.arrays("author_counts"),
            **self.topic_counts.arrays("topic_counts"),
            **self.engagers.arrays("engagers"),
            **self.engaged.arrays("engaged"),
            **self.histories.arrays("histories"),
            **self.credits.arrays("credits"),
            **self.windows.arrays("windows"),
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`, perhaps before further business actions were declared."""
        n_columns = len(self.settings.log2_heat)
        arrays = {**arrays, **{name: _widened(arrays[name], n_columns) for name in _ACTION_ARRAYS}}
        for name in _WINDOW_SUMS if self.windows.windows_ms else ():
            arrays[name] = _widened(arrays[name], n_columns, axis=1)
        self.posts.load("posts", arrays)
        self.post_columns = {name: arrays[f"posts.{name}"] for name in _POST_COLUMNS}
        self.post_n = arrays["posts.rows_n"]
        self.users.load("users", arrays)
        self.authors.load("authors", arrays)
        self.stat_post = arrays["stats.post_row"]
        self.stat_n = arrays["stats.n"]
        self.heat_columns = {name: arrays[f"heat.{name}"] for name in _HEAT_COLUMNS}
        self.heap = arrays["heat.heap"]
        self.heap_n = arrays["heat.n"]
        self.observed_totals = arrays["observed.totals"]
        self.observed_chain = arrays["observed.chain"]
        self.observed_n = arrays["observed.n"]
        self.marks.load("marks", arrays)
        self.post_counts.load("post_counts", arrays)
        self.author_counts.load("author_counts", arrays)
        self.topic_counts.load("topic_counts", arrays)
        self.engagers.load("engagers", arrays)
        self.engaged.load("engaged", arrays)
        self.histories.load("histories", arrays)
        self.credits.load("credits", arrays)
        self.windows.load("windows", arrays)
        self.kernel = self._assemble()

    def _assemble(self) -> EngagementArrays:
        posts = self.posts
        return EngagementArrays(
            posts=PostArrays(keys=posts.keys, values=posts.values, n_keys=posts.n, **self.post_columns, n=self.post_n),
            users=self.users.arrays_for_kernels(),
            authors=self.authors.arrays_for_kernels(),
            stats=StatArrays(post_row=self.stat_post, n=self.stat_n),
            observed=ObservedArrays(totals=self.observed_totals, chain=self.observed_chain, n=self.observed_n),
            heat=HeatArrays(**self.heat_columns, heap=self.heap, n=self.heap_n),
            marks=self.marks.arrays_for_kernels,
            post_counts=self.post_counts.arrays_for_kernels,
            author_counts=self.author_counts.arrays_for_kernels,
            topic_counts=self.topic_counts.arrays_for_kernels,
            engagers=self.engagers.slab,
            engaged=self.engaged.slab,
            histories=self.histories.slab,
            credits=self.credits.slab,
            settings=self.settings,
        )


class _Rows:
    """A table from id to dense rows, with the id of each row."""

    def __init__(self) -> None:
        self.table = IntTable(128)
        self.ids: Int64Array = np.zeros(64, dtype=np.int64)

    def make_room(self) -> bool:
        """Grow what is full; return whether there are more rows now."""
        if self.table.is_full():
            self.table.grow()
        if len(self.table) < len(self.ids):
            return False
        self.ids = doubled(self.ids)
        return True

    def arrays_for_kernels(self) -> RowArrays:
        return RowArrays(self.table.keys, self.table.values, self.table.n, self.ids)

    def arrays(self, prefix: str) -> Arrays:
        return {**self.table.arrays(prefix), f"{prefix}.ids": self.ids}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.table.load(prefix, arrays)
        self.ids = arrays[f"{prefix}.ids"]


def _widened(array: npt.NDArray[Any], n_columns: int, axis: int = -1) -> npt.NDArray[Any]:
    """Return an array with zeros for actions appended since it was written; impressions stay the last column."""
    n_actions = array.shape[axis] - 1
    if n_actions + 1 == n_columns:
        return array
    if n_actions + 1 > n_columns:
        raise ValueError(f"{n_actions} actions, where {n_columns - 1} are known")
    shape = list(array.shape)
    shape[axis] = n_columns
    wide = np.zeros(shape, dtype=array.dtype)
    to, old = np.moveaxis(wide, axis, -1), np.moveaxis(array, axis, -1)
    to[..., :n_actions] = old[..., :n_actions]
    to[..., -1] = old[..., -1]
    return wide


def _is_full(n: Int64Array, capacity: int) -> bool:
    return int(n[FREE]) == 0 and int(n[TOP]) == capacity
