"""`millrace simulate recall`: towers are asked as they serve, where a tiny run ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

from millrace.app import cli
from millrace.app.simulation.run import RunSpec, run
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.judge.recall import BAYES
from millrace.simulator.policies import Policy
from millrace.testing.small_towers import export_small_towers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a short run of a tiny world."""
    folder = tmp_path_factory.mktemp("runs")
    world = WorldConfig(size="tiny", n_users=60, history_ms=12 * HOUR_MS)
    policies = (Policy(name="home"),)
    run(RunSpec(folder=str(folder / "run"), worlds=str(folder / "worlds"), world=world, policies=policies, hours=2))
    return folder / "run"


def test_towers_stand_between_nothing_and_the_truth(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_small_towers(tmp_path / "towers" / "served")  # what a training leaves has its exported form below it
    export_small_towers(tmp_path / "other", seed=2)
    argv = ["simulate", "recall", str(folder), "--json", "--people", "20"]
    towers = ["--retrieval", str(tmp_path / "towers"), "--retrieval", f"other={tmp_path / 'other'}"]
    assert cli.run([*argv, *towers]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {(row["retriever"], row["cutoff"]): row for row in told["retrievers"]}
    assert {name for name, _ in rows} == {"towers", "other", "popularity", BAYES}
    for name, cutoff in rows:
        assert 0.0 < rows[name, cutoff]["recall"]["value"] <= rows[BAYES, cutoff]["recall"]["value"]
    assert rows[BAYES, 100]["of_bayes"]["value"] == 1.0
    # Every live post can be found: with room for all of them all is found.
    assert told["n_live"] < 500
    assert rows["towers", 500]["recall"]["value"] == pytest.approx(1.0)
    assert 2 <= told["n_people"] <= 20
    assert told["n_wanted"] < told["n_live"]


def test_names_must_differ_and_a_run_must_be_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["simulate", "recall", str(folder), "--retrieval", "a=x", "--retrieval", "a=y"]) == 2
    assert "each name once" in capsys.readouterr().err
    assert cli.run(["simulate", "recall", str(tmp_path), "--retrieval", "x"]) == 2
    assert "no simulated run" in capsys.readouterr().err
