"""The whole state: replayed equals live, byte for byte, wherever it was cut, checkpointed and restored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import ActionSpace
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
from millrace.testing.builders import (
    NOW_MS,
    a_counts_observed,
    a_post_annotated,
    a_post_created,
    an_engagement,
    an_impression,
)
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


def test_a_checkpoint_serves_on_after_a_business_action_was_appended(tmp_path: Path) -> None:
    """The log is trimmed, so the state could not be had in any other way."""
    before, after = ActionSpace(("purchase",)), ActionSpace(("purchase", "gift"))
    clock = ManualClock(NOW_MS)
    log = MemoryLog(clock)
    first = [
        a_post_created(1, "ada"),
        a_counts_observed(1, like=5, impression=90),
        a_post_annotated(1, topics=("mills",)),
        *(an_impression(viewer, 1, dwell_ms=7_000) for viewer in range(30)),
        *(an_engagement(viewer, 1, "purchase") for viewer in range(10)),
    ]
    second = [
        *(an_impression(viewer, 1, dwell_ms=9_000) for viewer in range(20, 40)),
        *(an_engagement(viewer, 1, "gift") for viewer in range(25, 40)),
    ]

    def replica(actions: ActionSpace) -> Replica[State]:
        codec = EventCodec(EventRegistry(), actions)
        checkpoints = Checkpoints(tmp_path, "f", actions=actions.names)
        return Replica(log, codec.decode, lambda: State(StoresConfig(), actions=actions), checkpoints, clock=clock)

    def put(actions: ActionSpace, events: Sequence[AnyEvent]) -> None:
        receipt = Collector(log, EventCodec(EventRegistry(), actions), clock).submit(events)
        assert receipt.n_refused == 0

    old = replica(before)
    put(before, first)
    old.catch_up()
    old.write_checkpoint(NOW_MS)
    put(after, second)
    replayed = replica(after)
    replayed.catch_up()
    log.trim((len(first),))

    restored = replica(after)
    assert restored.restore() is not None
    restored.catch_up()
    assert differences(restored, replayed) == []
    counters, post = restored.state.engagements.counters, restored.state.hasher.posts(["1"])
    forever = counters.post_counts(post, NOW_MS)[0, 1]
    names = (*after.names, "impression")
    found = {name: float(forever[names.index(name)]) for name in ("purchase", "gift", "impression", "dwell")}
    assert found == {"purchase": 10, "gift": 15, "impression": 40, "dwell": 40}
    assert counters.observed_counts(post)[0, -1] == 90
