"""``millrace simulate describe`` as a person meets it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import typer

from millrace.app.commands.simulate_describe import describe
from millrace.base.errors import ConfigError
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.testing.builders import a_follow, a_post_created

TINY = ("--size", "tiny", "--set", "world.n_users=40")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MILLRACE_DATA", raising=False)
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def run(*argv: str) -> None:
    app = typer.Typer()
    app.command()(describe)
    app(args=list(argv), standalone_mode=False)


def test_without_real_data_the_world_stands_alone_and_it_says_how_to_have_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(*TINY)
    printed = capsys.readouterr()
    assert "world tiny, seed 1" in printed.out
    assert "followers per user" in printed.out
    assert "MILLRACE_DATA" in printed.err


def test_json_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    run(*TINY, "--seed", "3", "--json")
    said = msgspec.json.decode(capsys.readouterr().out)
    assert said["what"] == "world tiny, seed 3"
    assert {"quantity", "statistic", "world", "real", "ratio", "verdict", "data_set"} == set(said["rows"][0])
    assert any(row["statistic"] == "tail from" or row["statistic"] == "p10" for row in said["rows"])


def test_any_file_of_events_can_be_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = EventCodec(EventRegistry())
    events = [a_follow(1, 2), a_follow(2, 1), a_post_created(1, 2, text="a b c")]
    (tmp_path / "log.ndjson").write_bytes(b"\n".join(map(codec.encode_json, events)) + b"\n")
    run("--events", "log.ndjson", "--full")
    printed = capsys.readouterr().out
    assert "log.ndjson" in printed
    assert "reciprocity" in printed


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        run(*TINY, "--data", "nowhere")


def test_the_real_columns_stand_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data" / "lastfm-2k"
    folder.mkdir(parents=True)
    (folder / "user_friends.dat").write_text("userID\tfriendID\n1\t2\n2\t1\n")
    run(*TINY, "--data", "data")
    printed = capsys.readouterr()
    assert "lastfm-2k" in printed.out
    assert printed.err == ""
