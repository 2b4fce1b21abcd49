"""Requests run in batches: who waits, for how long, and who is let down. Time is told, nothing sleeps."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.base.errors import DeadlineExceeded, NotReadyError
from millrace.inference.batcher import Batcher, BatcherConfig

PATIENCE_S = 30


class ToldClock:
    """Real time as the test tells it."""

    def __init__(self) -> None:
        self.s = 100.0

    def now_ms(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.s


class Heard:
    """Keeps what a batcher says."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.n_dropped = 0
        self.n_refused = 0

    def ran(self, queued_s: Sequence[float], took_s: float) -> None:
        self.batches.append(list(queued_s))

    def dropped(self, n: int) -> None:
        self.n_dropped += n

    def refused(self) -> None:
        self.n_refused += 1


class World:
    """A batcher without a thread, which doubles numbers and notes its batches."""

    def __init__(self, **config: float) -> None:
        self.clock, self.heard = ToldClock(), Heard()
        self.batches: list[list[int]] = []
        self.batcher: Batcher[int, int] = Batcher(
            self.run,
            BatcherConfig(**config),  # type: ignore[arg-type]
            clock=self.clock,
            observer=self.heard,
        )

    def run(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]

    def step_with(self, *numbers: int) -> None:
        for number in numbers:
            self.batcher.submit(number)
        self.batcher.step()


def test_a_request_that_finds_nothing_running_runs_at_once_and_alone() -> None:
    world = World()
    future = world.batcher.submit(4)
    assert world.batcher.hold_s() == 0
    assert world.batcher.step() == 1
    assert future.result(0) == 8


def test_what_gathered_runs_together_in_order_and_no_more_than_the_largest_batch() -> None:
    world = World(max_batch=3)
    futures = [world.batcher.submit(number) for number in range(5)]
    assert [world.batcher.step(), world.batcher.step()] == [3, 0]  # the others wait for a third
    world.clock.s += 0.0021
    assert [world.batcher.step(), world.batcher.step()] == [2, 0]
    assert world.batches == [[0, 1, 2], [3, 4]]
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]


def test_right_after_a_batch_the_next_waits_for_as_many() -> None:
    world = World()
    world.step_with(1, 2, 3)
    world.clock.s += 0.0005
    world.batcher.submit(4)
    assert world.batcher.hold_s() == pytest.approx(0.002)
    world.clock.s += 0.0015
    assert world.batcher.hold_s() == pytest.approx(0.0005)
    assert world.batcher.step() == 0
    world.batcher.submit(5)
    world.batcher.submit(6)
    assert world.batcher.hold_s() == 0
    assert world.batcher.step() == 3


def test_a_request_waits_two_milliseconds_at_most() -> None:
    world = World()
    world.step_with(1, 2, 3)
    world.batcher.submit(4)
    world.clock.s += 0.00201
    assert world.batcher.hold_s() == 0
    assert world.batcher.step() == 1


def test_after_a_pause_a_request_runs_at_once_again() -> None:
    world = World()
    world.step_with(1, 2, 3)
    world.clock.s += 0.0021
    world.batcher.submit(4)
    assert world.batcher.hold_s() == 0


def test_what_queued_during_a_run_does_not_wait_again() -> None:
    world = World()
    world.step_with(1, 2, 3)
    world.batcher.submit(4)
    world.clock.s += 0.005  # as long as the run before took
    assert world.batcher.hold_s() == 0


def test_a_stale_request_is_dropped_with_a_clear_error_and_not_run() -> None:
    world = World()
    late = world.batcher.submit(1, deadline_s=100.01)
    early = world.batcher.submit(2, deadline_s=101.0)
    world.clock.s = 100.05
    assert world.batcher.step() == 2
    assert world.batches == [[2]]
    assert early.result(0) == 4
    with pytest.raises(DeadlineExceeded, match=r"queue '50\.0 ms': queued for so long that its deadline passed"):
        late.result(0)
    assert world.heard.n_dropped == 1


def test_stale_and_cancelled_requests_take_no_place_in_a_batch() -> None:
    world = World(max_batch=2)
    world.batcher.submit(1, deadline_s=99.0)
    world.batcher.submit(2).cancel()
    futures = [world.batcher.submit(number) for number in (3, 4)]
    world.batcher.step()
    assert world.batches == [[3, 4]]
    assert [future.result(0) for future in futures] == [6, 8]


def test_a_full_queue_refuses_at_once() -> None:
    world = World(max_queue=2)
    world.batcher.submit(1)
    world.batcher.submit(2)
    with pytest.raises(NotReadyError, match="queue 2: is full"):
        world.batcher.submit(3)
    assert world.heard.n_refused == 1
    world.batcher.step()
    assert world.batches == [[1, 2]]
    world.batcher.submit(4)


def test_a_bad_request_fails_alone() -> None:
    world = World()
    futures = [world.batcher.submit(number) for number in (1, 13, 3)]
    world.batcher.step()
    assert (futures[0].result(0), futures[2].result(0)) == (2, 6)
    with pytest.raises(ValueError, match="13"):
        futures[1].result(0)
    assert world.batches == [[1, 13, 3], [1], [13], [3]]


def test_metrics_tell_the_size_of_batches_and_how_long_each_queued() -> None:
    world = World()
    world.batcher.submit(1)
    world.clock.s += 0.25
    world.batcher.submit(2)
    world.batcher.step()
    assert world.heard.batches == [[0.25, 0.0]]


def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.heard.batches = None  # type: ignore[assignment]
    future = world.batcher.submit(1)
    world.batcher.step()
    assert future.result(0) == 2
    assert "the observer of a batcher failed" in caplog.text


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    world = World(max_batch=2)
    futures = [world.batcher.submit(number) for number in range(5)]
    world.batcher.close()
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(NotReadyError, match="is closed"):
        world.batcher.submit(6)


def test_in_its_thread_a_batch_gathers_while_another_runs() -> None:
    """The first run is held until four more have come; they are one batch."""
    began, goes_on = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def run(numbers: list[int]) -> list[int]:
        batches.append(numbers)
        began.set()
        assert goes_on.wait(PATIENCE_S)
        return numbers

    batcher = Batcher(run)
    batcher.start()
    futures = [batcher.submit(0)]
    assert began.wait(PATIENCE_S)
    futures += [batcher.submit(number) for number in range(1, 5)]
    goes_on.set()
    assert [future.result(PATIENCE_S) for future in futures] == [0, 1, 2, 3, 4]
    batcher.close()
    assert batches == [[0], [1, 2, 3, 4]]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.floats(0.0, 0.01), st.booleans()), max_size=40),
    st.integers(1, 5),
)
def test_every_request_is_answered_once_or_is_stale_and_order_is_kept(
    arrivals: list[tuple[int, float, bool]], max_batch: int
) -> None:
    world = World(max_batch=max_batch, max_queue=1_000)
    futures = []
    for number, pause_s, is_urgent in arrivals:
        deadline_s = world.clock.s + 0.003 if is_urgent else float("inf")
        if number != 13:
            futures.append((number, world.batcher.submit(number, deadline_s)))
        world.clock.s += pause_s
        world.batcher.step()
    world.batcher.close()
    answered = [number for number, future in futures if future.exception(0) is None]
    assert [number for batch in world.batches for number in batch] == answered
    assert all(future.result(0) == 2 * number for number, future in futures if future.exception(0) is None)
    assert all(1 <= len(batch) <= max_batch for batch in world.batches)
    assert world.heard.n_dropped == len(futures) - len(answered)
