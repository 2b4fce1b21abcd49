"""`MemoryLog`: the `Log` contract in lists. For tests, simulations and tools; forgets everything with its process.

It is also the reference that the SQLite log is held against: every rule is written here the simplest way.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import LogFullError
from millrace.base.ids import Int64Array
from millrace.stream.dedup import ReferenceDuplicateWindow
from millrace.stream.log import (
    DUPLICATE_WINDOW,
    AppendResult,
    DeadLetter,
    Message,
    Position,
    RecordBatch,
)
from millrace.stream.partitions import partition_mask, partition_of
from millrace.stream.positions import (
    NO_COMMIT,
    check_count,
    check_messages,
    check_offset,
    consumer_is_closed,
    records_are_gone,
)
from millrace.stream.wanted_topics import WantedTopics


class MemoryLog:
    """A log in this process's memory, with one total order. Safe to use from several threads.

    Parameters
    ----------
    clock
        Stamps appends.
    n_partitions
        How many partitions keys are spread over.
    duplicate_window
        How many of the newest events are remembered for dropping duplicates.
    max_bytes
        Appends that would keep more event bytes than this are refused with `LogFullError`; None for no bound.
    """

    def __init__(
        self,
        clock: Clock,
        n_partitions: int = 16,
        *,
        duplicate_window: int = DUPLICATE_WINDOW,
        max_bytes: int | None = None,
    ) -> None:
        self._clock = clock
        self._n_partitions = n_partitions
        self._log_id = secrets.token_hex(8)
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._window = ReferenceDuplicateWindow(duplicate_window)
        self._begin = 0
        self._n_bytes = 0
        self._code_by_topic: dict[str, int] = {}
        # One entry per kept record; the record at place i has offset _begin + i.
        self._data: list[bytes] = []
        self._topics: list[int] = []
        self._partitions: list[int] = []
        self._appended_ms: list[int] = []
        self._commits: dict[str, list[int]] = {}
        self._letters: dict[int, DeadLetter] = {}
        self._last_letter_id = 0

    @property
    def log_id(self) -> str:
        """Drawn when the log was made."""
        return self._log_id

    @property
    def n_partitions(self) -> int:
        """How many partitions keys are spread over."""
        return self._n_partitions

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Keep messages, all or none; see `Log.append`."""
        check_messages(messages)
        partitions = [partition_of(message.key, self._n_partitions) for message in messages]
        with self._lock:
            n_more = sum(len(message.data) for message in messages)
            if self._max_bytes is not None and self._n_bytes + n_more > self._max_bytes:
                raise LogFullError(
                    "memory log",
                    value=f"{self._n_bytes + n_more} bytes",
                    problem=f"more than its bound of {self._max_bytes}",
                    remedy="trim it, or give it a larger bound",
                )
            is_new = self._window.admit([message.event_id for message in messages])
            offsets = np.full(len(messages), -1, dtype=np.int64)
            now_ms = self._clock.now_ms()
            for i in np.flatnonzero(is_new).tolist():
                message = messages[i]
                offsets[i] = self._begin + len(self._data)
                self._data.append(message.data)
                self._topics.append(self._code_by_topic.setdefault(message.topic, len(self._code_by_topic)))
                self._partitions.append(partitions[i])
                self._appended_ms.append(now_ms)
                self._n_bytes += len(message.data)
            return AppendResult(offsets, self.end())

    def subscribe(
        self,
        group: str,
        *,
        topics: Collection[str] | None = None,
        without: Collection[str] = (),
        partitions: Collection[int] | None = None,
        start: Position | None = None,
    ) -> MemoryConsumer:
        """Return a consumer; see `Log.subscribe`."""
        mask = partition_mask(partitions, self._n_partitions)
        wanted_partitions = None if mask is None else frozenset(np.flatnonzero(mask).tolist())
        with self._lock:
            if start is not None:
                offset = check_offset(start, self.end()[0])
            else:
                committed = self._commits.get(group, [NO_COMMIT] * self._n_partitions)
                own = range(self._n_partitions) if wanted_partitions is None else wanted_partitions
                offset = min(committed[p] if committed[p] != NO_COMMIT else self._begin for p in own)
        return MemoryConsumer(self, group, WantedTopics(topics, without), wanted_partitions, offset)

    def begin(self) -> Position:
        """Return the position of the oldest kept record."""
        return (self._begin,)

    def end(self) -> Position:
        """Return the position after the newest record."""
        with self._lock:
            return (self._begin + len(self._data),)

    def lag(self, group: str) -> int:
        """Return how many kept records the group has not committed yet."""
        with self._lock:
            committed = self._commits.get(group)
            if committed is None:
                return len(self._data)
            return sum(self._begin + place >= committed[partition] for place, partition in enumerate(self._partitions))

    def trim(self, before: Position) -> int:
        """Forget records before ``before``; return how many."""
        with self._lock:
            n_gone = max(check_offset(before, self.end()[0]) - self._begin, 0)
            self._n_bytes -= sum(map(len, self._data[:n_gone]))
            for column in (self._data, self._topics, self._partitions, self._appended_ms):
                del column[:n_gone]
            self._begin += n_gone
            return n_gone

    def purge(self, offsets: Int64Array) -> int:
        """Overwrite the data of single records with nothing; return how many changed."""
        n_changed = 0
        with self._lock:
            for place in (np.unique(offsets) - self._begin).tolist():
                if 0 <= place < len(self._data) and self._data[place]:
                    self._n_bytes -= len(self._data[place])
                    self._data[place] = b""
                    n_changed += 1
        return n_changed

    def dead_letter(self, letters: Sequence[tuple[str, str, str, bytes]]) -> None:
        """Keep refused messages: (topic, origin, reason, data) each."""
        with self._lock:
            now_ms = self._clock.now_ms()
            for topic, origin, reason, data in letters:
                self._last_letter_id += 1
                self._letters[self._last_letter_id] = DeadLetter(
                    self._last_letter_id, topic, origin, reason, bytes(data), now_ms
                )

    def dead_letters(self, *, after_id: int = 0) -> Iterator[DeadLetter]:
        """Yield the kept refused messages, oldest first."""
        with self._lock:
            letters = [letter for letter in self._letters.values() if letter.letter_id > after_id]
        yield from letters

    def remove_dead_letters(self, letter_ids: Sequence[int]) -> int:
        """Remove letters; return how many there were."""
        with self._lock:
            return sum(self._letters.pop(letter_id, None) is not None for letter_id in letter_ids)

    def flush(self) -> None:
        """Do nothing: there is no disk."""

    def close(self) -> None:
        """Do nothing: there are no files."""

    def read(
        self,
        offset: int,
        max_records: int,
        wanted: WantedTopics,
        partitions: frozenset[int] | None,
        before: int | None,
    ) -> RecordBatch:
        """Return up to ``max_records`` matching records from ``offset`` on (for `MemoryConsumer`)."""
        check_count(max_records)
        with self._lock:
            if offset < self._begin:
                raise records_are_gone(offset, self._begin)
            names = tuple(self._code_by_topic)
            codes = {code for topic, code in self._code_by_topic.items() if topic in wanted}
            places: list[int] = []
            place = offset - self._begin
            n_places = len(self._data) if before is None else min(before - self._begin, len(self._data))
            while place < n_places and len(places) < max_records:
                if self._topics[place] in codes and (partitions is None or self._partitions[place] in partitions):
                    places.append(place)
                place += 1
            return RecordBatch(
                offsets=np.array(places, dtype=np.int64) + self._begin,
                appended_ms=np.array([self._appended_ms[i] for i in places], dtype=np.int64),
                topics=np.array([self._topics[i] for i in places], dtype=np.int16),
                topic_names=names,
                data=tuple(self._data[i] for i in places),
                end=(self._begin + place,),
            )

    def commit(self, group: str, partitions: frozenset[int] | None, position: Position) -> None:
        """Remember what a group has applied (for `MemoryConsumer`)."""
        with self._lock:
            offset = check_offset(position, self.end()[0])
            committed = self._commits.setdefault(group, [NO_COMMIT] * self._n_partitions)
            for partition in range(self._n_partitions) if partitions is None else partitions:
                committed[partition] = offset


class MemoryConsumer:
    """A reader of a `MemoryLog`; made by `MemoryLog.subscribe`."""

    def __init__(
        self,
        log: MemoryLog,
        group: str,
        wanted: WantedTopics,
        partitions: frozenset[int] | None,
        offset: int,
    ) -> None:
        self._log = log
        self._group = group
        self._wanted = wanted
        self._partitions = partitions
        self._offset = offset
        self._is_open = True

    @property
    def position(self) -> Position:
        """The next record to poll."""
        return (self._offset,)

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records; see `Consumer.poll`."""
        self._check_open()
        last = None if before is None else before[0]
        batch = self._log.read(self._offset, max_records, self._wanted, self._partitions, last)
        self._offset = batch.end[0]
        return batch

    def commit(self, position: Position) -> None:
        """Record that the group has applied everything before ``position``."""
        self._check_open()
        self._log.commit(self._group, self._partitions, position)

    def seek(self, position: Position) -> None:
        """Poll from ``position`` next."""
        self._offset = check_offset(position, self._log.end()[0])

    def close(self) -> None:
        """Stop reading; commits stay."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise consumer_is_closed(self._group)
