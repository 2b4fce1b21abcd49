"""How far a training is, as others see it: in the home's file, in a line, over HTTP, in the terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from millrace.app import cli
from millrace.app.commands.init import make_home
from millrace.app.learner import TrainingNews
from millrace.app.model_status import model_status, status_words
from millrace.app.settings import Settings, load_settings
from millrace.app.training_outcome import TrainingOutcome, keep_outcome, last_outcome
from millrace.app.training_run import training_run
from millrace.app.training_status import TrainingStatus, process_begin, status_path, telling, training_status
from millrace.base.errors import StoreError
from millrace.testing.progress import in_silence


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


def test_a_training_is_told_of_while_it_lasts(settings: Settings) -> None:
    assert training_status(settings) is None
    with telling(settings, in_silence, every_s=0.0) as show:
        with show("reading the log (records)") as step:
            step.advance(1_200)
            reading = training_status(settings)
        with show("training the ranker (steps)") as step:
            step.total(300)
            step.advance(100)
            step.advance(29)
            training = training_status(settings)
    me, began = os.getpid(), process_begin(os.getpid())
    assert reading == TrainingStatus(pid=me, began=began, stage="reading the log", unit="records", n_done=1_200)
    assert reading.words() == "training, reading the log, 1,200 records"
    assert training is not None
    assert training.words() == "training, ranker 43 %"
    assert training_status(settings) is None


def test_it_is_written_at_each_stage_and_not_at_every_step(settings: Settings) -> None:
    with telling(settings, in_silence, every_s=3_600.0) as show, show("distilling (steps)") as step:
        step.total(10)
        written = status_path(settings).read_bytes()
        step.advance(5)
        assert status_path(settings).read_bytes() == written
        assert msgspec.json.decode(written)["stage"] == "distilling"


def test_what_a_killed_trainer_left_is_nothing(settings: Settings) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    status_path(settings).write_bytes(msgspec.json.encode(TrainingStatus(pid=done.pid, stage="distilling")))
    assert training_status(settings) is None
    status_path(settings).write_bytes(b"{")
    assert training_status(settings) is None


@pytest.mark.skipif(not process_begin(os.getpid()), reason="the system has no /proc")
def test_a_process_that_has_the_number_of_a_trainer_of_before_is_none(settings: Settings) -> None:
    status = TrainingStatus(pid=os.getpid(), began=process_begin(os.getpid()), stage="distilling")
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    status_path(settings).write_bytes(msgspec.json.encode(status))
    assert training_status(settings) == status
    boot, _, tick = status.began.partition(":")
    for began in (f"{boot}:{int(tick) + 1}", f"another boot:{tick}"):
        status_path(settings).write_bytes(msgspec.json.encode(msgspec.structs.replace(status, began=began)))
        assert training_status(settings) is None


def test_one_that_is_refused_leaves_what_the_other_tells(settings: Settings) -> None:
    other = TrainingStatus(pid=1, stage="distilling")
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    status_path(settings).write_bytes(msgspec.json.encode(other))
    with (
        training_run(settings, {}),
        pytest.raises(StoreError, match="another process trains"),
        telling(settings, in_silence),
        training_run(settings, {}),
    ):
        pass
    assert training_status(settings) == other


@pytest.mark.parametrize(
    ("serving", "since_ms", "training", "words"),
    [
        ({}, None, None, "models: none, counters rank"),
        ({}, None, TrainingStatus(pid=1, stage="distilling", n_all=8, n_done=2), "models: training, pre-ranker 25 %"),
        ({"ranker": "r7"}, 1_500_000_000_000, None, "models: ranker r7 serves since Fri 14 Jul, 02:40 UTC"),
        (
            {"retrieval": "t7", "ranker": "r7"},
            None,
            TrainingStatus(pid=1, stage="reading the log"),
            "models: ranker r7, retrieval t7 serve; training, reading the log",
        ),
    ],
)
def test_a_status_is_a_line(
    serving: dict[str, str], since_ms: int | None, training: TrainingStatus | None, words: str
) -> None:
    assert status_words(serving, since_ms, training) == words


def test_folders_of_the_config_serve_by_their_names(settings: Settings, tmp_path: Path) -> None:
    settings = load_settings(settings.home, {}, [("home.ranker", str(tmp_path / "big"))])
    assert model_status(settings).words == "models: ranker big serves"


def test_the_terminal_hears_what_is_new_now_and_then(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    news = TrainingNews(settings, every_s=0.0)
    with (
        caplog.at_level(logging.INFO, "millrace.app.learner"),
        telling(settings, in_silence, every_s=0.0) as show,
        show("distilling (steps)") as step,
    ):
        step.total(4)
        for _ in range(2):
            step.advance()
            news.tell()
            news.tell()
    news.tell()
    assert caplog.messages == ["models: training, pre-ranker 25 %", "models: training, pre-ranker 50 %"]
    assert {record.levelname for record in caplog.records} == {"INFO"}  # nothing is wrong


REFUSED = TrainingOutcome(ended_ms=1_500_000_000_000, refused={"ranker": "refused: its entropy is higher"})


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (None, "none, counters rank"),
        (
            REFUSED,
            "none yet; the last training (Fri 14 Jul, 02:40 UTC) was refused: knows no more than counters",
        ),
        (
            TrainingOutcome(ended_ms=1_500_000_000_000, problem="training.log tells why"),
            "none yet; the last training (Fri 14 Jul, 02:40 UTC) failed: training.log tells why",
        ),
        (
            TrainingOutcome(ended_ms=1_500_000_000_000, asked_to_serve=False),
            "none yet; the last training (Fri 14 Jul, 02:40 UTC) was not to serve: millrace train --promote",
        ),
        (TrainingOutcome(ended_ms=1, promoted=("ranker",)), "none, counters rank"),  # and was taken out since
    ],
)
def test_where_nothing_serves_it_is_told_what_came_of_the_last_training(
    settings: Settings, last: TrainingOutcome | None, words: str
) -> None:
    if last is not None:
        keep_outcome(settings, last)
    status = model_status(settings)
    assert (status.words, status.last_training) == (f"models: {words}", last)
    training = TrainingStatus(pid=1, stage="distilling")
    assert status_words({}, None, training, last) == "models: training, pre-ranker"
    assert status_words({"ranker": "r7"}, None, None, last) == "models: ranker r7 serves"


def test_where_towers_serve_and_the_ranker_was_refused_both_are_told() -> None:
    words = status_words({"retrieval": "t1"}, None, None, msgspec.structs.replace(REFUSED, promoted=("retrieval",)))
    assert words == (
        "models: retrieval t1 serves; no ranker yet; the last training (Fri 14 Jul, 02:40 UTC) was refused: "
        "knows no more than counters"
    )


def test_an_outcome_that_cannot_be_read_is_none(settings: Settings) -> None:
    keep_outcome(settings, REFUSED)
    (settings.run_dir / "last_training.json").write_bytes(b"{")
    assert last_outcome(settings) is None


def test_models_list_tells_of_a_training(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    command = ["models", "list", "--home", str(settings.home)]
    with telling(settings, in_silence) as show, show("distilling (steps)"):
        assert cli.run(command) == 0
        assert "models: training, pre-ranker" in capsys.readouterr().out
        assert cli.run([*command, "--json"]) == 0
        assert msgspec.json.decode(capsys.readouterr().out)["training"]["stage"] == "distilling"
    assert cli.run(command) == 0
    assert capsys.readouterr().out == "No models.\n"
