"""The joiner's time: in a world that of the log alone, and never that of a machine whose date is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.join_role import Joiner
from millrace.app.settings import load_settings
from millrace.app.virtual_time import enter_virtual_time
from millrace.base.clock import SystemClock, VirtualClock
from millrace.flywheel.join_status import join_status
from millrace.testing.builders import NOW_MS, a_features_logged

HOUR_MS = 3_600_000


def test_its_clock_goes_on_with_the_events_that_it_hears(tmp_path: Path) -> None:
    made, _ = make_home(tmp_path / "home")
    settings = load_settings(made.home)
    enter_virtual_time(settings)
    clock = VirtualClock(NOW_MS)
    log = wiring.build_log(settings, clock)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings), clock)
    collector.submit([a_features_logged("ada", request_id="r1", at_ms=NOW_MS)])
    joiner = Joiner(settings)
    joiner.process.start()
    joiner.turn()
    clock.tick_to(NOW_MS + 5 * HOUR_MS)
    collector.submit([a_features_logged("ada", request_id="r2", at_ms=NOW_MS + 5 * HOUR_MS)])
    joiner.turn()
    joiner.close()
    log.close()
    told = join_status(settings.samples_dir)
    assert told is not None
    assert told.told_ms == NOW_MS + 5 * HOUR_MS


def test_a_date_that_is_wrong_in_a_silent_moment_does_not_move_the_watermark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = make_home(tmp_path / "home")
    settings = load_settings(made.home, overrides=[("flywheel.samples.epoch_every_s", "0.000001")])
    clock = SystemClock()
    log = wiring.build_log(settings, clock)
    now_ms = clock.now_ms()
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings), clock)
    collector.submit([a_features_logged("ada", request_id="r1", at_ms=now_ms)])
    joiner = Joiner(settings)
    joiner.process.start()
    assert joiner.turn()
    monkeypatch.setattr(SystemClock, "now_ms", lambda _self: now_ms + 365 * 24 * HOUR_MS)
    assert not joiner.turn()
    assert 0 < joiner.process.join.stats().watermark_ms <= now_ms
    joiner.close()
    log.close()
