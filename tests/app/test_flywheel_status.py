"""What people are told of the flywheel: in a line, in tables, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from millrace.app import cli, wiring
from millrace.app.clocks import clocks_of
from millrace.app.commands.init import make_home
from millrace.app.flywheel_parts import JoinFigures
from millrace.app.flywheel_rounds import decision_log, round_folder
from millrace.app.flywheel_status import FlywheelStatus, TakenBack, flywheel_status
from millrace.app.learning_note import LearningNote, keep_waiting, nothing_waits
from millrace.app.near_line import REPORT_FILE
from millrace.app.settings import Settings
from millrace.app.training_status import telling
from millrace.app.virtual_time import enter_virtual_time
from millrace.base.clock import ManualClock
from millrace.flywheel.decisions import Decision, HeadMetrics, RuleOutcome
from millrace.flywheel.guards.readings import GuardReport, ModelReadings, Reading, State
from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_status import JoinStatus, keep_status
from millrace.flywheel.join_watch import JoinRate
from millrace.registry.manifest import Description
from millrace.testing.progress import in_silence

HOUR_MS = 3_600_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made, _ = make_home(tmp_path / "home")
    return made


def test_a_home_in_virtual_time_says_of_every_figure_by_which_clock_it_is_told(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    live = publish(settings, "a")
    registry = wiring.build_registry(settings)
    registry.promote({"ranker": live}, now_ms=1)
    decision_log(settings).append(a_decision(1, live))
    keep_parts(settings, live)
    argv = ["flywheel", "status", "--home", str(settings.home)]
    assert cli.run(argv) == 0
    shown = capsys.readouterr().out
    assert "world time" not in shown
    assert "real time" not in shown
    assert not flywheel_status(settings).clocks.words
    enter_virtual_time(settings)
    found = flywheel_status(settings, event_clock=ManualClock(7 * HOUR_MS))
    assert (found.clocks.is_virtual, found.clocks.event_now_ms) == (True, 7 * HOUR_MS)
    assert found.clocks.words.startswith("two clocks: it is Thu 1 Jan, 07:00 world time in the home's world and ")
    assert found.clocks.words.endswith(" UTC real time here")
    assert "round 1 (pages until Thu 1 Jan, 01:00 world time) promoted" in found.words
    assert (found.guards_told_ms, found.guards_event_ms) == (1, 5 * HOUR_MS)
    assert cli.run(argv) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "two clocks: " in shown
    assert "behind the log at Thu 1 Jan, 00:00 world time" in shown
    assert "1 warn), at Thu 1 Jan, 05:00 world time" in shown
    registry.withdraw("ranker", live, now_ms=2, reason="too slow")
    assert cli.run(argv) == 0
    assert f"ranker {live} was taken back (Thu 1 Jan, 00:00 UTC real time)" in " ".join(capsys.readouterr().out.split())
    assert cli.run(["flywheel", "guards", "--home", str(settings.home)]) == 0
    assert "real time, at Thu 1 Jan, 05:00 world time" in " ".join(capsys.readouterr().out.split())


def test_every_time_that_is_told_has_its_clock(settings: Settings) -> None:
    named = clocks_of(is_virtual=True, event_now_ms=0, real_now_ms=0).by_figure
    assert set(named.values()) == {"world time", "real time"}
    told = times_of(FlywheelStatus)
    assert told == {figure for figure in named if figure != "decisions.seconds"}
    assert set(flywheel_status(settings).clocks.by_figure.values()) == {"real time"}


def times_of(kind: type[msgspec.Struct], prefix: str = "") -> set[str]:
    """Every field of a struct that tells a time, by its place."""
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        inner = next((part for part in (field.type, *get_args(field.type)) if is_struct(part)), None)
        if inner is not None:
            found |= times_of(inner, f"{prefix}{field.name}.")
        elif field.name.endswith("_ms"):
            found.add(f"{prefix}{field.name}")
    return found


def is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def publish(settings: Settings, net: str) -> str:
    folder = settings.home / "trained"
    folder.mkdir(exist_ok=True)
    (folder / "net").write_text(net)
    said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
    return wiring.build_registry(settings).publish(folder, said, now_ms=1_000).version


def a_decision(number: int, to_version: str) -> Decision:
    verdict = "promoted" if to_version else "refused"
    like = HeadMetrics(action="like", n_positive=50, auc=0.7, normalised_entropy=0.9, calibration=1.1)
    rule = RuleOutcome(
        name="surprise", value=0.2, threshold=0.08, is_kept=bool(to_version), words="the live model was all wrong"
    )
    return Decision(
        number=number,
        at_ms=5,
        from_ms=(number - 1) * HOUR_MS,
        until_ms=number * HOUR_MS,
        verdict=verdict,  # type: ignore[arg-type]
        why="better" if to_version else rule.words,
        n_pages=500,
        n_rows=9_000,
        from_version="before",
        to_version=to_version,
        rules=(rule,),
        prequential=(like,) if number > 1 else (),
    )


def test_a_home_without_rounds_says_so(settings: Settings) -> None:
    found = flywheel_status(settings)
    assert found.words == "flywheel: no ranker serves; no rounds yet"
    assert (found.hours, found.decisions, found.withdrawn, found.is_learning) == ((), (), (), False)
    assert (found.join, found.guards) == (None, ())


def test_what_learning_is_at_is_told_or_what_it_waits_for(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flywheel_status(settings).doing == ""
    keep_waiting(settings, "213 new pages, and a round needs 400")
    assert flywheel_status(settings).doing == "waiting: 213 new pages, and a round needs 400"
    capsys.readouterr()
    assert cli.run(["flywheel", "status", "--home", str(settings.home)]) == 0
    told = capsys.readouterr()
    assert "waiting: 213 new pages" in told.out
    assert "nothing learns on" not in told.err
    with telling(settings, in_silence) as show, show("judging (pages)"):
        assert flywheel_status(settings).doing == "training, judging"
    assert flywheel_status(settings).doing.startswith("waiting")
    nothing_waits(settings)
    assert flywheel_status(settings).doing == ""


def test_nobody_waits_whose_process_is_gone(settings: Settings) -> None:
    keep_waiting(settings, "more pages")
    path = settings.run_dir / "learning.json"
    note = msgspec.json.decode(path.read_bytes(), type=LearningNote)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(note, began="another boot:1")))
    assert flywheel_status(settings).doing == ""


def test_versions_figures_and_reasons_are_told_the_newest_first(settings: Settings) -> None:
    registry, (a, b) = wiring.build_registry(settings), (publish(settings, net) for net in "ab")
    log = decision_log(settings)
    for number, version in ((1, a), (2, b)):
        registry.promote({"ranker": version}, now_ms=1)
        log.append(a_decision(number, version))
    log.append(a_decision(3, ""))
    (round_folder(settings)).mkdir(parents=True)
    (round_folder(settings) / "round.json").touch()
    found = flywheel_status(settings, n_decisions=2)
    assert found.live_version == b
    assert [each.number for each in found.decisions] == [3, 2]
    assert [(hour.until_ms, hour.auc) for hour in found.hours] == [
        (HOUR_MS, None),
        (2 * HOUR_MS, 0.7),
        (3 * HOUR_MS, 0.7),
    ]
    assert found.hours[1].calibration == pytest.approx(1.1)
    assert found.is_learning
    assert found.words.endswith("round 3 (pages until Thu 1 Jan, 03:00 UTC) refused: the live model was all wrong")


def test_what_was_rolled_back_since_is_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    registry, (a, b) = wiring.build_registry(settings), (publish(settings, net) for net in "ab")
    for version in (a, b):
        registry.promote({"ranker": version}, now_ms=1)
    decision_log(settings).append(a_decision(1, b))
    registry.rollback(now_ms=2)
    found = flywheel_status(settings)
    assert (found.live_version, found.withdrawn) == (a, (b,))
    assert "promoted, rolled back since: better" in found.words
    assert found.taken_back == (TakenBack(version=b, at_ms=2, reason="rolled back by hand"),)
    assert cli.run(["flywheel", "status", "--home", str(settings.home)]) == 0
    assert f"ranker {b} was taken back (Thu 1 Jan, 00:00 UTC): rolled back by hand" in capsys.readouterr().out
    assert cli.run(["flywheel", "history", "--home", str(settings.home)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"promoted, rolled back since (before → {b})" in shown


def keep_parts(settings: Settings, model: str, alarm: str = "", state: State = "ok") -> None:
    """Write down what the join and the guards would, had they looked."""
    status = JoinStatus(
        epoch=3,
        position=(90,),
        told_ms=9,
        watermark_ms=8,
        lag_ms=1_800_000,
        lag_records=4,
        records_per_s=1.0,
        n_records=90,
        n_pages=5,
        n_samples=61,
        n_corrections=2,
        n_unreadable=0,
        page_bytes=1,
        mean_page_bytes=1.0,
        negative_rate=1.0,
        rate=JoinRate(
            n_looks=80, n_deeds=9, looks_frac=0.75, deeds_frac=1.0, late_frac=0.25, before_frac=None, alarm=alarm
        ),
        stats=JoinStats(),
    )
    settings.samples_dir.mkdir(parents=True, exist_ok=True)
    keep_status(settings.samples_dir, status)
    readings = (
        Reading(guard="calibration", of="like", value=3.2, low=2.9, high=3.5, threshold=2.5, state=state, n_rows=900),
        Reading(
            guard="feature_drift", of="age", value=0.3, low=0.3, high=0.3, threshold=None, state="warning", n_rows=9
        ),
        Reading(guard="auc", of="like", value=0.0, low=0.0, high=0.0, threshold=0.5, state="waiting", n_rows=7),
    )
    report = GuardReport(
        at_ms=1,
        event_ms=5 * HOUR_MS,
        models=tuple(ModelReadings(model=m, n_rows=9, n_pages=1, readings=readings) for m in ("an older one", model)),
    )
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    (settings.run_dir / REPORT_FILE).write_bytes(msgspec.json.encode(report))


def test_the_join_and_the_guards_of_what_serves_are_told(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    live = publish(settings, "a")
    wiring.build_registry(settings).promote({"ranker": live}, now_ms=1)
    keep_parts(settings, live)
    found = flywheel_status(settings)
    assert found.join == JoinFigures(
        join_rate=0.75, n_samples=61, late_share=0.25, lag_ms=1_800_000, lag_records=4, alarm="", told_ms=9
    )
    assert [(guard.state, guard.is_alarmed, guard.words) for guard in found.guards] == [
        ("ok", False, "calibration of like is 3.2 (threshold 2.5), ok"),
        ("warning", False, "feature drift of age is 0.3 (only warns), warning"),
        ("waiting", False, "auc of like: too little to tell (7 rows, 0 times done)"),
    ]
    argv = ["flywheel", "status", "--home", str(settings.home)]
    assert cli.run(argv) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "join: 75.0% of the newest looks found their page; 61 samples, 25.0% of the actions late; 4 records" in shown
    assert "behind the log at Thu 1 Jan, 00:00 UTC" in shown
    assert "guards: none of 3 alarmed (1 wait for more rows, 1 warn), at Thu 1 Jan, 00:00 UTC" in shown
    keep_parts(settings, live, alarm="of the newest 80 looks 75.0% found their page", state="confirming")
    assert cli.run(argv) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "ALARM: of the newest 80 looks" in shown
    assert "guards: ALARM: calibration of like is 3.2 (threshold 2.5), confirming" in shown
    (settings.run_dir / REPORT_FILE).write_text("{")
    assert flywheel_status(settings).guards == ()


def test_status_and_history_are_shown_and_printed_as_json(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(settings.home)
    assert cli.run(["flywheel", "history", "--home", home]) == 0
    assert "no rounds yet" in capsys.readouterr().out
    decision_log(settings).append(a_decision(2, ""))
    assert cli.run(["flywheel", "status", "--home", home]) == 0
    shown = capsys.readouterr().out
    assert "round 2: refused: the live model was all wrong" in shown
    assert "0.7" in shown
    assert cli.run(["flywheel", "history", "--home", home]) == 0
    assert "NO" in capsys.readouterr().out
    assert cli.run(["flywheel", "status", "--home", home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decisions"][0]["rules"][0]["name"] == "surprise"
    assert cli.run(["flywheel", "history", "--home", home, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "refused"
