"""The demo's learner: what it tells of a training, and by which settings the training reads the home."""

from __future__ import annotations

from pathlib import Path

from millrace.app.commands.init import make_home
from millrace.app.learner import outcome, pairs_above
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
