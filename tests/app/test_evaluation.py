"""`millrace eval` on the small world: from a home's log to the tables, and to its alarms."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.app import cli, wiring
from millrace.app.as_of import AsOf, predict_as_of
from millrace.app.commands.evaluate import parse_time
from millrace.app.commands.init import make_home
from millrace.app.eval_report import EvalOptions, EvalReport
from millrace.app.evaluation import evaluate_home
from millrace.app.intake import Intake, batches
from millrace.app.settings import Settings, with_patience
from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Impression, Served, ServedItem
from millrace.flywheel.slate_join import SlateJoin
from millrace.flywheel.slates import Slates
from millrace.mixer.feed import FeedRequest
from millrace.mixer.side_effects.served_log import served_event
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.world import simulate_history
from millrace.stores.claims import MemoryClaims
from millrace.testing.builders import an_event, an_impression
from millrace.testing.progress import in_silence

pytestmark = pytest.mark.timeout(300)

NOW_MS = 1_795_000_000_000
HOURS = 30
COMMAND = ["--hours", str(HOURS), "--min-positives", "20", "--bootstrap", "50"]


def a_home(folder: Path, events: list[AnyEvent]) -> Settings:
    settings, _ = make_home(folder)
    with Intake(settings, ManualClock(NOW_MS)) as intake:
        for batch in batches(events):
            intake.take(batch)
    assert intake.refusals == []
    return settings


@pytest.fixture(scope="module")
def world() -> list[AnyEvent]:
    return list(simulate_history(WorldConfig(size="tiny", history_ms=HOURS * HOUR_MS), NOW_MS))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: list[AnyEvent]) -> Settings:
    return a_home(tmp_path_factory.mktemp("home"), world)


def run(home: Settings, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.run(["eval", "--home", str(home.home), *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_small_world_is_measured_by_action_and_slice(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, complaints = run(home, capsys, *COMMAND, "--recall", "30", "--json")
    assert (code, complaints) == (0, "")
    report = msgspec.json.decode(said, type=EvalReport)
    assert report.n_viewers > 50
    assert report.n_rows > 500
    assert report.n_gone < 0.01 * report.n_rows
    rows = {(row.action, row.slice): row for row in report.rows}
    assert {"all", "in-network", "out-of-network", "new users", "language en"} <= {name for _, name in rows}
    like = rows["like", "all"].metrics
    assert like["auc"].value is not None
    assert 0.5 < like["auc"].value < 0.95
    assert (like["auc"].low or 0) < like["auc"].value < (like["auc"].high or 0)
    (recall,) = [row for row in report.recall if (row.action, row.slice) == ("any", "all")]
    assert 0 < (recall.metrics["sources"].value or 0) <= 1
    assert recall.n_live > 100
    assert report.leaks == []
    assert report.controls
    assert all(control.holds for control in report.controls)


def test_the_tables_are_printed_with_what_was_left_out(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run(home, capsys, *COMMAND, "--actions", "like,report", "--recall", "0")
    assert code == 0
    assert "Order (95 % intervals)" in said
    assert "By slice" in said
    assert "Probabilities" in said
    assert "No numbers: report (too few positives" in said
    assert "Leaks: no alarm" in said


def test_shuffled_labels_are_a_coin_flip(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run(home, capsys, *COMMAND, "--recall", "0", "--shuffle-labels", "--json")
    report = msgspec.json.decode(said, type=EvalReport)
    assert code == 0
    assert report.is_shuffled
    for row in report.rows:
        if row.slice == "all" and "auc" in row.metrics:
            assert abs((row.metrics["auc"].value or 0) - 0.5) < 4 * np.sqrt(0.35 / row.n_positive), row


def slates_of(settings: Settings, events: list[AnyEvent], until_ms: int) -> Slates:
    join: SlateJoin = wiring.build_slate_join(settings, IdHasher(), window_ms=HOUR_MS, takes_all=False)
    for offset, event in enumerate(events):
        join.hear(offset, event.event_time_ms, event)
    return join.join(until_ms=until_ms)


def predicted(settings: Settings, slates: Slates, behind_ms: int) -> AsOf:
    log = wiring.build_log(settings)
    try:
        none = np.empty(0, dtype=np.int64)
        return predict_as_of(
            settings, log, IdHasher(), slates, none, behind_ms=behind_ms, on_progress=lambda _done, _all: None
        )
    finally:
        log.close()


def test_what_comes_later_changes_no_prediction(home: Settings, world: list[AnyEvent], tmp_path: Path) -> None:
    until_ms = NOW_MS - 15 * HOUR_MS
    slates = slates_of(home, world, until_ms)
    assert len(slates) > 20
    past = a_home(tmp_path / "past", world[: int(slates.cuts[-1]) + 1])
    with_future, without = predicted(home, slates, 0), predicted(past, slates, 0)
    assert with_future.probs.tobytes() == without.probs.tobytes()
    assert with_future.scores.tobytes() == without.scores.tobytes()
    assert with_future.is_live.mean() > 0.99


def test_a_state_that_is_a_little_behind_predicts_nearly_the_same(home: Settings, world: list[AnyEvent]) -> None:
    slates = slates_of(home, world, NOW_MS)
    exact, behind = predicted(home, slates, 0), predicted(home, slates, 60_000)
    assert np.corrcoef(exact.probs[:, 0], behind.probs[:, 0])[0, 1] > 0.95


def with_pages(world: list[AnyEvent], *, knows_the_future: bool) -> list[AnyEvent]:
    """The world's impressions with a request of their own, and scores: noise, or what will be done."""
    rng = np.random.default_rng(1)
    deeds = {(e.payload.viewer_id, e.payload.post_id) for e in world if type(e.payload).__name__ == "Engagement"}
    events: list[AnyEvent] = []
    for number, event in enumerate(world):
        payload = event.payload
        if isinstance(payload, Impression):
            is_done = (payload.viewer_id, payload.post_id) in deeds
            score = float(rng.random()) + 0.7 * (knows_the_future and is_done)
            item = ServedItem(post_id=payload.post_id, author_id="x", position=0, scores={"score": score})
            page = Served(request_id=f"r{number}", viewer_id=payload.viewer_id, pipeline="home", items=(item,))
            at_ms = event.event_time_ms - payload.dwell_ms
            events.append(an_event(page, at_ms=at_ms, event_id=f"page-{number}", source="server"))
            payload = msgspec.structs.replace(payload, request_id=f"r{number}")
        events.append(msgspec.structs.replace(event, payload=payload))
    return sorted(events, key=lambda event: event.event_time_ms)


def test_scores_that_were_served_are_measured_and_those_that_foresaw_are_found_out(
    world: list[AnyEvent], tmp_path: Path
) -> None:
    options = EvalOptions(scores="served", hours=HOURS, n_recall=0)
    reports = {}
    for knows in (False, True):
        settings = a_home(tmp_path / str(knows), with_pages(world, knows_the_future=knows))
        reports[knows] = evaluate_home(settings, options, in_silence)
    (honest,) = [row for row in reports[False].rows if (row.action, row.slice) == ("any", "all")]
    assert list(honest.metrics)[:2] == ["auc", "pr_auc"]
    assert "calibration" not in honest.metrics
    assert reports[False].leaks == []
    assert [(leak.score, leak.rule) for leak in reports[True].leaks] == [("as served", "hindsight")]
    assert not reports[True].is_sound


def test_a_page_is_scored_again_as_it_was_served(world: list[AnyEvent], tmp_path: Path) -> None:
    settings, clock = a_home(tmp_path, world), ManualClock(NOW_MS)
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock)
    replica.catch_up()
    service = wiring.build_feed_service(with_patience(settings, 600_000), replica, claims=MemoryClaims(), clock=clock)
    events: list[AnyEvent] = []
    for viewer in ("u1", "u2", "u3", "u5", "u8"):
        request = FeedRequest(viewer_id=viewer, request_id=f"page-of-{viewer}")
        page, result = asyncio.run(service.home_with_result(request))
        events.append(served_event("home", result))
        events += [
            an_impression(viewer, post.post_id, request_id=page.request_id, position=place, at_ms=NOW_MS + 60_000)
            for place, post in enumerate(page.posts)
        ]
    replica.close()
    log.close()
    slates = slates_of(settings, [*world, *events], NOW_MS + HOUR_MS)
    last = slates.cuts == len(world)
    assert last.sum() == 5
    found = predicted(a_home(tmp_path / "later", [*world, *events]), slates, 0)
    rows = np.flatnonzero(np.isfinite(slates.served_scores))
    assert len(rows) > 50
    # Not to the bit: what depends on neighbours (base rates, author decay) sees the page, not all candidates.
    assert np.corrcoef(found.scores[rows], slates.served_scores[rows])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--from", "yesterday"], "option --from 'yesterday': not an ISO 8601 time; write --from 2027-01-15T08:00"),
        (["--actions", "like,shout"], "action 'shout': not known; use one of like, reply"),
        (["--from", "2001-01-01"], "log: holds no impressions of pages within the span; give more --hours"),
        (["--scores", "served"], "served scores: no impression within the span names a request"),
        (["--scores", "guessed"], "'guessed' is not one of"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_one_line(
    home: Settings, capsys: pytest.CaptureFixture[str], argv: list[str], complaint: str
) -> None:
    code, said, complaints = run(home, capsys, *argv)
    assert code != 0
    assert said == ""
    assert complaint in complaints
    assert len(complaints.splitlines()) == 1


def test_times_without_an_offset_are_utc() -> None:
    assert parse_time("2027-01-15T08:00") == parse_time("2027-01-15T09:00+01:00") == 1_800_000_000_000
    with pytest.raises(ConfigError):
        parse_time("08:00")
