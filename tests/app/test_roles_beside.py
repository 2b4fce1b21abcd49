"""What works beside the feed and has died is told, by who lives: doctor, the status, the keeper's metrics."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.doctor import Finding, examine
from millrace.app.flywheel_status import flywheel_status
from millrace.app.join_metrics import JoinOverseer
from millrace.app.keeper_lock import keeper_lock
from millrace.app.near_line import LOCK_FILE, REPORT_FILE
from millrace.app.roles_beside import (
    JOINER_LOCK,
    LEARNER_LOCK,
    LearnerFailure,
    join_problem,
    keep_failure,
    learner_problem,
    near_line_problem,
    problems,
)
from millrace.app.server_note import leave_note
from millrace.app.settings import CONFIG_NAME, Settings, load_settings
from millrace.app.supervisor import Address
from millrace.base.clock import ManualClock
from millrace.flywheel.guards.readings import GuardReport
from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_status import JoinStatus, keep_status
from millrace.flywheel.join_watch import JoinRate
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import NOW_MS, an_impression
from millrace.testing.join_house import messages_of

HOUR_MS = 3_600_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / CONFIG_NAME).write_text("[flywheel]\nlearns = true\n")
    make_home(tmp_path)
    made = load_settings(tmp_path)
    made.run_dir.mkdir()
    return made


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock as a living process does."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def joined(settings: Settings, told_ms: int) -> None:
    """Write down what the join told at a moment."""
    rate = JoinRate(n_looks=0, n_deeds=0, looks_frac=1.0, deeds_frac=1.0, late_frac=0.0, before_frac=None)
    counts = dict.fromkeys(("n_records", "n_pages", "n_samples", "n_corrections", "n_unreadable", "page_bytes"), 0)
    settings.samples_dir.mkdir(parents=True, exist_ok=True)
    keep_status(
        settings.samples_dir,
        JoinStatus(
            epoch=1,
            position=(0,),
            told_ms=told_ms,
            watermark_ms=0,
            lag_ms=0,
            lag_records=0,
            records_per_s=0.0,
            mean_page_bytes=0.0,
            negative_rate=1.0,
            rate=rate,
            stats=JoinStats(),
            **counts,
        ),
    )


def looked(settings: Settings, at_ms: int) -> None:
    """Write down that the guards have looked."""
    (settings.run_dir / REPORT_FILE).write_bytes(msgspec.json.encode(GuardReport(at_ms=at_ms, event_ms=0, models=())))


def test_nothing_is_missing_where_no_server_runs(settings: Settings) -> None:
    joined(settings, NOW_MS - 9 * HOUR_MS)
    looked(settings, NOW_MS - 9 * HOUR_MS)
    assert problems(settings, NOW_MS) == ()


def test_a_joiner_that_does_not_live_and_one_that_says_nothing_are_told(settings: Settings) -> None:
    with keeper_lock(settings.data_dir):
        assert "no joiner is at work (nothing was joined yet)" in join_problem(settings, NOW_MS)
        joined(settings, NOW_MS)
        assert "(the join last told at Fri 15 Jan, 08:00 UTC)" in join_problem(settings, NOW_MS)
        with held(settings.data_dir / JOINER_LOCK):
            assert join_problem(settings, NOW_MS + HOUR_MS // 2) == ""
            assert "though a joiner is at work" in join_problem(settings, NOW_MS + HOUR_MS)
        off = load_settings(settings.home, None, [("flywheel.joins", "false")])
        assert join_problem(off, NOW_MS) == ""


def test_guards_that_do_not_live_and_guards_that_do_not_look_are_told(settings: Settings) -> None:
    with keeper_lock(settings.data_dir):
        assert "they never looked" in near_line_problem(settings, NOW_MS)
        looked(settings, NOW_MS - 3 * HOUR_MS)
        assert "is not at work (the guards last looked 3 h ago)" in near_line_problem(settings, NOW_MS)
        with held(settings.data_dir / LOCK_FILE):
            assert near_line_problem(settings, NOW_MS) == "the guards last looked 3 h ago"
            looked(settings, NOW_MS - 100_000)
            assert near_line_problem(settings, NOW_MS) == ""


def test_a_learner_that_does_not_live_and_what_it_could_not_do_are_told(settings: Settings) -> None:
    with keeper_lock(settings.data_dir):
        assert "nothing learns on" in learner_problem(settings, NOW_MS)
        with held(settings.run_dir / LEARNER_LOCK):
            assert learner_problem(settings, NOW_MS) == ""
            keep_failure(settings, LearnerFailure(code=1, at_ms=NOW_MS - HOUR_MS))
            assert "ended with exit code 1, 1 h ago" in learner_problem(settings, NOW_MS)
            keep_failure(settings, None)
            assert learner_problem(settings, NOW_MS) == ""


def test_whether_a_server_learns_is_its_own_to_say_and_the_config_s_where_none_runs(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    assert not flywheel_status(settings).learns
    leave_note(settings, Address("127.0.0.1", 1), learns=True)  # as a demo does
    assert not flywheel_status(settings).learns  # its server has ended
    with keeper_lock(settings.data_dir):
        assert flywheel_status(settings).learns
        assert "nothing learns on" in learner_problem(settings, NOW_MS)
        findings = [each for each in examine(settings, wiring.build_clock()) if isinstance(each, Finding)]
        assert [each.verdict for each in findings if each.check == "learner"] == ["warning"]
        asked = load_settings(settings.home, None, [("flywheel.learns", "true")])
        leave_note(settings, Address("127.0.0.1", 1))  # as `millrace demo --no-learn` does
        assert not flywheel_status(asked).learns
        assert learner_problem(asked, NOW_MS) == ""
    assert flywheel_status(asked).learns


def test_doctor_and_the_status_tell_of_each_that_is_dead(settings: Settings) -> None:
    with keeper_lock(settings.data_dir):
        found = {each.check: each for each in examine(settings, wiring.build_clock()) if isinstance(each, Finding)}
        assert [found[name].verdict for name in ("join", "guards", "learner")] == ["warning"] * 3
        assert len(flywheel_status(settings).problems) == 3
    assert flywheel_status(settings).problems == ()


def test_the_keeper_alarms_for_a_dead_joiner_at_the_second_look_and_measures_how_far_it_is_behind(
    settings: Settings,
) -> None:
    clock = ManualClock(NOW_MS)
    log = MemoryLog(clock)
    log.append(messages_of([an_impression(1, post, event_id=f"i{post}") for post in range(3)]))
    overseer = JoinOverseer(settings, log, clock)
    with keeper_lock(settings.data_dir):
        assert overseer.look() == ""
        assert "no joiner is at work" in overseer.look()
        shown = generate_latest(overseer.registry).decode()
        assert "millrace_join_alarm 1.0" in shown
        assert "millrace_join_lag_records 3.0" in shown
        with held(settings.data_dir / JOINER_LOCK):
            assert overseer.look() == ""
        assert "millrace_join_alarm 0.0" in generate_latest(overseer.registry).decode()
