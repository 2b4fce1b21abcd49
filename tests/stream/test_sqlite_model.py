"""The SQLite log does what the memory log does, whatever is asked of both."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.base.errors import LogError
from millrace.stream.log import Consumer, Message, RecordBatch
from millrace.stream.memory_log import MemoryLog
from millrace.stream.sqlite_log import SqliteLog

N_PARTITIONS = 3
WINDOW = 6

EVENT = st.tuples(st.integers(0, 15), st.sampled_from(["t.a", "t.b", "t.c"]), st.sampled_from(["", "k1", "k2", "k3"]))
STEP = st.one_of(
    st.tuples(st.just("append"), st.lists(EVENT, max_size=9)),
    st.tuples(st.just("append"), st.lists(EVENT, min_size=1, max_size=2)),
    st.tuples(st.just("poll"), st.integers(0, 2), st.integers(1, 7)),
    st.tuples(st.just("commit"), st.integers(0, 2)),
    st.tuples(st.just("seek"), st.integers(0, 2), st.integers(-1, 30)),
    st.tuples(st.just("trim"), st.integers(0, 30)),
    st.tuples(st.just("purge"), st.lists(st.integers(0, 30), max_size=4)),
    st.tuples(st.just("reopen")),
)


class Pair:
    """Both logs, with three consumers each."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(100)
        self.path = folder / "log.db"
        self.memory = MemoryLog(self.clock, N_PARTITIONS, duplicate_window=WINDOW)
        self.memory_consumers = consumers_of(self.memory)
        self.open()

    def open(self) -> None:
        self.sqlite = SqliteLog(self.path, self.clock, N_PARTITIONS, duplicate_window=WINDOW, min_free_bytes=0)
        self.sqlite_consumers = consumers_of(self.sqlite)

    def close(self) -> None:
        for consumer in self.sqlite_consumers:
            consumer.close()
        self.sqlite.close()

    def append(self, events: list[tuple[int, str, str]]) -> None:
        self.clock.advance_ms(1)
        batch = [Message(topic, key, f"e{i}", 0, f"{i}{topic}{key}".encode()) for i, topic, key in events]
        one, two = self.memory.append(batch), self.sqlite.append(batch)
        assert one.offsets.tolist() == two.offsets.tolist()
        assert one.end == two.end

    def poll(self, i: int, max_records: int) -> None:
        assert outcome(self.memory_consumers[i], max_records) == outcome(self.sqlite_consumers[i], max_records)

    def commit(self, i: int) -> None:
        for consumer in (self.memory_consumers[i], self.sqlite_consumers[i]):
            consumer.commit(consumer.position)

    def seek(self, i: int, offset: int) -> None:
        if 0 <= offset <= self.memory.end()[0]:
            for consumer in (self.memory_consumers[i], self.sqlite_consumers[i]):
                consumer.seek((offset,))
        else:
            for consumer in (self.memory_consumers[i], self.sqlite_consumers[i]):
                with pytest.raises(LogError):
                    consumer.seek((offset,))

    def trim(self, before: int) -> None:
        before = min(before, self.memory.end()[0])
        assert self.memory.trim((before,)) == self.sqlite.trim((before,))

    def purge(self, offsets: list[int]) -> None:
        wanted = np.array(offsets, dtype=np.int64)
        assert self.memory.purge(wanted) == self.sqlite.purge(wanted)

    def reopen(self) -> None:
        self.close()
        self.open()
        self.memory_consumers = consumers_of(self.memory)

    def check(self) -> None:
        assert self.memory.begin() == self.sqlite.begin()
        assert self.memory.end() == self.sqlite.end()
        assert [self.memory.lag(g) for g in "gh"] == [self.sqlite.lag(g) for g in "gh"]
        for one, two in zip(self.memory_consumers, self.sqlite_consumers, strict=True):
            assert one.position == two.position


def consumers_of(log: MemoryLog | SqliteLog) -> list[Consumer]:
    return [
        log.subscribe("g", partitions=[0, 2]),
        log.subscribe("g", partitions=[1]),
        log.subscribe("h", topics=["t.b", "t.c"]),
    ]


def outcome(consumer: Consumer, max_records: int) -> object:
    try:
        return plain(consumer.poll(max_records))
    except LogError as error:
        return str(error)


def plain(batch: RecordBatch) -> object:
    topics = [batch.topic_names[code] for code in batch.topics]
    return batch.offsets.tolist(), batch.appended_ms.tolist(), topics, batch.data, batch.end


@given(st.lists(STEP, max_size=25))
@settings(max_examples=50, deadline=None)
def test_both_logs_agree(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        for name, *arguments in steps:
            getattr(pair, str(name))(*arguments)
            pair.check()
        pair.close()
