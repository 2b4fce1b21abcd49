"""The `Log` contract: what every implementation promises. Shared test suite: `millrace.testing.log_contract`.

Delivery is at least once; order is kept per key (embedded logs keep one total order over all topics). An append
is acknowledged only when it is durable, and whole or not at all. A producer's duplicate event id within the
duplicate window (the newest `DUPLICATE_WINDOW` events) is dropped, also after a restart and across processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from millrace.base.errors import LogError
from millrace.base.ids import Int64Array

DUPLICATE_WINDOW: Final = 1 << 20
"""How many of the newest events are remembered for dropping duplicates."""

Position = tuple[int, ...]
"""A point in the log: one number per independent order of the log, the offset of the next event to read.

Embedded logs have one total order, so one number; ``(0,)`` is their beginning. Distributed logs have one number
per partition. Stamped on `Served` as ``state_offset``.
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One event as the log takes it: encoded already, with what the log itself must know."""

    topic: str
    key: str
    event_id: str
    event_time_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of an append, message by message, in order.

    Attributes
    ----------
    offsets
        Shape (n,), int64; -1 for a dropped duplicate.
    end
        The position after the append.
    """

    offsets: Int64Array
    end: Position

    @property
    def n_appended(self) -> int:
        """How many messages were new."""
        return int((self.offsets >= 0).sum())

    @property
    def n_duplicates(self) -> int:
        """How many were dropped as duplicates."""
        return int((self.offsets < 0).sum())


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of a log, columns side by side, in log order.

    Attributes
    ----------
    offsets
        Shape (n,), int64, ascending in embedded logs.
    appended_ms
        Shape (n,), int64: the appender's event-time clock at the append; bounds skewed event times.
    topics
        Shape (n,), int16: codes into ``topic_names``.
    data
        The encoded events; purged ones are empty bytes.
    end
        The position to commit once these records are applied (also moves over records of other topics).
    """

    offsets: Int64Array
    appended_ms: Int64Array
    topics: np.ndarray[tuple[int], np.dtype[np.int16]]
    topic_names: tuple[str, ...]
    data: tuple[bytes, ...]
    end: Position

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be used, kept with the reason so that it can be replayed.

    Attributes
    ----------
    letter_id
        Given by the log, ascending.
    topic
        Where it was meant to go; empty if even that is unknown.
    origin
        Who refused it: ``"door/<source>"`` (raw client bytes) or ``"group/<name>"`` (an encoded event).
    reason
        The error's message.
    data
        The bytes as they came.
    refused_at_ms
        When.
    """

    letter_id: int
    topic: str
    origin: str
    reason: str
    data: bytes
    refused_at_ms: int


class Consumer(Protocol):
    """A reader with a place in the log. Not shared between threads."""

    @property
    def position(self) -> Position:
        """The next record to poll."""

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records, at once, perhaps none; advances `position`, not the group's commit.

        None is at or after ``before``, and `position` does not come to lie after it, whatever is passed over.
        """

    def commit(self, position: Position) -> None:
        """Record durably that the group has applied everything before ``position``."""

    def seek(self, position: Position) -> None:
        """Poll from ``position`` next."""

    def close(self) -> None:
        """Release what the consumer holds; its commits stay."""


class PartitionsMovedError(LogError):
    """A member's partitions were given to others: what it read since its last commit comes again, perhaps elsewhere."""


class Member(Consumer, Protocol):
    """A consumer that shares the partitions of a log with the other members of its group.

    Each partition has one reader at a time, so a key's events stay in order. Shares change at polls, as members come,
    leave or die; who is given a partition begins where the group has committed it, so that what a member had read
    and not committed comes again elsewhere. A member commits the end of its newest batch once all it was given is
    applied; a commit that comes too late raises `PartitionsMovedError`, and the member polls on.
    """

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that were this member's at its newest poll."""


class Log(Protocol):
    """An ordered, durable, replayable stream of encoded events. Any process may append."""

    @property
    def log_id(self) -> str:
        """Drawn when the log was made; checkpoints name it, so that none is used with another log."""

    @property
    def n_partitions(self) -> int:
        """How many partitions keys are spread over."""

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Make messages durable, all or none.

        Raises
        ------
        LogFullError
            If there is no room; nothing was acknowledged and nothing is visible.
        LogError
            If the log cannot be written for another reason; likewise.
        """

    def subscribe(
        self,
        group: str,
        *,
        topics: Collection[str] | None = None,
        without: Collection[str] = (),
        partitions: Collection[int] | None = None,
        start: Position | None = None,
    ) -> Consumer:
        """Return a consumer of some topics (default: all, but those of ``without``) and partitions (default: all).

        What it does not want is passed over unread.

        It begins at ``start``, or else where the group committed, or else at the oldest kept record.
        """

    def begin(self) -> Position:
        """Return the position of the oldest kept record."""

    def end(self) -> Position:
        """Return the position after the newest record."""

    def lag(self, group: str) -> int:
        """Return how many records the group has not committed yet (all, for a group that never committed)."""

    def trim(self, before: Position) -> int:
        """Forget records before ``before``; return how many. The caller keeps this behind its oldest checkpoint."""

    def purge(self, offsets: Int64Array) -> int:
        """Overwrite the data of single records with nothing (erasure); offsets stay. Return how many changed."""

    def dead_letter(self, letters: Sequence[tuple[str, str, str, bytes]]) -> None:
        """Keep refused messages: (topic, origin, reason, data) each."""

    def dead_letters(self, *, after_id: int = 0) -> Iterator[DeadLetter]:
        """Yield the kept refused messages, oldest first."""

    def remove_dead_letters(self, letter_ids: Sequence[int]) -> int:
        """Remove letters (after their replay); return how many there were."""

    def flush(self) -> None:
        """Return once everything appended so far is on disk."""

    def close(self) -> None:
        """Close files and connections."""


class SharedLog(Log, Protocol):
    """A log on servers, whose groups may have members in several processes."""

    def join(self, group: str, *, topics: Collection[str] | None = None, without: Collection[str] = ()) -> Member:
        """Return a new member of a group; its first polls give it a share of the partitions."""


def total(position: Position) -> int:
    """Return one number that grows with every record: for lag and for display."""
    return sum(position)
