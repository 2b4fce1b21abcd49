"""Snapshots of a run between two slices: the world, the feedback under way, and how far log and records had come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.events.envelope import AnyEvent
from millrace.simulator.delivery import Delivery
from millrace.simulator.world import World

_META: Final = "meta"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says besides the world.

    Attributes
    ----------
    start_ms
        Virtual time at which the next slice begins.
    log_position
        The log offset that the feed's state stood at.
    n_slices, n_pages, n_sessions
        How far the records had come.
    under_way
        Feedback that has not arrived: (time of arrival, encoded event).
    """

    start_ms: int
    log_position: int
    n_slices: int = 0
    n_pages: int = 0
    n_sessions: int = 0
    under_way: tuple[tuple[int, bytes], ...] = ()


def write_snapshot(path: Path, snapshot: Snapshot, world: World) -> None:
    """Write a snapshot in the place of an older one; whoever reads meanwhile sees one or the other, whole."""
    arrays: dict[str, npt.NDArray[Any]] = {_META: np.frombuffer(msgspec.json.encode(snapshot), dtype=np.uint8)}
    for part, columns in world.arrays().items():
        arrays.update({f"{part}/{name}": values for name, values in columns.items()})
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    fresh.replace(path)


def read_snapshot(path: Path, world: World) -> Snapshot:
    """Let a world become what it was, and return the rest."""
    with np.load(path, allow_pickle=False) as file:
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for name in file.files:
            if name != _META:
                part, _, column = name.partition("/")
                parts.setdefault(part, {})[column] = file[name]
        world.load(parts)
        return msgspec.json.decode(file[_META].tobytes(), type=Snapshot)


def under_way(delivery: Delivery, encode: Callable[[AnyEvent], bytes]) -> tuple[tuple[int, bytes], ...]:
    """Return feedback under way as a snapshot keeps it."""
    return tuple((arrives_ms, encode(event)) for arrives_ms, event in delivery.under_way)
