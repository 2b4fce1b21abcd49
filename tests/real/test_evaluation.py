"""Real clicks and non-clicks (MIND) through the door, the log and the evaluation."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from millrace.app import cli
from millrace.app.eval_report import EvalReport

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]


def test_clicks_are_foreseen_better_than_by_chance_and_no_better_than_is_plausible(
    mind_share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(tmp_path / "home")
    assert cli.run(["init", "--home", home]) == 0
    assert cli.run(["import", "--home", home, "mind", str(mind_share), "--span", "48h"]) == 0
    capsys.readouterr()
    command = ["eval", "--home", home, "--actions", "click", "--scores", "score", "--recall", "20", "--json"]
    assert cli.run(command) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=EvalReport)
    assert report.n_unplaced > 60_000  # the histories: clicks alone, nobody knows beside what
    assert report.n_rows > 50_000
    (click,) = [row for row in report.rows if (row.action, row.slice) == ("click", "all")]
    auc = click.metrics["auc"]
    with capsys.disabled():
        print(f"\nMIND: {report.n_rows:,} shown, {click.n_positive:,} clicked, AUC {auc}")
    assert auc.value is not None
    assert auc.low is not None
    assert auc.high is not None
    assert auc.low > 0.5  # counters know what is popular
    assert auc.high < 0.75  # nobody is known well from a few clicks
    assert auc.high - auc.low < 0.05
    assert report.leaks == []
    assert all(control.holds for control in report.controls)
