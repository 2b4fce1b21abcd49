"""The demo's learner: what it tells of a training, and by which settings the training reads the home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.first_training import log_length, needs_first_ranker, why_to_wait
from millrace.app.learner import learn, outcome, pairs_above, try_until_it_serves
from millrace.app.lifeline import Lifeline
from millrace.app.settings import Settings, load_settings
from millrace.app.training_outcome import TrainingOutcome, keep_outcome
from millrace.events.content_events import PostCreated
from millrace.events.envelope import Event
from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_status import JoinStatus, keep_status
from millrace.flywheel.join_watch import JoinRate
from millrace.registry.manifest import Description, Kind


def test_what_came_of_a_training_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    told = '{"ranker": {"n_slates": 1234}, "promoted": ["ranker"], "refused": {"retrieval": "finds nothing"}}'
    log.write_text(f"a warning\n{told}\n", encoding="utf-8")
    assert outcome(log) == "models were trained on 1,234 pages; serving now: ranker; retrieval: finds nothing"
    log.write_text(told.replace('["ranker"]', "[]") + "\n", encoding="utf-8")
    assert "serving now: none, counters go on; retrieval" in outcome(log)
    log.write_text("killed\n", encoding="utf-8")
    assert str(log) in outcome(log)


def test_a_trainer_reads_the_home_by_the_demos_own_settings(tmp_path: Path) -> None:
    made, _ = make_home(tmp_path)
    given = [("world.size", "tiny"), ("home.page_size", "7"), ("home.rank_servers", '["127.0.0.1:8101"]')]
    settings = load_settings(made.home, {}, given)
    again = load_settings(made.home, {}, pairs_above(settings))
    assert again.config == settings.config
    assert again.config.home.page_size == 7


class LogThatGrows:
    """A home whose log gets ten records more at each wait, without sleep; its ranker is refused for a while."""

    def __init__(self, settings: Settings, serves_at: int, n_waits: int = 1_000) -> None:
        self.settings, self.serves_at, self.n_waits = settings, serves_at, n_waits
        self.log = wiring.build_log(settings)
        self.collector = wiring.build_collector(
            settings, self.log, wiring.build_codec(settings), wiring.build_event_clock(settings)
        )
        self.n_records = 0
        self.tried_at: list[int] = []
        self.said: list[str] = []
        self.grow()

    def grow(self) -> bool:
        payloads = [PostCreated(post_id=f"p{self.n_records + i}", author_id="ada") for i in range(10)]
        now_ms = wiring.build_clock().now_ms()
        assert not self.collector.submit(
            [Event(event_id=p.post_id, event_time_ms=now_ms, source="test", payload=p) for p in payloads]
        ).n_refused
        self.n_records += len(payloads)
        self.n_waits -= 1
        return self.n_waits > 0

    def train(self) -> None:
        """Towers serve from the first try on; the ranker does later."""
        self.tried_at.append(self.n_records)
        kinds: tuple[Kind, ...] = ("retrieval", "ranker") if len(self.tried_at) == self.serves_at else ("retrieval",)
        for kind in kinds:
            promote(self.settings, kind)
        refused = {"ranker": "refused: knows no more"} if "ranker" not in kinds else {}
        keep_outcome(
            self.settings,
            TrainingOutcome(
                ended_ms=1, n_pages=9, promoted=kinds, refused=refused, n_records=log_length(self.settings)
            ),
        )

    def run(self) -> list[int]:
        registry = wiring.build_registry(self.settings)
        try_until_it_serves(
            self.train,
            lambda: needs_first_ranker(registry),
            lambda: why_to_wait(self.settings),
            self.grow,
            self.said.append,
        )
        self.log.close()
        return self.tried_at


def promote(settings: Settings, kind: Kind) -> None:
    folder = settings.home / "trained"
    folder.mkdir(exist_ok=True)
    (folder / "net").write_bytes(b"weights")
    registry = wiring.build_registry(settings)
    said = Description(kind=kind, feature_schema_hash="f", from_ms=0, until_ms=1)
    registry.promote({kind: registry.publish(folder, said, now_ms=1_000).version}, now_ms=1_000)


def test_a_refused_ranker_is_trained_again_when_there_is_twice_as_much_until_one_serves(tmp_path: Path) -> None:
    home = LogThatGrows(make_home(tmp_path / "home")[0], serves_at=3)
    assert home.run() == [10, 20, 40]
    assert set(wiring.build_registry(home.settings).serving()) == {"retrieval", "ranker"}
    assert home.said == ["the ranker trained on 9 pages was refused: knows no more; again when the log has 40 records"]


def test_what_came_of_the_last_try_holds_after_a_restart(tmp_path: Path) -> None:
    home = LogThatGrows(make_home(tmp_path / "home")[0], serves_at=9)
    keep_outcome(home.settings, TrainingOutcome(ended_ms=1, problem="training.log tells why", n_records=20))
    home.n_waits = 5
    assert home.run() == [40]
    assert home.said[0] == "training the first models failed: training.log tells why; again when the log has 40 records"


def tell_join(settings: Settings, n_pages: int) -> None:
    rate = JoinRate(n_looks=0, n_deeds=0, looks_frac=1.0, deeds_frac=1.0, late_frac=0.0, before_frac=None)
    status = JoinStatus(
        epoch=1, position=(1,), told_ms=1, watermark_ms=1, lag_ms=0, lag_records=0, records_per_s=1.0, n_records=1,
        n_pages=n_pages, n_samples=0, n_corrections=0, n_unreadable=0, page_bytes=0, mean_page_bytes=0.0,
        negative_rate=1.0, rate=rate, stats=JoinStats(),
    )  # fmt: skip
    settings.samples_dir.mkdir(parents=True, exist_ok=True)
    keep_status(settings.samples_dir, status)


def test_where_pages_are_logged_they_count_and_a_client_that_floods_the_log_changes_nothing(tmp_path: Path) -> None:
    settings = LogThatGrows(make_home(tmp_path / "home")[0], serves_at=9).settings
    tell_join(settings, 40)
    refused = {"ranker": "refused: knows no more"}
    last = TrainingOutcome(ended_ms=1, n_pages=30, refused=refused, n_records=1, n_logged=40)
    keep_outcome(settings, last)
    assert log_length(settings) >= 2 * last.n_records
    why = "the ranker trained on 30 pages was refused: knows no more; again when 80 pages are logged"
    assert why_to_wait(settings) == why
    keep_outcome(settings, structs.replace(last, n_records=10**9))  # the log was full of something else
    tell_join(settings, 79)
    assert why_to_wait(settings) == why
    tell_join(settings, 80)
    assert why_to_wait(settings) == ""
    keep_outcome(settings, structs.replace(last, n_pages=50))  # of which some were replayed, not logged
    assert "when 90 pages" in why_to_wait(settings)
    tell_join(settings, 3)  # the join began anew
    assert why_to_wait(settings) == ""


def test_where_a_guard_took_the_only_ranker_away_another_is_trained_when_there_is_twice_as_much(tmp_path: Path) -> None:
    home = LogThatGrows(make_home(tmp_path / "home")[0], serves_at=2)
    registry = wiring.build_registry(home.settings)
    keep_outcome(home.settings, TrainingOutcome(ended_ms=1, n_pages=9, promoted=("ranker",), n_records=10))
    promote(home.settings, "ranker")
    registry.withdraw("ranker", registry.serving()["ranker"], now_ms=2_000, reason="guard calibration: 2.4 of like")
    home.serves_at = 1
    home.run()
    assert home.tried_at == [20]
    assert home.said == ["the ranker trained on 9 pages was taken back by a guard; again when the log has 20 records"]


def test_where_a_person_took_the_ranker_back_no_first_one_is_trained(tmp_path: Path) -> None:
    home = LogThatGrows(make_home(tmp_path / "home")[0], serves_at=1)
    promote(home.settings, "ranker")
    wiring.build_registry(home.settings).promote({"ranker": None}, now_ms=2_000)
    assert home.run() == []


def test_what_it_tells_is_shown_by_a_demo_and_what_else_goes_well_is_not() -> None:
    lines = (
        "import logging",
        "from millrace.app.commands.serve import start_logging",
        "start_logging(quiet=True)",
        "[logging.getLogger(f'millrace.app.{name}').info(name) for name in ('learner', 'keeper')]",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert "INFO" in done.stderr
    assert done.stderr.rstrip().endswith("millrace.app.learner: learner")
    assert done.stderr.count("\n") == 1


@pytest.mark.timeout(20)
def test_a_learner_ends_where_there_is_nothing_to_learn(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    model = tmp_path / "model"
    model.mkdir()
    (model / "ranker.onnx").write_bytes(b"what serves already")
    registry = wiring.build_registry(settings)
    said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
    registry.promote({"ranker": registry.publish(model, said, now_ms=1_000).version}, now_ms=1_000)
    (parent, alive), (told, ready) = os.pipe(), os.pipe()
    learn(settings, Lifeline(parent, ready))  # returns: the supervisor's end of the pipe stays open
    assert os.read(told, 1) == b"r"
    for descriptor in (parent, alive, told, ready):
        os.close(descriptor)
