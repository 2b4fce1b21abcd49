"""Where the learning loop takes its pages from: the streaming join where it keeps up, else the log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.flywheel_source import LoggedSource, StoredSource, sample_source
from millrace.app.settings import Settings, load_settings
from millrace.base.clock import ManualClock
from millrace.testing.progress import in_silence

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOW_MS = 1_800_000_000_000


def a_home(folder: Path, *pairs: tuple[str, str]) -> Settings:
    made, _ = make_home(folder / "home")
    return load_settings(made.home, {}, pairs)


def given(settings: Settings, monkeypatch: pytest.MonkeyPatch, *, behind_ms: int) -> Any:
    """Return the source of a home whose join has come to so far behind event time."""
    store = SimpleNamespace(watermark_ms=NOW_MS - behind_ms)
    monkeypatch.setattr(wiring, "build_sample_store", lambda _settings: store)
    monkeypatch.setattr(wiring, "build_event_clock", lambda _settings: ManualClock(NOW_MS))
    with sample_source(settings, in_silence, hours=1) as source:
        return source


def test_a_join_that_keeps_up_gives_what_its_windows_have_let_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = a_home(tmp_path, ("flywheel.join.action_windows_ms.reply", str(HOUR_MS)))
    source = given(settings, monkeypatch, behind_ms=30 * MINUTE_MS)
    assert isinstance(source, StoredSource)
    assert source.known_until_ms == NOW_MS - 30 * MINUTE_MS - HOUR_MS - 10 * MINUTE_MS


@pytest.mark.parametrize(
    ("pairs", "behind_ms"),
    [
        ((), 3 * HOUR_MS),
        ((("flywheel.joins", "false"),), 0),
        ((("flywheel.join.negative_rate", "0.5"),), 0),
    ],
)
def test_a_join_that_is_off_or_behind_or_thins_out_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: tuple[tuple[str, str], ...], behind_ms: int
) -> None:
    assert isinstance(given(a_home(tmp_path, *pairs), monkeypatch, behind_ms=behind_ms), LoggedSource)
