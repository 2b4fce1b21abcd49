"""Where the learning loop takes its pages from: the streaming join where it keeps up, else the log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.flagged_pages import Flags, UnflaggedSource, is_flagged, read_flags
from millrace.app.flywheel_source import LoggedSource, StoredSource, sample_source
from millrace.app.settings import Settings, load_settings
from millrace.base.clock import ManualClock
from millrace.base.errors import NoSamplesError
from millrace.base.ids import IdHasher, IdKind
from millrace.stream.log import Message
from millrace.testing.builders import a_traffic_flag, an_event
from millrace.testing.progress import in_silence
from millrace.testing.sample_builders import planted_samples

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
        assert isinstance(source, UnflaggedSource)
        return source.source


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


def test_pages_of_flagged_viewers_are_left_out_within_an_hour_of_the_flag(tmp_path: Path) -> None:
    settings = a_home(tmp_path)
    log, codec = wiring.build_log(settings), wiring.build_codec(settings)
    flags = [a_traffic_flag(21, at_ms=9 * HOUR_MS), a_traffic_flag(20, at_ms=5 * HOUR_MS), a_traffic_flag(20, at_ms=1)]
    clock = msgspec.structs.replace(a_traffic_flag(22).payload, reason="clock")
    flags.append(an_event(clock, at_ms=5 * HOUR_MS))
    log.append(
        [Message("events.traffic", "", e.event_id, e.event_time_ms, codec.encode(e)) for e in flags],
    )
    log.close()
    found = read_flags(settings)
    viewer = {name: IdHasher().one(IdKind.USER, str(name)) for name in (20, 21, 22)}
    assert found.first_ms.tolist() == found.last_ms.tolist()
    assert list(zip(found.viewers.tolist(), found.first_ms.tolist(), strict=True)) == sorted(
        [(viewer[20], 1), (viewer[20], 5 * HOUR_MS), (viewer[21], 9 * HOUR_MS)]
    )
    pages = [(20, 4), (20, 5), (20, 6), (20, 7), (21, 5), (21, 9), (22, 5)]
    viewers = np.array([viewer[name] for name, _ in pages])
    at_ms = np.array([hour * HOUR_MS for _, hour in pages])
    no_ids = np.zeros(len(pages), dtype=np.int64)
    assert is_flagged(viewers, at_ms, no_ids, found).tolist() == [True, True, True, False, False, True, False]


def test_a_flag_that_arrives_late_leaves_out_the_pages_that_it_is_about(tmp_path: Path) -> None:
    settings = a_home(tmp_path)
    log, codec = wiring.build_log(settings), wiring.build_codec(settings)
    flags = [
        a_traffic_flag(20, requests=("old",), span_ms=(9 * HOUR_MS, 9 * HOUR_MS), at_ms=9 * HOUR_MS),
        a_traffic_flag(21, span_ms=(3 * HOUR_MS, 5 * HOUR_MS), at_ms=20 * HOUR_MS),
    ]
    log.append([Message("events.traffic", "", e.event_id, e.event_time_ms, codec.encode(e)) for e in flags])
    log.close()
    pages = [
        (20, 1, "old"),
        (20, 1, "other"),
        (20, 9, "other"),
        (21, 1, "old"),
        (21, 2, "x"),
        (21, 4, "y"),
        (21, 20, "z"),
    ]
    hash_one = IdHasher().one
    found = is_flagged(
        np.array([hash_one(IdKind.USER, str(viewer)) for viewer, _, _ in pages]),
        np.array([hour * HOUR_MS for _, hour, _ in pages]),
        np.array([hash_one(IdKind.REQUEST, request) for _, _, request in pages]),
        read_flags(settings),
    )
    # Viewer 20's burst was about a page of eight hours ago; another's page of that name is none of it.
    assert found.tolist() == [True, False, True, False, True, True, False]


def test_a_source_gives_what_is_left_and_says_so_where_nothing_is() -> None:
    pages = planted_samples(6)
    source = SimpleNamespace(known_until_ms=5, samples=lambda _from, _until, _keep: pages)
    out = pages.viewers == pages.viewers[0]
    assert 0 < out.sum() < len(pages)
    times = np.sort(pages.now_ms[out])
    flags = Flags(np.full(out.sum(), pages.viewers[0]), times, times)
    left = UnflaggedSource(source, flags)
    assert left.known_until_ms == 5
    assert left.samples(0, 9).viewers.tolist() == pages.viewers[~out].tolist()
    none = np.empty(0, dtype=np.int64)
    nobody = Flags(none, none, none)
    assert UnflaggedSource(source, nobody).samples(0, 9) is pages
    viewers, order = np.unique(pages.viewers, return_inverse=True)
    times = np.concatenate([np.sort(pages.now_ms[order == i]) for i in range(len(viewers))])
    with pytest.raises(NoSamplesError, match="all of flagged viewers"):
        UnflaggedSource(source, Flags(np.sort(pages.viewers), times, times)).samples(0, 9)
