"""What doctor tells: each fault once, with how often and by which checks it was met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.app import cli
from millrace.app.commands.init import make_home
from millrace.app.findings import Finding, each_once

AWAY = "log server: does not answer"


def test_a_fault_that_several_checks_meet_is_told_once_at_its_first_place() -> None:
    found = each_once(
        [
            Finding("log", "problem", AWAY, "start it"),
            Finding("disk", "ok", "enough"),
            Finding("content", "problem", AWAY, "start it"),
            Finding("content", "problem", AWAY, "start it"),
            Finding("claims", "problem", AWAY, "start another one"),
        ]
    )
    assert [(each.check, each.count) for each in found] == [("log", 3), ("disk", 1), ("claims", 1)]
    assert found[0].words == f"{AWAY} (met 3 times, also by content)"
    assert found[1].words == "enough"


def test_what_is_well_is_never_left_out() -> None:
    twice = [Finding("checkpoints", "ok", "good")] * 2
    assert each_once(twice) == twice


def test_many_faults_that_differ_in_the_detail_alone_are_counted_and_none_is_lost() -> None:
    files = [Finding("warehouse", "problem", f"file {n} is damaged", "remove it") for n in range(5)]
    assert each_once(files[:3]) == files[:3]
    (found,) = each_once([*files, files[0]])
    assert found.words == "file 0 is damaged (and 4 more like it; met 6 times)"
    assert (found.count, found.others) == (6, tuple(f"file {n} is damaged" for n in range(1, 5)))


def test_doctor_tells_once_that_a_log_server_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_home(tmp_path / "home")[0].home
    away = (
        "--set",
        "log.backend=redis",
        "--set",
        "log.redis.url=redis://127.0.0.1:1/0",
        "--set",
        "log.redis.n_retries=0",
    )
    capsys.readouterr()
    assert cli.run(["doctor", "--home", str(home), *away]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("does not answer") == 1
    assert "(met 4 times, also by dead letters, checkpoints, content)" in shown
    assert cli.run(["doctor", "--home", str(home), *away, "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    (told,) = [each for each in findings if each["verdict"] == "problem"]
    assert (told["check"], told["count"], told["also"]) == ("log", 4, ["dead letters", "checkpoints", "content"])
