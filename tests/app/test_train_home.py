"""`millrace train`: a home's models from one reading of its log; what is worth it serves, the rest says why not."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from millrace.app import cli, home_vectors
from millrace.app.entropy_gain import EntropyGain, entropy_gain
from millrace.app.flywheel_rounds import decision_log
from millrace.app.intake import Intake
from millrace.app.settings import load_settings
from millrace.app.training_all import MAX_AUC_LOST, reasons_against, train_home
from millrace.app.training_run import sum_of
from millrace.base.clock import SystemClock
from millrace.flywheel.train_ranker import load_ranker
from millrace.testing.builders import a_follow, a_post_created
from millrace.testing.progress import SilentStep, in_silence

KILLED_AT = """
import os, pathlib, signal, sys
from millrace.app.settings import load_settings
from millrace.app.training_all import train_home
from millrace.testing.progress import in_silence

def until(what):
    if what == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return in_silence(what)

train_home(load_settings(pathlib.Path(sys.argv[1])), until, epochs=0.2)
"""


def towers(found: float, popular: float) -> Any:
    return SimpleNamespace(
        held_out={
            name: SimpleNamespace(at={100: 0.1, 500: at}) for name, at in (("towers", found), ("popularity", popular))
        }
    )


def student(auc_lost: float) -> Any:
    return SimpleNamespace(auc_lost=auc_lost)


def test_what_is_worth_it_serves() -> None:
    assert reasons_against(EntropyGain(0.01, 0.001), towers(0.5, 0.4), student(MAX_AUC_LOST)) == {}


def test_each_kind_is_refused_for_its_own_reason_and_a_pre_ranker_with_its_ranker() -> None:
    refused = reasons_against(EntropyGain(0.01, -0.001), towers(0.4, 0.4), student(0.0))
    assert set(refused) == {"ranker", "pre_ranker", "retrieval"}
    assert refused["ranker"] == (
        "refused: its entropy is 0.0100 lower than that of calibrated counters (between 0.0210 lower and 0.0010 "
        "higher), so it is not sure to know more"
    )
    assert refused["pre_ranker"] == "refused: its ranker does not serve"
    assert refused["retrieval"] == (
        "refused: finds 0.400 of what was wanted among 500, no more than what is popular, 0.400"
    )
    assert set(reasons_against(EntropyGain(0.01, 0.001), None, student(0.5))) == {"pre_ranker", "retrieval"}


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (
            EntropyGain(-0.0105, -0.0371),
            "0.0105 higher than that of calibrated counters (between 0.0161 lower and 0.0371 higher)",
        ),
        (
            EntropyGain(-0.0105, -math.inf),
            "0.0105 higher than that of calibrated counters (by how much, too few pages tell)",
        ),
    ],
)
def test_a_ranker_that_knows_less_has_a_higher_entropy(gain: EntropyGain, words: str) -> None:
    assert f"its entropy is {words}, so" in reasons_against(gain, towers(0.5, 0.4), student(0.0))["ranker"]


def test_what_a_ranker_knows_beyond_counters_is_sure_or_may_be_chance() -> None:
    rng = np.random.default_rng(1)
    pages = np.repeat(np.arange(400), 5)
    truth = np.where(rng.random(2_000) < 0.5, 0.7, 0.1)
    labels = (rng.random(2_000) < truth)[:, None].astype(np.float32)
    counters = np.full((2_000, 1), labels.mean())
    knowing = entropy_gain(labels, truth[:, None], counters, pages, [0])
    assert 0.0 < knowing.low < knowing.value < 1.0
    guessing = entropy_gain(
        labels, np.clip(counters + rng.normal(0, 0.01, counters.shape), 0.01, 0.99), counters, pages, [0]
    )
    assert guessing.low < 0.0
    # The truth on a few pages may be chance; of one page nothing can be said.
    assert entropy_gain(labels[:10], truth[:10, None], counters[:10], pages[:10], [0]).low < knowing.low
    assert entropy_gain(labels[:5], truth[:5, None], counters[:5], pages[:5], [0]).low == -math.inf
    assert entropy_gain(labels, truth[:, None], counters, pages, []).value == 0.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a home with a tiny world in it, once."""
    folder = tmp_path_factory.mktemp("made")
    home = folder / "home"  # in virtual time: its posts are as fresh as its log is new
    world = ["--size", "tiny", "--set", "world.n_users=40", "--to-home", str(home)]
    assert cli.run(["simulate", "generate", str(folder / "history.ndjson"), *world]) == 0
    return home


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_home_learns_publishes_and_serves_what_it_learned(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # All that can be read is read here; what a bare training reads by itself is less.
    monkeypatch.setattr(home_vectors, "READS", {"ranker": ("semantic-ids", "social"), "retrieval": ("semantic-ids",)})
    home = str(shutil.copytree(made, tmp_path / "home"))
    capsys.readouterr()
    assert cli.run(["train", "--home", home, "--epochs", "0.2", "--promote", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["versions"]) >= {"ranker", "pre_ranker"}
    assert set(told["promoted"]) | set(told["refused"]) == {"ranker", "retrieval", "pre_ranker"}
    assert not set(told["promoted"]) & set(told["refused"])
    assert told["vectors"] == ["semantic-ids", "social"]
    seeded = [(each.verdict, each.to_version) for each in decision_log(load_settings(Path(home))).all()]
    assert seeded == ([("seeded", told["versions"]["ranker"])] if "ranker" in told["promoted"] else [])
    _, report = load_ranker(Path(told["ranker"]["folder"]))
    assert report.ranker.semantic_ids
    assert report.ranker.social
    # Whatever so small a world has learned, it can serve.
    named = [f"{kind}={version}" for kind, version in told["versions"].items()]
    assert cli.run(["models", "promote", *named, "--home", home]) == 0
    capsys.readouterr()
    assert cli.run(["timeline", "--home", home, "--debug", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)["page"]
    assert page["posts"]
    assert page["debug_info"]["models"] == told["versions"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_that_is_killed_ends_with_the_same_models(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made, tmp_path / "home")
    shutil.copytree(made, tmp_path / "killed")
    settings, killed = load_settings(home), load_settings(tmp_path / "killed")
    in_one_go = train_home(settings, in_silence, epochs=0.2)
    assert in_one_go.vectors == ("semantic-ids",)
    for at in ("training semantic ids (levels)", "training the ranker (steps)", "distilling (steps)"):
        run = subprocess.run([sys.executable, "-c", KILLED_AT, str(killed.home), at], check=False)
        assert run.returncode == -signal.SIGKILL
        with Intake(killed, SystemClock()) as intake:  # the log goes on: what comes now is not learned from
            intake.take([a_post_created(at, "late", text="news"), a_follow("late", f"somebody {at}")])
    seen: list[str] = []

    @contextmanager
    def noting(what: str) -> Iterator[SilentStep]:
        seen.append(what)
        yield SilentStep()

    in_four = train_home(killed, noting, epochs=0.2)
    assert seen == ["asking the ranker (slates)", "distilling (steps)"]  # nothing is read, nothing else trained again
    for kind in ("ranker", "retrieval", "pre_ranker"):
        one, four = (found.training_dir / kind for found in (settings, killed))
        assert (one / "model.pt").read_bytes() == (four / "model.pt").read_bytes()
        assert sum_of(one / "served") == sum_of(four / "served") != sum_of(None)
    assert in_four.ranker.held_out == in_one_go.ranker.held_out
    assert not (killed.training_dir / "unfinished").exists()
