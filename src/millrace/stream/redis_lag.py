"""How far a group of a `RedisLog` is behind: partitions may be committed by different members."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.stream.redis_server import RedisServer

_ROWS_PER_READ: Final = 256


def lag_of(server: RedisServer, group: str, n_partitions: int) -> int:
    """Return how many kept records a group has not committed.

    Counted from two numbers where all partitions are committed alike; else the entries in between are looked at.
    """
    begin, end = server.range()
    found = server.committed(group)
    committed = np.array([found.get(partition, begin) for partition in range(n_partitions)], dtype=np.int64)
    committed = np.clip(committed, begin, end)
    oldest, newest = int(committed.min()), int(committed.max())
    n_behind = end - newest
    while oldest < newest:
        with server.errors():
            rows = server.client.xrange(server.keys.records, f"({oldest}", "+", count=_ROWS_PER_READ)
        for name, fields in rows:
            partitions = np.frombuffer(fields[5], dtype="<u2")
            stop = int(name.partition(b"-")[0])
            offsets = np.arange(stop - len(partitions), stop)
            n_behind += int(np.count_nonzero((offsets >= committed[partitions]) & (offsets < newest)))
            oldest = stop
        if not rows:
            break
    return n_behind
