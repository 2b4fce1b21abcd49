"""`FeedState`: all folds together; replayed equals live, byte for byte, wherever it was cut and restored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.content.config import ContentConfig
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry
from millrace.mixer.feed_state import FeedState
from millrace.stores.checkpoint import Checkpoints
from millrace.stores.config import StoresConfig
from millrace.stores.replica import Replica
from millrace.stores.replica_config import ReplicaConfig
from millrace.stores.state import State
from millrace.stream.collector import Collector
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import NOW_MS
from millrace.testing.strategies import event_sequences

CODEC = EventCodec(EventRegistry())
CLOCK = ManualClock(NOW_MS)


def a_state() -> FeedState:
    return FeedState(StoresConfig(), content=ContentConfig(max_posts=5))


def a_replica(log: MemoryLog, folder: Path, catch_up_records: int = 4096) -> Replica[FeedState]:
    config = ReplicaConfig(catch_up_records=catch_up_records)
    return Replica(log, CODEC.decode, a_state, Checkpoints(folder, "f"), clock=CLOCK, config=config)


def a_log(events: Sequence[AnyEvent]) -> MemoryLog:
    log = MemoryLog(CLOCK)
    receipt = Collector(log, CODEC, CLOCK).submit(events)
    assert receipt.n_refused == 0
    return log


def bytes_of(replica: Replica[FeedState]) -> dict[str, bytes]:
    return {
        f"{store}/{name}": array.tobytes()
        for store, arrays in replica.arrays().items()
        for name, array in arrays.items()
    }


def test_it_has_every_store_and_the_texts_once() -> None:
    names = [fold.name for fold in a_state().folds()]
    assert names == [*(fold.name for fold in State(StoresConfig()).folds()), "texts", "profile_texts", "near_line"]
    assert len(set(names)) == len(names)


@settings(max_examples=25, deadline=None)
@given(event_sequences(), st.data())
def test_a_restored_state_equals_a_replayed_one(
    tmp_path_factory: pytest.TempPathFactory, events: list[AnyEvent], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    log = a_log(events)
    live = a_replica(log, folder, data.draw(st.integers(1, 40), label="records a step"))
    for _ in range(data.draw(st.integers(0, 4), label="steps before the checkpoint")):
        live.step(live.config.catch_up_records)
    live.write_checkpoint(NOW_MS)
    live.catch_up()
    restored = a_replica(log, folder, data.draw(st.integers(1, 40), label="records a step after it"))
    assert restored.restore() is not None
    restored.catch_up()
    replayed = a_replica(log, folder)
    replayed.catch_up()
    assert bytes_of(live) == bytes_of(replayed) == bytes_of(restored)
