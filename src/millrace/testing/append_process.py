"""A process that appends to a log and says what was acknowledged, append by append. Run, and killed, by tests."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from millrace.base.clock import SystemClock
from millrace.stream.log import Message
from millrace.stream.sqlite_log import SqliteLog


def append_events(said: Connection, path: Path, *, seed: int, events: int, batch: int, window: int = 1 << 20) -> None:
    """Append the events ``e0``, ``e1``, ... in an order that the seed draws.

    Parameters
    ----------
    said
        The other end is told that this one is ready, and begins it; then it hears the offset by event of each append.
    path
        The log's file.
    seed, events, batch
        Draws the order; how many there are; how many are appended at once.
    window
        The log's duplicate window.
    """
    log = SqliteLog(path, SystemClock(), duplicate_window=window, min_free_bytes=0)
    said.send("ready")
    said.recv()  # several processes begin at the word of the test
    order = np.random.default_rng(seed).permutation(events).tolist()
    for start in range(0, events, batch):
        ids = [f"e{i}" for i in order[start : start + batch]]
        result = log.append([Message("t", i, i, 0, f"{i}:{seed}".encode()) for i in ids])
        accepted = dict(zip(ids, result.offsets.tolist(), strict=True))
        said.send({i: offset for i, offset in accepted.items() if offset >= 0})
    log.close()
