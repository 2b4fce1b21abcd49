"""`RedisConsumer`: reads a `RedisLog`'s records in order, and commits how far a group has come.

What an entry of the stream tells (topics, partitions) is read first, its data only where a record of it is wanted:
topics that nobody here reads cost no transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import LogError
from millrace.base.ids import Int64Array
from millrace.stream import redis_scripts
from millrace.stream.log import Position, RecordBatch
from millrace.stream.positions import check_count, check_offset, consumer_is_closed, records_are_gone
from millrace.stream.redis_server import RedisServer
from millrace.stream.wanted_topics import WantedTopics

BoolArray = npt.NDArray[np.bool_]

_NO_LIMIT: Final = (1 << 53) - 1
_ROWS_PER_READ: Final = 64


@dataclass(frozen=True, slots=True)
class _Pick:
    """What one row of the log gives to a poll."""

    row: bytes
    first: int
    appended_ms: int
    topics: npt.NDArray[np.int16]
    places: Int64Array


class RedisConsumer:
    """A reader of a `RedisLog`; made by `RedisLog.subscribe`. Shares the log's connections.

    Parameters
    ----------
    server
        Where the log is.
    group
        Whose commits to write.
    topics, without
        Names wanted, None for all; and names that are not.
    partitions
        Which partitions are wanted, shape (n_partitions,); None for all.
    n_partitions
        Of the log.
    start
        The first offset to read; None for where the group committed, or else the oldest kept record.
    """

    def __init__(
        self,
        server: RedisServer,
        group: str,
        topics: Iterable[str] | None,
        without: Iterable[str],
        partitions: BoolArray | None,
        n_partitions: int,
        start: Position | None,
    ) -> None:
        self._server = server
        self._group = group
        self._wanted = WantedTopics(topics, without)
        self._own = np.ones(n_partitions, dtype=np.bool_) if partitions is None else partitions
        # Where each partition is read from; a member that is given a partition later begins there earlier.
        self._floors = np.zeros(n_partitions, dtype=np.int64)
        self._topic_names: tuple[str, ...] = ()
        self._is_wanted: BoolArray = np.zeros(0, dtype=np.bool_)
        # The data of a row that a small poll did not use up, valid until something is purged.
        self._kept: tuple[bytes, bytes, bytes] | None = None
        self._is_open = True
        self._offset = self._start(start)

    @property
    def position(self) -> Position:
        """The next record to poll."""
        return (self._offset,)

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records, at once, perhaps none; see `Consumer.poll`.

        Raises
        ------
        LogError
            If the next records were trimmed: a reader is never moved over a gap silently. Or if the server has lost
            records that this reader had read.
        """
        check_count(max_records)
        self._check_open()
        limit = _NO_LIMIT if before is None else before[0]
        picks: list[_Pick] = []
        position, n_wanted, purges, is_more = self._offset, max_records, b"", limit > self._offset
        with self._server.errors():
            while is_more and n_wanted:
                rows, begin, purges = self._rows(position, min(n_wanted, _ROWS_PER_READ))
                if position < begin:
                    raise records_are_gone(position, begin)
                is_more = len(rows) == min(n_wanted, _ROWS_PER_READ)
                for row, (_, stamp, _, codes, _, partitions) in rows:
                    pick, position = self._pick((row, stamp, codes, partitions), position, n_wanted, limit)
                    if len(pick.places):
                        picks.append(pick)
                        n_wanted -= len(pick.places)
                    if position >= limit or not n_wanted:
                        is_more = False
                        break
            data = self._read_data(picks, purges)
        self._offset = position
        return RecordBatch(
            offsets=_joined([p.places + p.first for p in picks], np.int64),
            appended_ms=_joined([np.full(len(p.places), p.appended_ms) for p in picks], np.int64),
            topics=_joined([p.topics[p.places] for p in picks], np.int16),
            topic_names=self._topic_names,
            data=tuple(data),
            end=(position,),
        )

    def commit(self, position: Position) -> None:
        """Record that the group has applied everything before ``position``; as durable as an append."""
        self._check_open()
        offset = check_offset(position, self._server.range()[1])
        pairs = [number for partition in np.flatnonzero(self._own).tolist() for number in (partition, offset)]
        keys = self._server.keys
        self._server.run(
            redis_scripts.COMMIT,
            [keys.commits(self._group), keys.groups, keys.leases(self._group)],
            [self._group, "", *pairs],
        )

    def seek(self, position: Position) -> None:
        """Poll from ``position`` next."""
        self._offset = check_offset(position, self._server.range()[1])

    def close(self) -> None:
        """Stop reading; commits stay."""
        self._is_open = False
        self._kept = None

    def _start(self, start: Position | None) -> int:
        begin, end = self._server.range()
        if start is not None:
            return check_offset(start, end)
        committed = self._server.committed(self._group)
        return min(committed.get(partition, begin) for partition in np.flatnonzero(self._own).tolist())

    def _rows(self, position: int, n: int) -> tuple[list[tuple[bytes, Sequence[bytes]]], int, bytes]:
        """Return the next entries, where the log begins, and how often something was purged: all of one moment."""
        keys = self._server.keys
        pipe: Any = self._server.client.pipeline(transaction=True)
        pipe.hmget(keys.meta, "log_id", "begin", "end", "purges")
        pipe.execute_command("XRANGE", keys.records, f"({position}", "+", "COUNT", n)
        meta, rows = pipe.execute()
        begin, end = self._server.checked_range(meta)
        if position > end:
            raise LogError(
                "log server",
                value=self._server.shown_url,
                problem=f"ends at {end} and was read up to {position}: it has lost acknowledged records",
                remedy="start again from a checkpoint within the log; run the server with appendfsync always",
            )
        return rows, begin, meta[3]

    def _pick(
        self, row: tuple[bytes, bytes, bytes, bytes], position: int, n_wanted: int, limit: int
    ) -> tuple[_Pick, int]:
        """Return what is wanted of an entry from ``position`` on, and the position after that."""
        entry_id, stamp, codes, partitions = row
        name = entry_id.partition(b"-")[0]
        topics = np.frombuffer(codes, dtype="<i2").astype(np.int16)
        end = int(name)
        first = end - len(topics)
        if len(topics) and int(topics.max()) >= len(self._topic_names):
            self._learn_topics()
        own = np.frombuffer(partitions, dtype="<u2")
        offsets = np.arange(first, end)
        is_wanted = self._is_wanted[topics] & self._own[own] & (offsets >= self._floors[own])
        places = np.flatnonzero(is_wanted & (offsets >= position) & (offsets < limit)).astype(np.int64)[:n_wanted]
        position = first + int(places[-1]) + 1 if len(places) == n_wanted else min(end, limit)
        return _Pick(name, first, int(stamp), topics, places), position

    def _learn_topics(self) -> None:
        found: dict[bytes, bytes] = self._server.client.hgetall(self._server.keys.topics)
        names = sorted((int(code), name.decode()) for name, code in found.items())
        self._topic_names = tuple(name for _, name in names)
        self._is_wanted = self._wanted.mask(self._topic_names)

    def _read_data(self, picks: list[_Pick], purges: bytes) -> list[bytes]:
        if not picks:
            return []
        kept, self._kept = self._kept, None
        is_kept = kept is not None and kept[:2] == (purges, picks[0].row)
        values = [kept[2]] if kept is not None and is_kept else self._values(picks[:1])
        values += self._values(picks[1:])
        data: list[bytes] = []
        for pick, value in zip(picks, values, strict=True):
            lengths = np.frombuffer(value, dtype="<u4", count=len(pick.topics))
            ends = np.cumsum(lengths, dtype=np.int64) + lengths.nbytes
            starts = (ends - lengths)[pick.places].tolist()
            data.extend([value[a:b] for a, b in zip(starts, ends[pick.places].tolist(), strict=True)])
        self._kept = (purges, picks[-1].row, values[-1])
        return data

    def _values(self, picks: list[_Pick]) -> list[bytes]:
        if not picks:
            return []
        values = self._server.client.hmget(self._server.keys.data, [pick.row for pick in picks])
        if any(value is None for value in values):  # trimmed since the entries were read
            raise records_are_gone(picks[0].first, self._server.range()[0])
        return list(values)

    def _check_open(self) -> None:
        if not self._is_open:
            raise consumer_is_closed(self._group)


def _joined(parts: list[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
