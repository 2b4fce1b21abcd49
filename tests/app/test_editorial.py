"""The editorial pool on the command line: through the door, and into pages."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.app import cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    assert cli.run(["init", "--home", str(home)]) == 0
    posts = [
        {"event_id": f"e{post}", "payload": {"type": "PostCreated", "post_id": post, "author_id": "ada", "text": text}}
        for post, text in (("p1", "Das Rad dreht sich."), ("p2", "水は流れる。"))
    ]
    file = tmp_path / "posts.ndjson"
    file.write_bytes(b"\n".join(map(msgspec.json.encode, posts)))
    assert cli.run(["ingest", str(file), "--home", str(home)]) == 0
    capsys.readouterr()
    return home


def answer(home: Path, capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    assert cli.run(["editorial", *argv, "--home", str(home), "--json"]) == code
    return msgspec.json.decode(capsys.readouterr().out)


def test_posts_are_picked_listed_and_taken_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(home, capsys, "list") == {"n_picks": 0, "picks": []}
    assert answer(home, capsys, "add", "p1", "later") == {"n_done": 2, "refused": [], "unknown": ["later"]}
    sent = answer(home, capsys, "add", "p2", "--for", "24h", "--note", "good")
    assert sent == {"n_done": 1, "refused": [], "unknown": []}
    picks = answer(home, capsys, "list")["picks"]
    assert [(pick["post_id"], pick["is_known"]) for pick in picks] == [("p2", True), ("later", False), ("p1", True)]
    assert picks[0]["until_ms"] - picks[0]["picked_at_ms"] == pytest.approx(86_400_000, abs=60_000)
    assert picks[2]["until_ms"] is None
    assert (picks[2]["author_id"], picks[2]["text"]) == ("ada", "Das Rad dreht sich.")
    assert answer(home, capsys, "remove", "p1", "p2")["n_done"] == 2
    assert answer(home, capsys, "list")["n_picks"] == 1


def test_the_pool_is_shown_to_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["editorial", "list", "--home", str(home)]) == 0
    assert "The editorial pool is empty" in capsys.readouterr().out
    assert cli.run(["editorial", "add", "p1", "--home", str(home)]) == 0
    assert "1 post picked" in capsys.readouterr().out
    assert cli.run(["editorial", "list", "--home", str(home)]) == 0
    assert "Das Rad dreht sich." in capsys.readouterr().out
    assert cli.run(["timeline", "vera", "--home", str(home), "--json"]) == 0
    page = msgspec.json.decode(capsys.readouterr().out)
    assert {post["post_id"]: "editorial" in post["sources"] for post in page["posts"]} == {"p1": True, "p2": False}


def test_a_pick_of_which_nobody_has_heard_is_told_of_and_can_be_taken_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["editorial", "add", "nopost", "--home", str(home)]) == 0
    said = capsys.readouterr()
    assert "1 post picked" in said.out
    assert said.err.startswith("nopost: not known; ")
    assert cli.run(["editorial", "list", "--home", str(home)]) == 0
    assert "nopost (not known)" in capsys.readouterr().out
    assert answer(home, capsys, "remove", "nopost") == {"n_done": 1, "refused": [], "unknown": []}
    assert answer(home, capsys, "list")["n_picks"] == 0


def test_what_the_door_refuses_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(home, capsys, "add", "p1", "x" * 129, code=1)
    assert said["n_done"] == 1
    assert "128" in said["refused"][0]["error"]
    assert cli.run(["editorial", "add", "p1", "--for", "soon", "--home", str(home)]) == 2
    assert "option --for soon" in capsys.readouterr().err.replace("'", "")
