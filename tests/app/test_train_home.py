"""`millrace train`: a home's models from one reading of its log; what is worth it serves, the rest says why not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.app import cli
from millrace.app.training_all import MAX_AUC_LOST, reasons_against


def towers(found: float, popular: float) -> Any:
    return SimpleNamespace(
        held_out={
            name: SimpleNamespace(at={100: 0.1, 500: at}) for name, at in (("towers", found), ("popularity", popular))
        }
    )


def student(auc_lost: float) -> Any:
    return SimpleNamespace(auc_lost=auc_lost)


def test_what_is_worth_it_serves() -> None:
    assert reasons_against(0.01, towers(0.5, 0.4), student(MAX_AUC_LOST)) == {}


def test_each_kind_is_refused_for_its_own_reason_and_a_pre_ranker_with_its_ranker() -> None:
    refused = reasons_against(0.0, towers(0.4, 0.4), student(0.0))
    assert set(refused) == {"ranker", "pre_ranker", "retrieval"}
    assert "no more than calibrated counters" in refused["ranker"]
    assert "finds 0.400" in refused["retrieval"]
    assert set(reasons_against(0.01, None, student(0.5))) == {"pre_ranker", "retrieval"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_home_learns_publishes_and_serves_what_it_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = ["--size", "tiny", "--set", "world.n_users=40", "--hours", "4"]
    assert cli.run(["simulate", "run", *world, "--out", str(tmp_path), "--name", "run"]) == 0
    home = str(tmp_path / "run" / "home")
    capsys.readouterr()
    assert cli.run(["train", "--home", home, "--epochs", "0.2", "--promote", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["versions"]) >= {"ranker", "pre_ranker"}
    assert set(told["promoted"]) | set(told["refused"]) == {"ranker", "retrieval", "pre_ranker"}
    assert not set(told["promoted"]) & set(told["refused"])
    # Whatever so small a world has learned, it can serve.
    named = [f"{kind}={version}" for kind, version in told["versions"].items()]
    assert cli.run(["models", "promote", *named, "--home", home]) == 0
    capsys.readouterr()
    assert cli.run(["timeline", "--home", home, "--debug", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)["page"]
    assert page["posts"]
    assert page["debug_info"]["models"] == told["versions"]
