"""The demo's learner: what it tells of a training, and by which settings the training reads the home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.learner import learn, outcome, pairs_above
from millrace.app.lifeline import Lifeline
from millrace.app.settings import load_settings
from millrace.registry.manifest import Description


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
