"""The joiner in virtual time: what it says and stamps goes by the world's time, which the log alone tells."""

from __future__ import annotations

from pathlib import Path

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.join_role import Joiner
from millrace.app.settings import load_settings
from millrace.app.virtual_time import enter_virtual_time
from millrace.base.clock import VirtualClock
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
