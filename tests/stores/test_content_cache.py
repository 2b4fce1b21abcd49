from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from millrace.base.errors import StoreError
from millrace.stores.content_cache import ContentCache
from millrace.stores.content_database import encode
from millrace.stores.content_overlay import ContentReader
from millrace.stores.key_value import MemoryKeyValue
from millrace.stream.log import Position, total
from millrace.testing.builders import a_batch_of, a_post_created, a_post_edited, a_user_erased
from millrace.testing.content_contract import HASHER, ids, texts
from millrace.testing.told_clock import ToldClock

KEEP_S = 10.0


class FarReads:
    """A content server that stands still: posts by inside id; it can be away, and it can let one wait."""

    is_remote = True

    def __init__(self, position: int, *post_texts: str) -> None:
        self.at: Position = (position,)
        self.rows: dict[int, bytes | None] = {}
        for number, text in enumerate(post_texts, 1):
            content = a_batch_of([a_post_created(number, text=text)])
            from millrace.stores.content import created

            event = content.events[0]
            self.rows[int(ids(number)[0])] = encode(created(event, event.payload, 10**15))
        self.n_reads = 0
        self.is_away = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def position(self) -> Position:
        self.check()
        return self.at

    def posts(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes | None]]:
        self.n_reads += 1
        self.check()
        assert self.may_answer.wait(60)
        return total(self.at), {key: self.rows[key] for key in ids if key in self.rows}

    def profiles(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes]]:
        self.check()
        return total(self.at), {}

    def user_texts(self, ids: Sequence[int]) -> dict[int, str]:
        self.check()
        return {}

    def close(self) -> None:
        pass

    def check(self) -> None:
        if self.is_away:
            raise StoreError("content server", problem="cannot be reached", remedy="start it")


@pytest.fixture
def clock() -> ToldClock:
    return ToldClock()


def a_reader(reads: FarReads, clock: ToldClock, shared: MemoryKeyValue | None = None) -> ContentReader:
    cache = ContentCache(1_000_000, clock, keep_s=KEEP_S, shared=None if shared is None else lambda: shared)
    reader = ContentReader(reads, HASHER, cache=cache)
    reader.start_at(reads.at)
    return reader


def turn(reader: ContentReader, clock: ToldClock) -> None:
    clock.s += KEEP_S
    reader.refresh()


def test_what_was_read_is_not_read_again_and_later_events_are_laid_over_it(clock: ToldClock) -> None:
    reads = FarReads(2, "one", "two")
    reader = a_reader(reads, clock)
    assert texts(reader, 2, 1, 2, 3) == ["one", "two", None]
    reader.overlay.hear(a_batch_of([a_post_edited(1, text="edited"), a_post_created(3, text="new")], first_offset=2))
    assert texts(reader, 3, 1, 2, 3) == ["edited", "two", None]
    assert texts(reader, 4, 1, 2, 3) == ["edited", "two", "new"]
    assert reads.n_reads == 1


def test_what_is_in_use_stays_and_what_is_not_is_read_anew(clock: ToldClock) -> None:
    reads = FarReads(2, "one", "two")
    reader = a_reader(reads, clock)
    assert texts(reader, 2, 1, 2) == ["one", "two"]
    for row in range(2, 8):
        reader.overlay.hear(a_batch_of([a_post_edited(9, text="x")], first_offset=row))
        reads.at = (row + 1,)
        turn(reader, clock)
        assert texts(reader, row + 1, 1) == ["one"]
    assert reads.n_reads == 1
    assert texts(reader, 8, 1, 2) == ["one", "two"]
    assert reads.n_reads == 2


def test_after_an_erasure_nothing_from_before_it_is_used(clock: ToldClock) -> None:
    reads = FarReads(1, "one")
    reader = a_reader(reads, clock)
    texts(reader, 1, 1)
    reader.overlay.hear(a_batch_of([a_user_erased("somebody")], first_offset=1))
    assert [texts(reader, 2, 1) for _ in range(2)] == [["one"]] * 2
    assert reads.n_reads == 3  # as long as the server has not heard of it, nothing that it says may be kept
    reads.at = (2,)
    assert [texts(reader, 2, 1) for _ in range(2)] == [["one"]] * 2
    assert reads.n_reads == 4


def test_workers_share_what_they_have_read(clock: ToldClock) -> None:
    reads, shared = FarReads(2, "one"), MemoryKeyValue(clock)
    one, other = a_reader(reads, clock, shared), a_reader(reads, clock, shared)
    assert texts(one, 2, 1, 3) == texts(other, 2, 1, 3) == ["one", None]
    assert reads.n_reads == 1
    assert other.cache is not None
    assert (other.cache.posts.counts.n_shared, other.cache.posts.counts.n_store) == (2, 0)


def test_a_server_that_is_away_takes_only_what_is_not_at_hand(
    clock: ToldClock, caplog: pytest.LogCaptureFixture
) -> None:
    reads = FarReads(2, "one", "two")
    reader = a_reader(reads, clock)
    assert texts(reader, 2, 1) == ["one"]
    reader.overlay.hear(a_batch_of([a_post_created(3, text="new")], first_offset=2))
    reads.is_away = True
    assert texts(reader, 3, 1, 2, 3) == ["one", None, "new"]
    assert reader.is_covered()
    turn(reader, clock)
    turn(reader, clock)
    assert texts(reader, 3, 1, 3) == ["one", "new"]
    assert reader.cache is not None
    assert reader.cache.posts.n_unread == 3
    assert "cannot be reached" in caplog.text
    reads.is_away = False
    assert texts(reader, 3, 1, 2, 3) == ["one", "two", "new"]


def test_a_server_that_is_slow_takes_only_what_is_not_at_hand(clock: ToldClock) -> None:
    reads = FarReads(2, "one", "two")
    reader = a_reader(reads, clock)
    assert texts(reader, 2, 1) == ["one"]
    reads.may_answer.clear()

    async def ask() -> list[str | None]:
        found = await reader.posts_async(ids(1, 2), (2,), 0.001)
        reads.may_answer.set()
        return [post and post.text for post in found] + [
            post and post.text for post in await reader.posts_async(ids(1, 2), (2,), 60)
        ]

    assert asyncio.run(ask()) == ["one", None, "one", "two"]
    assert reads.n_reads == 2  # the reading that was too late was of use to the next
    reader.close()
