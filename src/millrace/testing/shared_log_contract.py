"""What every `SharedLog` must do: subclass `SharedLogContract`, give it a ``make_log`` fixture, and pytest runs it.

``make_log(n_partitions=...)`` returns an empty log that is closed after the test.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import pytest

from millrace.base.errors import LogError
from millrace.stream.log import Member, PartitionsMovedError, SharedLog
from millrace.stream.partitions import partition_of
from millrace.testing.log_contract import a_message

N_PARTITIONS = 4
_PATIENCE_S = 60.0


class MakeSharedLog(Protocol):
    """Returns an empty log."""

    def __call__(self, *, n_partitions: int = 16, duplicate_window: int = 1 << 20) -> SharedLog:
        """Make it."""


def key_of(partition: int, n_partitions: int = N_PARTITIONS) -> str:
    """Return a key of a partition."""
    return next(key for key in map(str, itertools.count()) if partition_of(key, n_partitions) == partition)


def poll_until(is_so: Callable[[], bool], *members: Member) -> list[str]:
    """Let members poll in turns, and commit, until something is so; return what they read, as text."""
    read: list[str] = []
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, [sorted(member.partitions) for member in members]
        for member in members:
            batch = member.poll(100)
            read += [data.decode() for data in batch.data]
            with contextlib.suppress(PartitionsMovedError):  # then it comes again
                member.commit(batch.end)
    return read


def shares_are_fair(*members: Member) -> bool:
    """Whether all partitions are spread over the members, as evenly as can be."""
    sizes = [len(member.partitions) for member in members]
    spread = sorted(itertools.chain.from_iterable(member.partitions for member in members))
    return spread == list(range(N_PARTITIONS)) and max(sizes) - min(sizes) <= 1


def append_to_all(log: SharedLog, numbers: Sequence[int]) -> set[str]:
    """Append ``partition:number`` to every partition for every number; return all of them."""
    texts = {f"{partition}:{number}" for number in numbers for partition in range(N_PARTITIONS)}
    for number in numbers:
        log.append([a_message(f"{p}:{number}", key=key_of(p)) for p in range(N_PARTITIONS)])
    return texts


class SharedLogContract:
    """Behaviour of groups whose members share partitions."""

    def test_members_share_take_over_and_lose_nothing(self, make_log: MakeSharedLog) -> None:
        """One has all, two have half each, one leaves and the other goes on where it had committed."""
        log = make_log(n_partitions=N_PARTITIONS)
        first = append_to_all(log, range(3))
        one = log.join("g")
        read: list[str] = []
        assert read == []
        read += poll_until(lambda: len(one.partitions) == N_PARTITIONS, one)
        read += poll_until(lambda: log.lag("g") == 0, one)
        assert set(read) == first
        two = log.join("g")
        poll_until(lambda: shares_are_fair(one, two), one, two)
        second = append_to_all(log, range(3, 6))
        by_both = poll_until(lambda: log.lag("g") == 0, one, two)
        assert set(by_both) >= second
        third = append_to_all(log, range(6, 8))
        batch = two.poll(100)
        assert {int(data.decode().split(":")[0]) for data in batch.data} <= set(two.partitions)
        two.close()  # without a commit: what it read comes again at the other
        rest = poll_until(lambda: len(one.partitions) == N_PARTITIONS and log.lag("g") == 0, one)
        assert set(rest) == third
        for partition in range(N_PARTITIONS):  # in order: perhaps from a commit on once more, never with a gap
            numbers = [int(text.split(":")[1]) for text in rest if text.startswith(f"{partition}:")]
            assert all(after <= before + 1 for before, after in itertools.pairwise([5, *numbers]))
        one.close()

    def test_a_member_commits_its_newest_batch_and_cannot_be_moved(self, make_log: MakeSharedLog) -> None:
        """Its partitions come and go: a position of its own choice would skip others' records."""
        log = make_log(n_partitions=N_PARTITIONS)
        member = log.join("g")
        poll_until(lambda: len(member.partitions) == N_PARTITIONS, member)
        append_to_all(log, range(2))
        before = member.position
        poll_until(lambda: member.position != before, member)
        with pytest.raises(LogError, match="newest batch"):
            member.commit(before)
        with pytest.raises(LogError, match="cannot be moved"):
            member.seek(log.begin())
        member.close()
        with pytest.raises(LogError, match="closed"):
            member.poll(1)
