"""`CompiledJoin`: the streaming join over `millrace.flywheel.join_kernel`: growth, checkpoints, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import StoreError
from millrace.flywheel import join_tables as at
from millrace.flywheel.join_columns import JoinColumns
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_index import fill_page_table, move_groups, regroup
from millrace.flywheel.join_kernel import (
    DONE,
    NO_ROOM_FOR_DEEDS,
    NO_ROOM_FOR_GROUPS,
    NO_ROOM_FOR_LOOKS,
    NO_ROOM_FOR_OUT,
    NO_ROOM_FOR_PAGES,
    NO_ROOM_FOR_POSTS,
    hear_kernel,
)
from millrace.flywheel.join_parts import OUT, JoinShape
from millrace.flywheel.join_stats import COUNTERS, JoinStats, delay_percentiles
from millrace.flywheel.join_tables import RecordArray, copy_ring, new_tables

_N_OUT: Final = 8_192
_LEAST_RING: Final = 64
_LINKS: Final = {"looks": ("next", "wheel_next", "wheel_prev"), "deeds": ("next",), "pages": ()}
"""What a checkpoint leaves out of each ring: it follows from the order of the records."""

_HEADS: Final = {
    "looks": (at.LOOK_HEAD, at.LOOK_TAIL),
    "deeds": (at.DEED_HEAD, at.DEED_TAIL),
    "pages": (at.PAGE_HEAD, at.PAGE_TAIL),
    "posts": (at.POST_HEAD, at.POST_TAIL),
    "gone": (at.POST_HEAD, at.POST_TAIL),
}
_WHOLE: Final = ("label_witnesses", "other_witnesses", "delays")


class CompiledJoin:
    """Hears columns, gives out rows; see `millrace.flywheel.join.StreamJoin`."""

    def __init__(self, shape: JoinShape, config: JoinConfig) -> None:
        self._shape = shape
        self._config = config
        self._tables = new_tables(shape, config, _N_OUT)
        self._out: list[RecordArray] = []

    def hear(self, columns: JoinColumns) -> None:
        """Take in the next records."""
        row, page, code = 0, 0, NO_ROOM_FOR_OUT
        while code != DONE:
            row, page, code = hear_kernel(
                self._tables,
                columns.kinds,
                columns.offsets,
                columns.times_ms,
                columns.viewers,
                columns.requests,
                columns.posts,
                columns.dwells_ms,
                columns.positions,
                columns.codes,
                columns.flags,
                columns.page_starts,
                columns.page_posts,
                row,
                page,
            )
            if code != DONE:
                n_posts = (
                    columns.page_starts[page + 1] - columns.page_starts[page]
                    if page < len(columns.page_starts) - 1
                    else 0
                )
                self._make_room(code, int(n_posts))

    def drain(self) -> npt.NDArray[Any]:
        """Return the rows that are out since the last call, shape (n,), `OUT`."""
        self._empty_out()
        rows = np.concatenate([np.empty(0, dtype=OUT), *self._out])
        self._out = []
        return rows

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it as arrays: the rings' records from the oldest on, without what follows from their order."""
        self._empty_out()
        tables = self._tables
        state: dict[str, npt.NDArray[Any]] = {name: getattr(tables, name).copy() for name in _WHOLE}
        for name, (head, tail) in _HEADS.items():
            ring = getattr(tables, name)
            state[name] = ring[np.arange(tables.numbers[head], tables.numbers[tail]) & (len(ring) - 1)]
            for link in _LINKS.get(name, ()):
                state[name][link] = at.NONE
        state["numbers"] = tables.numbers.copy()
        state["numbers"][[at.LEAST_DUE, at.RELEASED]] = 0
        state["out"] = np.concatenate([np.empty(0, dtype=OUT), *self._out])
        return state

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        tables = new_tables(self._shape, self._config, _N_OUT)
        for name in _WHOLE:
            if name not in state or state[name].shape != getattr(tables, name).shape:
                raise StoreError(
                    "state of the join",
                    value=name,
                    problem="was made under other actions or settings",
                    remedy="restore it under the settings that it was made under, or begin anew",
                )
            getattr(tables, name)[:] = state[name]
        tables.numbers[:] = state["numbers"]
        tables.numbers[at.RELEASED] = tables.numbers[at.CURSOR]
        tables.numbers[[at.N_GROUPS, at.N_WAITING, at.N_OUT]] = 0
        rings: dict[str, npt.NDArray[Any]] = {}
        for name, (head, tail) in _HEADS.items():
            numbers = np.arange(tables.numbers[head], tables.numbers[tail])
            rings[name] = np.zeros(_size(len(numbers)), dtype=getattr(tables, name).dtype)
            rings[name][numbers & (len(rings[name]) - 1)] = state[name]
        n_groups = len(rings["looks"]) + len(rings["deeds"])
        tables = tables._replace(
            **rings,
            page_table=np.zeros(2 * len(rings["pages"]), dtype=np.int64),
            groups=np.zeros(2 * _size(n_groups), dtype=at.GROUP_RECORD),
        )
        fill_page_table(tables)
        regroup(tables)
        self._tables = tables
        self._out = [state["out"].copy()]

    def stats(self, names: tuple[str, ...]) -> JoinStats:
        """Return counts, and how things stand."""
        tables = self._tables
        numbers = tables.numbers.tolist()
        return JoinStats(
            **{f"n_{name}": numbers[at.COUNTS + place] for place, name in enumerate(COUNTERS)},
            watermark_ms=numbers[at.WATERMARK],
            newest_ms=numbers[at.NEWEST_MS],
            window_ms=numbers[at.WINDOW_MS],
            n_open_pages=numbers[at.PAGE_TAIL] - numbers[at.PAGE_HEAD],
            n_open_looks=numbers[at.LOOK_TAIL] - numbers[at.LOOK_HEAD],
            n_open_deeds=numbers[at.DEED_TAIL] - numbers[at.DEED_HEAD],
            n_waiting=numbers[at.N_WAITING],
            state_bytes=sum(array.nbytes for array in tables),
            delays_ms=delay_percentiles(tables.delays, names),
        )

    def _empty_out(self) -> None:
        n_out = int(self._tables.numbers[at.N_OUT])
        if n_out:
            self._out.append(self._tables.out[:n_out].copy())
            self._tables.numbers[at.N_OUT] = 0

    def _make_room(self, code: int, n_posts: int) -> None:
        tables = self._tables
        if code == NO_ROOM_FOR_OUT:
            self._empty_out()
            least = n_posts + self._config.max_looks_of_post + _N_OUT
            if len(tables.out) < least:
                self._tables = tables._replace(out=np.zeros(_size(least), dtype=OUT))
        elif code == NO_ROOM_FOR_PAGES:
            larger = tables._replace(
                pages=self._grown("pages"), page_table=np.zeros(4 * len(tables.pages), dtype=np.int64)
            )
            fill_page_table(larger)
            self._tables = larger
        elif code == NO_ROOM_FOR_POSTS:
            self._tables = tables._replace(posts=self._grown("posts", n_posts), gone=self._grown("gone", n_posts))
        elif code == NO_ROOM_FOR_LOOKS:
            self._tables = tables._replace(looks=self._grown("looks"))
        elif code == NO_ROOM_FOR_DEEDS:
            self._tables = tables._replace(deeds=self._grown("deeds"))
        elif code == NO_ROOM_FOR_GROUPS:
            larger = tables._replace(groups=np.zeros(2 * len(tables.groups), dtype=at.GROUP_RECORD))
            move_groups(larger, tables.groups)
            self._tables = larger

    def _grown(self, name: str, n_more: int = 1) -> npt.NDArray[Any]:
        ring = getattr(self._tables, name)
        head, tail = (int(self._tables.numbers[place]) for place in _HEADS[name])
        larger = np.zeros(_size(max(2 * len(ring), tail - head + n_more)), dtype=ring.dtype)
        copy_ring(ring, larger, head, tail)
        return larger


def _size(n: int) -> int:
    """Return the smallest size of a ring for so many records: a power of two."""
    return max(_LEAST_RING, 1 << max(n - 1, 0).bit_length())
