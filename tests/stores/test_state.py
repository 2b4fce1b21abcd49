"""The whole state: replayed equals live, byte for byte, wherever it was cut, checkpointed and restored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry
from millrace.stores.checkpoint import Checkpoints
from millrace.stores.config import StoresConfig
from millrace.stores.replica import Replica
from millrace.stores.replica_config import ReplicaConfig
from millrace.stores.state import State
from millrace.stream.collector import Collector
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import NOW_MS, a_post_created, an_engagement, an_impression
from millrace.testing.strategies import event_sequences

CODEC = EventCodec(EventRegistry())
CLOCK = ManualClock(NOW_MS)


def a_state() -> State:
    return State(StoresConfig())


def a_replica(log: MemoryLog, folder: Path, catch_up_records: int = 4096) -> Replica[State]:
    config = ReplicaConfig(catch_up_records=catch_up_records)
    return Replica(log, CODEC.decode, a_state, Checkpoints(folder, "f"), clock=CLOCK, config=config)


def a_log(events: Sequence[AnyEvent]) -> MemoryLog:
    log = MemoryLog(CLOCK)
    receipt = Collector(log, CODEC, CLOCK).submit(events)
    assert receipt.n_refused == 0
    return log


def differences(one: Replica[State], other: Replica[State]) -> list[str]:
    ours, theirs = one.arrays(), other.arrays()
    assert ours.keys() == theirs.keys()
    return [
        f"{store}/{name}"
        for store in ours
        for name in ours[store].keys() | theirs[store].keys()
        if ours[store][name].tobytes() != theirs[store][name].tobytes()
    ]


def test_every_store_has_a_name_of_its_own() -> None:
    names = [fold.name for fold in a_state().folds()]
    assert len(set(names)) == len(names)
    assert names[0] == "codes"


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
    assert differences(live, replayed) == []
    assert differences(restored, replayed) == []


def test_a_long_life_with_ticks_equals_its_replay(tmp_path: Path) -> None:
    """Days of events: retention works, arrays grow, and no trace of batches or checkpoints is left."""
    rng = np.random.default_rng(5)
    events: list[AnyEvent] = []
    n, span_ms = 12_000, 4 * 86_400_000
    for row in range(n):
        at_ms = NOW_MS - span_ms + row * span_ms // n
        kind, user, post = rng.integers(4), int(rng.integers(300)), int(rng.integers(max(row // 4, 1)))
        if kind == 0:
            events.append(a_post_created(row, user, at_ms=at_ms))
        elif kind == 1:
            events.append(an_impression(user, post, dwell_ms=int(rng.integers(20_000)), at_ms=at_ms))
        else:
            events.append(an_engagement(user, post, ["like", "reply", "bookmark"][row % 3], at_ms=at_ms))
    log = a_log(events)
    live = a_replica(log, tmp_path, catch_up_records=777)
    while live.position[0] < n // 2:
        live.step(777)
    live.write_checkpoint(NOW_MS)
    live.catch_up()
    restored = a_replica(log, tmp_path, catch_up_records=61)
    assert restored.restore() is not None
    restored.catch_up()
    replayed = a_replica(log, tmp_path)
    replayed.catch_up()
    assert live.state.watermark.now_ms > NOW_MS - 3_600_000
    assert 0 < live.state.posts.n_posts < n // 4  # the first two days are gone
    assert differences(live, replayed) == []
    assert differences(restored, replayed) == []
