"""The learning loop over a home: what it waits for is told once, and a ranker taken out of service is not replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.app import wiring
from millrace.app.commands.flywheel_run import round_words
from millrace.app.commands.init import make_home
from millrace.app.entropy_gain import EntropyGain
from millrace.app.flywheel_rounds import decision_log, keep_learning, learn_once
from millrace.app.flywheel_status import flywheel_status
from millrace.app.learner import RoundNews, pairs_above, with_learning
from millrace.app.seed_decision import note_seeded
from millrace.app.settings import Settings, load_settings
from millrace.app.student_renewal import distillation_log
from millrace.app.training import HeadFigures, TrainedRanker
from millrace.app.training_outcome import TrainingOutcome, keep_outcome
from millrace.flywheel.decisions import Decision, DecisionLog
from millrace.flywheel.distillations import Distillation
from millrace.flywheel.learning_round import Waiting
from millrace.registry.manifest import Description
from millrace.testing.progress import in_silence


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made, _ = make_home(tmp_path / "home")
    return made


@pytest.mark.slow  # imports PyTorch
def test_a_home_of_which_nothing_was_seen_waits_and_says_so_once(settings: Settings) -> None:
    told: list[Decision | Waiting | Distillation] = []
    waits = iter([True, True, False])
    assert flywheel_status(settings).doing == ""
    keep_learning(settings, in_silence, lambda _seconds: next(waits), told.append)
    (waiting,) = told
    assert isinstance(waiting, Waiting)
    assert "no impressions" in waiting.why
    assert round_words(waiting).startswith("waiting: ")
    assert flywheel_status(settings).doing == f"waiting: {waiting.why}"  # and nothing is said to be at work still


def test_after_a_refusal_no_first_ranker_is_trained_before_the_log_is_twice_as_long(settings: Settings) -> None:
    keep_outcome(settings, TrainingOutcome(ended_ms=1, n_pages=70, refused={"ranker": "refused: why"}, n_records=1_000))
    waiting = learn_once(settings, in_silence)  # and nothing is read or trained
    assert isinstance(waiting, Waiting)
    assert waiting.why == (
        "the ranker trained on 70 pages was refused: why; again when the log has 2,000 records "
        "(millrace train --promote: at once)"
    )


def test_where_a_ranker_was_taken_out_of_service_none_is_trained_in_its_place(settings: Settings) -> None:
    folder = settings.home / "trained"
    folder.mkdir()
    (folder / "net").write_text("x")
    registry = wiring.build_registry(settings)
    said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
    registry.promote({"ranker": registry.publish(folder, said, now_ms=1_000).version}, now_ms=1)
    registry.promote({"ranker": None}, now_ms=2, note="a guard")
    waiting = learn_once(settings, in_silence)
    assert isinstance(waiting, Waiting)
    assert "taken out of service" in waiting.why


def test_a_whole_training_that_serves_is_a_decision_behind_which_rounds_count_on(settings: Settings) -> None:
    folder = settings.home / "trained"
    folder.mkdir()
    (folder / "net").write_text("x")
    registry = wiring.build_registry(settings)
    said = Description(kind="ranker", feature_schema_hash="f", from_ms=5, until_ms=9)
    version = registry.publish(folder, said, now_ms=1_000).version
    head = HeadFigures(
        action="like", n_learned=90, n_held_out=30, auc=0.7, normalised_entropy=0.9, calibration=1.1,
        counters_auc=0.6, counters_normalised_entropy=1.0, counters_calibration=1.0,
    )  # fmt: skip
    trained = TrainedRanker(
        folder="ranker", n_slates=1_234, n_rows=9_000, best_step=40, n_steps=50, validation_loss=0.5, held_out=(head,),
        gain=EntropyGain(0.0312, 0.02), held_out_from_ms=8,
    )  # fmt: skip
    note_seeded(settings, trained, version, "")
    (seeded,) = decision_log(settings).all()
    assert (seeded.number, seeded.verdict, seeded.from_ms, seeded.until_ms) == (1, "seeded", 5, 9)
    assert (seeded.from_version, seeded.to_version, seeded.judged_from_ms) == ("", version, 8)
    assert seeded.why == (
        "trained from nothing on 1,234 pages: normalised entropy +0.0312 better than that of calibrated counters"
    )
    assert flywheel_status(settings).hours[0].auc == pytest.approx(0.7)


def test_a_demo_learns_on_unless_its_settings_say_otherwise_and_its_trainer_reads_the_same(settings: Settings) -> None:
    assert not settings.config.flywheel.learns
    learning = with_learning(settings)
    assert learning.config.flywheel.learns
    assert load_settings(settings.home, {}, pairs_above(learning)).config == learning.config
    asked = load_settings(settings.home, {}, [("flywheel.learns", "false")])
    assert not with_learning(asked).config.flywheel.learns


def test_rounds_are_told_in_the_terminal_once_each(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    log = DecisionLog(settings.models_dir / "decisions.jsonl")

    def decide(number: int) -> None:
        log.append(Decision(number=number, at_ms=0, from_ms=0, until_ms=1, verdict="refused", why=f"no {number}"))

    decide(1)
    news = RoundNews(settings)
    with caplog.at_level("INFO", logger="millrace.app.learner"):
        news.tell()
        decide(2)
        decide(3)
        news.tell()
        news.tell()
        made = Distillation(number=1, serial=1, at_ms=0, from_ms=0, until_ms=1, verdict="refused", why="loses much")
        distillation_log(settings).append(made)
        news.tell()
        news.tell()
    assert caplog.messages == [
        "flywheel: round 2 refused: no 2",
        "flywheel: round 3 refused: no 3",
        "flywheel: pre-ranker refused: loses much",
    ]
    assert news.n_told == 3
