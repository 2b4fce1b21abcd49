"""The page tells how the feed learns: what serves, the last hours, what was decided and why; and keeps it true."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.flywheel_rounds import decision_log
from millrace.app.learning_note import keep_waiting, nothing_waits
from millrace.app.near_line import REPORT_FILE
from millrace.app.settings import Settings
from millrace.app.student_renewal import distillation_log
from millrace.base.atomic_file import replacing
from millrace.flywheel.decisions import Decision, HeadMetrics, RuleOutcome
from millrace.flywheel.distillations import Distillation
from millrace.flywheel.guards.readings import GuardReport, ModelReadings, Reading, State
from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_status import JoinStatus, keep_status
from millrace.flywheel.join_watch import JoinRate
from millrace.registry.manifest import Description
from millrace.testing.server_process import PATIENCE_S, PATIENT, ServerProcess, until

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

HOUR_MS = 3_600_000
PATIENCE_MS = 1_000 * PATIENCE_S
NOON_MS = 1_800_014_400_000


def a_decision(number: int, verdict: Any, why: str, auc: float) -> Decision:
    return Decision(
        number=number,
        at_ms=NOON_MS,
        from_ms=NOON_MS + (number - 1) * HOUR_MS,
        until_ms=NOON_MS + number * HOUR_MS,
        verdict=verdict,
        why=why,
        n_pages=1_234,
        n_learned=900,
        n_judged=300,
        from_version=f"v{number}",
        to_version=f"v{number + 1}",
        rules=(
            RuleOutcome(
                name="entropy", value=-0.02, threshold=0.0, is_kept=verdict != "refused", words="entropy <b>lost</b>"
            ),
        ),
        prequential=(HeadMetrics(action="like", n_positive=500, auc=auc, normalised_entropy=0.8, calibration=1.02),),
    )


def keep_join(settings: Settings, looks_frac: float, alarm: str = "") -> None:
    """Write down what the join would at a commit."""
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
        n_samples=4_321,
        n_corrections=2,
        n_unreadable=0,
        page_bytes=1,
        mean_page_bytes=1.0,
        negative_rate=1.0,
        rate=JoinRate(
            n_looks=80, n_deeds=9, looks_frac=looks_frac, deeds_frac=1.0, late_frac=0.02, before_frac=None, alarm=alarm
        ),
        stats=JoinStats(),
    )
    settings.samples_dir.mkdir(parents=True, exist_ok=True)
    keep_status(settings.samples_dir, status)


def publish(settings: Settings, folder: Path, net: str) -> str:
    """Publish a ranker of these bytes; return its version."""
    folder.mkdir(exist_ok=True)
    (folder / "net").write_text(net)
    said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
    return wiring.build_registry(settings).publish(folder, said, now_ms=1_000).version


def keep_guards(settings: Settings, model: str, state: State) -> None:
    """Write down what the guards would after a look."""
    readings = (
        Reading(guard="calibration", of="like", value=3.2, low=2.9, high=3.5, threshold=2.5, state=state, n_rows=900),
        Reading(guard="auc", of="like", value=0.0, low=0.0, high=0.0, threshold=0.5, state="waiting", n_rows=7),
    )
    model_readings = ModelReadings(model=model, n_rows=900, n_pages=30, readings=readings)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with replacing(settings.run_dir / REPORT_FILE) as file:
        file.write(msgspec.json.encode(GuardReport(at_ms=1, event_ms=NOON_MS, models=(model_readings,))))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_home(tmp_path_factory.mktemp("flywheel") / "home")[0]


@pytest.fixture(autouse=True)
def two_rounds(settings: Settings) -> None:
    """Let two rounds be all that the home tells, whatever another test has made it tell."""
    for folder in (settings.models_dir, settings.samples_dir):
        shutil.rmtree(folder, ignore_errors=True)
    (settings.run_dir / REPORT_FILE).unlink(missing_ok=True)
    settings.virtual_time_path.unlink(missing_ok=True)
    nothing_waits(settings)
    log = decision_log(settings)
    log.append(a_decision(1, "promoted", "surely better on the newest pages", 0.71))
    log.append(a_decision(2, "refused", "the hour looks poisoned: AUC fell by 0.21", 0.5))


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[ServerProcess]:
    # Without a joiner and guards: the test writes down itself what those say.
    server = ServerProcess(settings.home, n_workers=1, overrides=PATIENT)
    try:
        server.wait_ready()
        follow = {"type": "FollowChanged", "follower_id": "vera", "followee_id": "ada"}
        server.get("/api/v1/events", json.dumps([{"payload": follow}]).encode())
        until(lambda: b"vera" in server.get("/api/v1/viewers"), PATIENCE_S)
        yield server
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def page(server: ServerProcess, new_page: Callable[[], Any]) -> Any:
    page = new_page()
    page.goto(f"{server.url}/?viewer=vera")
    page.wait_for_selector("#flywheel:visible")
    return page


def test_the_last_rounds_are_told_with_their_reasons_and_new_ones_come_in(page: Any, settings: Settings) -> None:
    page.click("#flywheel")
    page.wait_for_selector("#decisions")
    assert page.inner_text("#live-version") == "no ranker: counters rank"
    assert page.locator("#taken-back").count() == 0
    keep_waiting(settings, "12 new pages, and a round needs 400")
    playwright.expect(page.locator("#doing")).to_have_text(
        "Now waiting: 12 new pages, and a round needs 400.", timeout=PATIENCE_MS
    )
    summaries = page.locator("#decisions summary").all_inner_texts()
    assert [text.split()[0] for text in summaries] == ["refused", "promoted"]
    assert "the hour looks poisoned: AUC fell by 0.21" in summaries[0]
    assert "AUC 0.5" in page.inner_text(".sparks")
    assert page.locator(".spark svg").count() == 3
    page.click("#decisions summary >> nth=0")
    assert "entropy <b>lost</b>" in page.inner_text("#decisions details >> nth=0")
    decision_log(settings).append(a_decision(3, "promoted", "better again", 0.74))
    playwright.expect(page.locator("#decisions details")).to_have_count(3, timeout=PATIENCE_MS)
    assert page.locator("#decisions details[open]").count() == 1
    assert page.locator("#distillations").count() == 0
    distillation_log(settings).append(
        Distillation(
            number=1,
            serial=1,
            at_ms=NOON_MS,
            from_ms=0,
            until_ms=NOON_MS + 2 * HOUR_MS,
            verdict="refused",
            why="loses <b>0.050</b> of it",
        )
    )
    told = page.locator("#distillations")
    playwright.expect(told).to_contain_text("pre-ranker refused Pages until 15 Jan, 14:00 UTC", timeout=PATIENCE_MS)
    assert "loses <b>0.050</b> of it" in told.inner_text()
    assert "AUC 0.74" in page.inner_text(".sparks")


def test_reasons_of_a_refusal_stand_one_below_the_other_and_fit_a_phone(page: Any, settings: Settings) -> None:
    broken = [
        RuleOutcome(
            name=name, value=-0.1, threshold=0.0, is_kept=False, words=f"{name} {'is worse; ' * 9}asked: better"
        )
        for name in ("entropy", "auc", "memory", "surprise", "crowd")
    ]
    kept = RuleOutcome(name="size", value=1.0, threshold=2.0, is_kept=True, words="1 MB, the live model 1 MB")
    why = "; ".join(rule.words for rule in broken)
    decision = a_decision(3, "refused", f"{why} (2.0 h before were skipped)", 0.6)
    decision_log(settings).append(msgspec.structs.replace(decision, rules=(kept, *broken)))
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#flywheel")
    page.wait_for_selector("#decisions")
    newest = page.locator("#decisions details >> nth=0")
    first = [rule.words for rule in broken[:3]]
    assert newest.locator(".why").all_inner_texts() == [*first, "and 2 more", "(2.0 h before were skipped)"]
    newest.locator("summary").click()
    assert newest.locator("td .chip").all_inner_texts() == ["broken"] * 5 + ["kept"]
    lines_of_chips = newest.locator("td .chip").evaluate_all("chips => chips.map(chip => chip.getClientRects().length)")
    assert lines_of_chips == [1] * 6
    assert page.evaluate("document.querySelector('#panel').scrollWidth") <= 390


def test_in_virtual_time_every_moment_names_its_clock(page: Any, settings: Settings, tmp_path: Path) -> None:
    registry = wiring.build_registry(settings)
    live, bad = (publish(settings, tmp_path / net, net) for net in ("good", "bad"))
    registry.promote({"ranker": bad}, now_ms=2_000)
    registry.withdraw("ranker", bad, now_ms=NOON_MS, reason="guard calibration")
    registry.promote({"ranker": live}, now_ms=3_000)
    keep_join(settings, 0.9)
    keep_guards(settings, live, "ok")
    page.click("#flywheel")
    page.wait_for_selector("#decisions")
    assert page.locator("#clocks").count() == 0
    assert "world time" not in page.inner_text("#panel")
    settings.virtual_time_path.touch()  # as `millrace serve --virtual-time` marks a home
    playwright.expect(page.locator("#clocks")).to_contain_text("Two clocks: it is ", timeout=PATIENCE_MS)
    page.click("#decisions summary >> nth=0")
    assert "as of 1 Jan, 00:00 world time" in page.inner_text("#join")
    assert "sure up to 30 min of world time ago" in page.inner_text("#join")
    assert "as of 15 Jan, 12:00 world time" in page.inner_text("#guards")
    newest = page.inner_text("#decisions details >> nth=0")
    assert "Round 2 · pages until 15 Jan, 14:00 world time" in newest
    assert "decided 15 Jan, 12:00 UTC real time" in newest
    assert "15 Jan, 12:00 UTC real time" in page.inner_text("#taken-back")
    page.screenshot(path=tmp_path / "clocks.png")


def test_the_join_and_the_guards_of_what_serves_are_told_and_their_alarms(
    page: Any, settings: Settings, tmp_path: Path
) -> None:
    expect = playwright.expect
    page.click("#flywheel")
    page.wait_for_selector("#decisions")
    assert page.locator("#join").count() == page.locator("#guards").count() == 0  # neither has told anything yet
    keep_join(settings, 0.987)
    expect(page.locator("#join")).to_contain_text("join rate 98.7 %", timeout=PATIENCE_MS)
    told = page.inner_text("#join")
    assert "samples 4,321" in told
    assert "late 2.0 %" in told
    assert "sure up to 30 min ago" in told
    assert "records not heard 4" in told
    assert page.locator("#join .bad").count() == 0
    registry, live = wiring.build_registry(settings), publish(settings, tmp_path, "net")
    registry.promote({"ranker": live}, now_ms=1_000)
    keep_guards(settings, live, "ok")
    expect(page.locator("#guards")).to_contain_text("as of 1 Jan, 00:00 UTC", timeout=PATIENCE_MS)
    expect(page.locator("#guards")).to_contain_text("2 guards, none alarmed", timeout=PATIENCE_MS)
    assert "1 waiting for more rows" in page.inner_text("#guards")
    page.click("text=What each of them says")
    assert "calibration of like is 3.2 (threshold 2.5), ok" in page.inner_text("[data-round=guards]")
    keep_join(settings, 0.4, alarm="of the newest 80 looks 40.0% found their page, less than 90%")
    keep_guards(settings, live, "tripped")
    expect(page.locator("#join .bad")).to_have_text(
        "of the newest 80 looks 40.0% found their page, less than 90%", timeout=PATIENCE_MS
    )
    expect(page.locator("#guards .bad")).to_have_text("calibration of like is 3.2 (threshold 2.5), tripped")
    registry.withdraw("ranker", live, now_ms=2_000, reason="guard calibration")
    expect(page.locator("#live-version")).to_have_text("no ranker: counters rank", timeout=PATIENCE_MS)
    expect(page.locator("#guards")).to_have_count(0)
    assert live in page.inner_text("#taken-back")
    assert "guard calibration" in page.inner_text("#taken-back")
