"""Trimming and purging a `SqliteLog`: both overwrite what they remove, and hold the write lock only in slices."""

from __future__ import annotations

import sqlite3
from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.stream.sqlite_file import transaction

_ROWS_PER_SLICE: Final = 1024
# Little enough for the room that log.min_free_bytes keeps free: a full disk can still be trimmed.
_BYTES_PER_SLICE: Final = 8 << 20


def trim_before(connection: sqlite3.Connection, before: int) -> int:
    """Forget records with offsets below ``before``; return how many."""
    n_gone, is_more = 0, True
    while is_more:
        with transaction(connection):
            rows = connection.execute(
                "SELECT end_offset, n, length(data) FROM batches WHERE end_offset <= ? ORDER BY end_offset LIMIT ?",
                (before, _ROWS_PER_SLICE),
            ).fetchall()
            n_bytes, last = 0, 0
            for end, n, size in rows:
                if n_bytes + size > _BYTES_PER_SLICE and last:
                    break
                n_bytes, last, n_gone = n_bytes + size, end, n_gone + n
            connection.execute("DELETE FROM batches WHERE end_offset <= ?", (last,))
            is_more = bool(rows)
            if not is_more:
                n_gone += _cut_row(connection, before)
    return n_gone


def purge_offsets(connection: sqlite3.Connection, offsets: Int64Array) -> int:
    """Overwrite the data of single records with nothing; return how many had any."""
    wanted = np.unique(offsets)
    n_changed = 0
    while len(wanted):
        n_bytes = 0
        with transaction(connection):
            while len(wanted) and n_bytes < _BYTES_PER_SLICE:
                row = connection.execute(
                    "SELECT end_offset, end_offset - n, lengths, data FROM batches WHERE end_offset > ? "
                    "ORDER BY end_offset LIMIT 1",
                    (int(wanted[0]),),
                ).fetchone()
                if row is None:
                    wanted = wanted[:0]
                    break
                end, first, lengths, data = row
                here = wanted[(wanted >= first) & (wanted < end)] - first
                wanted = wanted[wanted >= end]
                n_changed += _empty_records(connection, end, lengths, data, here)
                n_bytes += len(data)
    if n_changed:
        # The write-ahead log still holds what was there before; moving it into the file cuts it to nothing.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return n_changed


def _empty_records(connection: sqlite3.Connection, end: int, lengths: bytes, data: bytes, rows: Int64Array) -> int:
    sizes = np.frombuffer(lengths, dtype="<u4").copy()
    n_changed = int(np.count_nonzero(sizes[rows]))
    if not n_changed:
        return 0
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    starts = [0, *ends[:-1]]
    gone = set(rows.tolist())
    rest = b"".join([data[a:b] for row, (a, b) in enumerate(zip(starts, ends, strict=True)) if row not in gone])
    sizes[rows] = 0
    connection.execute("UPDATE batches SET lengths = ?, data = ? WHERE end_offset = ?", (sizes.tobytes(), rest, end))
    return n_changed


def _cut_row(connection: sqlite3.Connection, before: int) -> int:
    """Shorten the row that begins before ``before`` and ends after it, if there is one; return how many went."""
    row = connection.execute(
        "SELECT end_offset, n, topics, partitions, lengths, data FROM batches WHERE end_offset > ? "
        "ORDER BY end_offset LIMIT 1",
        (before,),
    ).fetchone()
    if row is None or row[0] - row[1] >= before:
        return 0
    end, n, topics, partitions, lengths, data = row
    n_gone = before - (int(end) - int(n))
    n_bytes = int(np.frombuffer(lengths, dtype="<u4")[:n_gone].sum(dtype=np.int64))
    connection.execute(
        "UPDATE batches SET n = ?, topics = ?, partitions = ?, lengths = ?, data = ? WHERE end_offset = ?",
        (n - n_gone, topics[2 * n_gone :], partitions[2 * n_gone :], lengths[4 * n_gone :], data[n_bytes:], end),
    )
    return n_gone
