"""The demo's learner: what it tells of a training, and by which settings the training reads the home."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from millrace.app.commands.init import make_home
from millrace.app.learner import learn, outcome, pairs_above
from millrace.app.lifeline import Lifeline
from millrace.app.settings import load_settings


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


@pytest.mark.timeout(120)
def test_a_learner_ends_when_there_is_nothing_more_to_learn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, _ = make_home(tmp_path)
    (parent, alive), (told, ready) = os.pipe(), os.pipe()
    with caplog.at_level(logging.WARNING):
        learn(settings, Lifeline(parent, ready))  # the log is empty: it says so, and returns
    assert os.read(told, 1) == b"r"
    assert "the first models could not be trained" in caplog.text
    assert b"no impressions of pages" in (settings.run_dir / "training.log").read_bytes().replace(b"\n", b" ")
    for descriptor in (parent, alive, told, ready):
        os.close(descriptor)
