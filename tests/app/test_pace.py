"""The pace of a living world: never early, never in a hurry, and with rests."""

from __future__ import annotations

from millrace.app.simulation.pace import REST_PER_WORK, Pace

T_MS = 1_500_000_000_000
MINUTE_MS = 60_000


class RealTime:
    """Real time that goes by only in sleep, or where a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_s += seconds


def a_pace(speed: float = 60.0) -> tuple[Pace, RealTime]:
    real = RealTime()
    return Pace(speed, real.monotonic_s, real.sleep), real


def test_the_first_moment_is_now_and_the_others_follow_at_the_speed() -> None:
    pace, real = a_pace(speed=60.0)
    pace.wait_for(T_MS)
    assert real.now_s == 100.0
    pace.wait_for(T_MS + 5 * MINUTE_MS)
    assert real.now_s == 105.0
    pace.wait_for(T_MS + 6 * MINUTE_MS)
    assert real.now_s == 106.0


def test_what_is_past_is_not_waited_for_and_changes_nothing() -> None:
    pace, real = a_pace()
    pace.wait_for(T_MS)
    pace.wait_for(T_MS - 60 * MINUTE_MS)
    assert real.now_s == 100.0
    pace.wait_for(T_MS + MINUTE_MS)
    assert real.now_s == 101.0


def test_a_little_lateness_is_made_up_for() -> None:
    pace, real = a_pace()
    pace.wait_for(T_MS)
    real.now_s += 2.5  # the server took so long
    pace.wait_for(T_MS + MINUTE_MS)
    assert real.now_s == 102.5
    pace.wait_for(T_MS + 3 * MINUTE_MS)
    assert real.now_s == 103.0


def test_much_lateness_stays() -> None:
    pace, real = a_pace()
    pace.wait_for(T_MS)
    real.now_s += 1_000
    for minute in range(1, 11):
        pace.wait_for(T_MS + minute * MINUTE_MS)
    assert 1_107 <= real.now_s <= 1_109


def test_work_is_followed_by_rest() -> None:
    pace, real = a_pace()
    with pace.resting():
        real.now_s += 3
    assert real.now_s == 103 + REST_PER_WORK * 3
