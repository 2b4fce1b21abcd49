"""The demo's learner: what it tells of a training, and by which settings the training reads the home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.learner import MAX_TRIES, learn, outcome, pairs_above, try_until_it_serves
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


class LogThatGrows:
    """A fake clock: at each wait the log gets so many records more, and nothing sleeps."""

    def __init__(self, serves_at: int, n_records: int = 100, per_wait: int = 10, n_waits: int = 10_000) -> None:
        self.n_records, self._per_wait, self._n_waits = n_records, per_wait, n_waits
        self._serves_at = serves_at
        self.tried_at: list[int] = []

    def train(self) -> bool:
        self.tried_at.append(self.n_records)
        return len(self.tried_at) == self._serves_at

    def wait(self) -> bool:
        self.n_records += self._per_wait
        self._n_waits -= 1
        return self._n_waits > 0

    def run(self) -> list[int]:
        try_until_it_serves(self.train, lambda: self.n_records, self.wait)
        return self.tried_at


def test_it_tries_again_when_there_is_twice_as_much_until_it_serves() -> None:
    assert LogThatGrows(serves_at=1).run() == [100]
    assert LogThatGrows(serves_at=3).run() == [100, 200, 400]


def test_it_gives_up_after_a_few_tries_or_when_it_is_told_to() -> None:
    assert LogThatGrows(serves_at=99).run() == [100 * 2**n for n in range(MAX_TRIES)]
    assert LogThatGrows(serves_at=99, n_waits=15).run() == [100, 200]
    assert LogThatGrows(serves_at=99, n_records=0, per_wait=0, n_waits=5).run() == [0]


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
