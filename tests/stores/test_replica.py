from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import CheckpointError, NotReadyError, StoreError
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry
from millrace.stores.checkpoint import Checkpoints
from millrace.stores.replica import Replica
from millrace.stores.replica_config import ReplicaConfig
from millrace.stream.collector import Collector
from millrace.stream.log import Log, Message
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import NOW_MS, a_post_created, an_engagement
from millrace.testing.small_state import SmallState

CODEC = EventCodec(EventRegistry())
CLOCK = ManualClock(NOW_MS)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the point is to give way, turn by turn
        await asyncio.sleep(0)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(CLOCK)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, "f")


def a_replica(log: Log, checkpoints: Checkpoints) -> Replica[SmallState]:
    config = ReplicaConfig(poll_interval_ms=1, fold_records=7, catch_up_records=50)
    return Replica(log, CODEC.decode, SmallState, checkpoints, clock=CLOCK, config=config)


def put(log: Log, events: Sequence[AnyEvent]) -> None:
    Collector(log, CODEC, CLOCK).submit(events)


def some_events(n: int, first: int = 0) -> list[AnyEvent]:
    return [
        a_post_created(i, at_ms=NOW_MS - 600_000 + i * 700) if i % 3 else an_engagement(at_ms=NOW_MS)
        for i in range(first, first + n)
    ]


def bytes_of(replica: Replica[SmallState]) -> dict[str, bytes]:
    return {
        f"{store}/{name}": array.tobytes()
        for store, arrays in replica.arrays().items()
        for name, array in arrays.items()
    }


def test_checkpoint_and_tail_equal_a_replay_from_zero(log: MemoryLog, checkpoints: Checkpoints) -> None:
    live = a_replica(log, checkpoints)
    put(log, some_events(200))
    live.catch_up()
    live.write_checkpoint(NOW_MS)
    put(log, some_events(150, first=200))
    live.catch_up()

    restored = a_replica(log, checkpoints)
    assert restored.restore() is not None
    assert restored.position == (200,)
    assert restored.catch_up() == 150
    replayed = a_replica(log, checkpoints)
    replayed.catch_up()
    assert bytes_of(restored) == bytes_of(replayed) == bytes_of(live)
    assert restored.position == replayed.position == (350,)


def test_topics_that_change_no_store_are_passed_over_undecoded(log: MemoryLog, checkpoints: Checkpoints) -> None:
    """With them, without them, and read at once or in pieces: the same state."""
    plain = MemoryLog(CLOCK)
    put(plain, some_events(120))
    for first in range(0, 120, 10):
        put(log, some_events(10, first=first))
        log.append([Message("events.features", "v", f"f{first}", NOW_MS, b"not even an event")])
    replicas = []
    for source, n_records in ((plain, 50), (log, 50), (log, 3)):
        config = ReplicaConfig(catch_up_records=n_records)
        replica = Replica(
            source, CODEC.decode, SmallState, checkpoints, clock=CLOCK, config=config, unread=("events.features",)
        )
        replica.catch_up()
        assert replica.position == source.end()
        replicas.append(replica)
    without, at_once, in_pieces = map(bytes_of, replicas)
    assert at_once == in_pieces
    of_time = [name for name in without if name.startswith("watermark/")]  # other stores keep offsets
    assert of_time
    assert all(without[name] == at_once[name] for name in of_time)
    assert EventRegistry().unfolded_topics == (
        "events.features",
        "events.traffic",
        "flywheel.samples",
        "events.models",
    )


def test_a_step_stops_before_a_position(log: MemoryLog, checkpoints: Checkpoints) -> None:
    put(log, some_events(20))
    log.append([Message("events.features", "v", "f", NOW_MS, b"x")])
    put(log, some_events(20, first=20))
    replica = Replica(log, CODEC.decode, SmallState, checkpoints, clock=CLOCK, unread=("events.features",))
    at = 0
    for before, n in ((20, 20), (21, 0), (22, 1), (21, 0)):
        assert len(replica.step(100, before=(before,)).records) == n
        assert replica.position == (max(before, at),)
        at = replica.position[0]


def test_looking_back_begins_from_no_checkpoint_beyond_the_moment(log: MemoryLog, checkpoints: Checkpoints) -> None:
    live = a_replica(log, checkpoints)
    for _ in range(2):
        put(log, some_events(100, first=live.catch_up() + live.position[0]))
        live.catch_up()
        live.write_checkpoint(NOW_MS)
    back = a_replica(log, checkpoints)
    assert [path.name[-3:] for path in checkpoints.paths()] == ["100", "200"]
    for moment, begins in ((99, 0), (100, 100), (199, 100), (200, 200)):
        back.restore(not_beyond=(moment,))
        assert back.position == (begins,)


def test_a_corrupt_checkpoint_is_named_and_the_one_before_used(log: MemoryLog, checkpoints: Checkpoints) -> None:
    live = a_replica(log, checkpoints)
    for first in (0, 100):
        put(log, some_events(100, first))
        live.catch_up()
        live.write_checkpoint(NOW_MS)
    (checkpoints.paths()[-1] / "arrays.bin").write_bytes(b"damaged")
    restored = a_replica(log, checkpoints)
    used = restored.restore()
    assert used is not None
    assert used.position == (100,)
    assert "cut short" in str(restored.refused[0]) or "damaged" in str(restored.refused[0])
    restored.catch_up()
    assert bytes_of(restored) == bytes_of(live)


def test_without_a_usable_checkpoint_a_trimmed_log_is_refused(log: MemoryLog, checkpoints: Checkpoints) -> None:
    put(log, some_events(20))
    log.trim((10,))
    with pytest.raises(CheckpointError, match="only kept from position"):
        a_replica(log, checkpoints).restore()


def test_a_checkpoint_of_another_shape_of_state_is_refused(log: MemoryLog, checkpoints: Checkpoints) -> None:
    checkpoints.write({"post_log": {}}, (0,), NOW_MS)
    replica = a_replica(log, checkpoints)
    assert replica.restore() is None
    assert "does not fit this version" in str(replica.refused[0])


def test_a_checkpoint_of_another_log_stops_everything(log: MemoryLog, checkpoints: Checkpoints) -> None:
    put(log, some_events(20))
    first = a_replica(log, checkpoints)
    first.restore()
    first.catch_up()
    first.write_checkpoint(NOW_MS)
    other = MemoryLog(ManualClock(NOW_MS))
    put(other, some_events(30))
    with pytest.raises(CheckpointError, match="another log"):
        a_replica(other, checkpoints).restore()
    assert a_replica(log, checkpoints).restore() is not None


def test_an_empty_log_is_ready_at_once(log: MemoryLog, checkpoints: Checkpoints) -> None:
    replica = a_replica(log, checkpoints)
    assert replica.restore() is None
    assert replica.catch_up() == 0


def test_is_ready_only_when_it_has_caught_up_and_follows(log: MemoryLog, checkpoints: Checkpoints) -> None:
    async def scenario() -> None:
        put(log, some_events(30))
        replica = a_replica(log, checkpoints)
        assert not replica.is_ready()
        task = asyncio.create_task(replica.follow())
        await until(lambda: replica.is_ready())
        assert replica.lag() == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_request_sees_one_position_however_long_it_takes(log: MemoryLog, checkpoints: Checkpoints) -> None:
    async def scenario() -> None:
        replica = a_replica(log, checkpoints)
        task = asyncio.create_task(replica.follow())
        seen: list[int] = []
        for round_number in range(20):
            async with replica.read() as reading:
                before = (reading.position, int(reading.state.posts.n[0]))
                put(log, some_events(10, first=round_number * 10))
                for _ in range(5):
                    await asyncio.sleep(0.001)
                assert (replica.position, int(replica.state.posts.n[0])) == before
            seen.append(before[0][0])
        await until(lambda: not replica.lag())
        assert seen == sorted(seen)
        assert len(set(seen)) > 10
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_following_goes_on_while_requests_never_stop(log: MemoryLog, checkpoints: Checkpoints) -> None:
    """Requests overlap all the time, so the gate is never free by itself: the writer must be preferred."""

    async def scenario() -> None:
        replica = a_replica(log, checkpoints)
        following = asyncio.create_task(replica.follow())

        async def read_for_ever() -> None:
            while True:
                async with replica.read():
                    await asyncio.sleep(0.002)

        readers = []
        for _ in range(5):
            readers.append(asyncio.create_task(read_for_ever()))
            await asyncio.sleep(0.0007)
        put(log, some_events(300))
        await until(lambda: not replica.lag())
        for task in (*readers, following):
            task.cancel()
        await asyncio.gather(*readers, following, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_state_that_a_fold_left_half_changed_is_never_read_again(log: MemoryLog, checkpoints: Checkpoints) -> None:
    async def scenario() -> None:
        replica = a_replica(log, checkpoints)
        put(log, some_events(30))
        following = asyncio.create_task(replica.follow())
        await until(lambda: replica.is_ready() and not replica.lag())
        rows, replica.state.posts.rows = replica.state.posts.rows, None  # type: ignore[assignment]
        put(log, some_events(3, first=30))
        with pytest.raises(StoreError, match="post_log"):
            await following
        assert "half" in replica.why_not_ready()
        with pytest.raises(NotReadyError, match="half"):
            async with replica.read():
                pass
        with pytest.raises(StoreError, match="half"):
            replica.step(1)
        with pytest.raises(StoreError, match="half"):
            replica.write_checkpoint(NOW_MS)
        replica.state.posts.rows = rows
        replica.restore()  # a state folded anew is whole again
        replica.catch_up()
        replica.write_checkpoint(NOW_MS)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_request_that_waited_while_the_state_broke_does_not_see_it(log: MemoryLog, checkpoints: Checkpoints) -> None:
    async def scenario() -> None:
        replica = a_replica(log, checkpoints)
        following = asyncio.create_task(replica.follow())
        await until(lambda: replica.is_ready())

        async def read() -> None:
            async with replica.read():
                pass

        async with replica.read():
            put(log, some_events(3))
            await until(lambda: replica.gate.is_wanted)
            waiting = asyncio.create_task(read())
            await asyncio.sleep(0)
            replica.state.posts.rows = None  # type: ignore[assignment]
        found = await asyncio.gather(waiting, following, return_exceptions=True)
        assert [type(error) for error in found] == [NotReadyError, StoreError]

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_checkpoint_can_be_loaded_while_the_event_loop_goes_on(log: MemoryLog, checkpoints: Checkpoints) -> None:
    async def scenario() -> None:
        live = a_replica(log, checkpoints)
        put(log, some_events(60))
        live.catch_up()
        live.write_checkpoint(NOW_MS)
        replica = a_replica(log, checkpoints)
        task = asyncio.create_task(replica.restore_aside())
        await asyncio.sleep(0)
        assert not task.done()
        used = await task
        assert used is not None
        assert replica.position == (60,)
        assert bytes_of(replica) == bytes_of(live)

    asyncio.run(asyncio.wait_for(scenario(), 10))
