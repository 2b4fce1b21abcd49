"""`millrace sql` and `millrace warehouse build | compact | retain` on a home with a few events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.app import cli
from millrace.app.commands.init import make_home
from millrace.app.intake import Intake
from millrace.app.settings import load_settings
from millrace.base.clock import ManualClock
from millrace.testing.builders import NOW_MS, a_post_created, an_engagement, an_impression


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home") / "feed"
    make_home(home)
    with Intake(load_settings(home), ManualClock(NOW_MS)) as door:
        door.take([a_post_created(1, "bob"), an_impression("ann", 1, dwell_ms=7_000), an_engagement("ann", 1, "like")])
    assert cli.run(["warehouse", "build", "--home", str(home)]) == 0
    return home


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert cli.run([*words]) == code
    told = capsys.readouterr()
    return told.out if code == 0 else told.err


def told_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return msgspec.json.decode(answer(capsys, *words, "--json"))


def test_sql_answers_as_table_json_and_csv(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select viewer_id, likes, watch_s, is_valid_view from interactions"
    words = ("sql", query, "--home", str(home))
    assert told_json(capsys, *words) == [{"viewer_id": "ann", "likes": 1, "watch_s": 7.0, "is_valid_view": True}]
    assert answer(capsys, *words, "--csv") == "viewer_id,likes,watch_s,is_valid_view\nann,1,7.0,True\n"
    assert "ann" in answer(capsys, *words)


def test_what_is_wider_than_the_terminal_is_printed_as_records(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ("sql", "select * from interactions", "--home", str(home))
    (row,) = told_json(capsys, *words)
    assert len(row) > 20
    capsys.readouterr()
    assert cli.run([*words]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert max(map(len, lines)) <= 80
    # Every name whole, on a line of its own with its value.
    assert lines[0].strip() == "row 1"
    assert [line.split()[0] for line in lines[1:]] == list(row)
    assert ["viewer_id", "ann"] in [line.split() for line in lines]
    assert f"{len(row)} columns are wider than this terminal" in " ".join(told.err.split())
    assert "row 1" not in answer(capsys, "sql", "describe interactions", "--home", str(home))
    monkeypatch.setenv("COLUMNS", "2000")
    assert "row 1" not in answer(capsys, *words)


def test_sql_over_tables_that_were_never_built_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_home(tmp_path / "feed")
    capsys.readouterr()
    assert cli.run(["sql", "select * from interactions", "--home", str(tmp_path / "feed"), "--json"]) == 0
    told = capsys.readouterr()
    assert msgspec.json.decode(told.out) == []
    assert told.err == "the tables were not built yet: millrace warehouse build\n"


def test_sql_without_a_query_lists_what_there_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [line["name"] for line in told_json(capsys, "sql", "--home", str(home))]
    assert {"interactions", "events", "samples", "retention"} <= set(names)
    assert "Example:" in answer(capsys, "sql", "--home", str(home))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("copy (select 1) to 'stolen.csv'", "not one query that only reads"),
        ("create table mine as select 1", "not one query that only reads"),
        ("explain analyze copy (select 1) to 'stolen.csv'", "not one query that only reads"),
        ("select 1; select 2", "not one query that only reads"),
        ("select * from read_csv('/etc/passwd')", "file system operations are disabled"),
        ("select nothing from interactions", "nothing"),
    ],
)
def test_sql_only_reads_the_warehouse(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, query: str, said: str
) -> None:
    monkeypatch.chdir(home)
    assert said in answer(capsys, "sql", query, "--home", str(home), code=1)
    assert not (home / "stolen.csv").exists()


def test_upkeep_commands_tell_what_they_did(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--home", str(home))
    built = told_json(capsys, "warehouse", "build", *at)
    assert (built["n_events"], built["position"]) == (0, 3)
    assert min(built["raw_bytes"], built["table_bytes"]) > 0
    assert told_json(capsys, "warehouse", "compact", *at) == {
        "raw_files_gone": 0,
        "table_files_gone": 0,
        "sample_files_gone": 0,
    }
    assert told_json(capsys, "warehouse", "retain", *at) == {"files_gone": 0}
    assert "postgres_url" in answer(capsys, "warehouse", "postgres", "--once", *at, code=2)
