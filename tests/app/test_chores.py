from __future__ import annotations

import pytest

from millrace.app.chores import FIRST_PAUSE_S, LONGEST_PAUSE_S, Chores
from millrace.base.clock import ManualClock


class SteppingClock(ManualClock):
    def __init__(self) -> None:
        super().__init__(0)
        self.s = 0.0

    def monotonic_s(self) -> float:
        return self.s


def fail() -> None:
    raise KeyError("whatever")


def test_a_failure_holds_up_its_own_chore_alone(caplog: pytest.LogCaptureFixture) -> None:
    chores = Chores(SteppingClock())
    assert chores.run("one", fail) is None
    assert chores.run("two", lambda: 2) == 2
    assert chores.run("one", lambda: 1) is None  # not yet
    assert dict(chores.n_failed) == {"one": 1}
    assert list(chores.failing) == ["one"]
    assert "chore 'one' failed" in caplog.text


def test_pauses_double_up_to_an_hour_and_begin_anew_after_a_success() -> None:
    clock = SteppingClock()
    chores = Chores(clock)
    for number in range(14):
        chores.run("one", fail)
        clock.s += min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) - 0.5
        assert chores.run("one", lambda: 1) is None
        clock.s += 0.5
    assert chores.n_failed["one"] == 14
    assert chores.run("one", lambda: 1) == 1
    assert not chores.failing
    chores.run("one", fail)
    clock.s += FIRST_PAUSE_S
    assert chores.run("one", lambda: 1) == 1
