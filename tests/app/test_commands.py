"""Commands in the situations that a first user met: interruptions, broken configs, lost files, other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from millrace.app import cli
from millrace.app.checkpoints import records_to_fold, write_now
from millrace.app.commands.taking_in import FOLDED_AHEAD_FROM, fold_ahead, telling_interruptions
from millrace.app.keeper_lock import keeper_lock
from millrace.app.settings import CONFIG_NAME, Settings, load_settings


@pytest.fixture(autouse=True)
def _no_home_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.run(["init", "--home", "home"]) == 0
    capsys.readouterr()
    return tmp_path / "home"


def post_line(number: int) -> bytes:
    payload = {"type": "PostCreated", "post_id": number, "author_id": 1, "text": "Klipp klapp."}
    return msgspec.json.encode({"event_id": f"e{number}", "payload": payload}) + b"\n"


def ingest(home: Path, data: bytes, code: int = 0) -> None:
    file = home.parent / "events.ndjson"
    file.write_bytes(data)
    assert cli.run(["ingest", str(file), "--home", str(home)]) == code


def findings(home: Path, capsys: pytest.CaptureFixture[str], code: int, *more: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert cli.run(["doctor", "--home", str(home), "--json", *more]) == code
    return {found["check"]: found for found in msgspec.json.decode(capsys.readouterr().out)["findings"]}


def settings_of(home: Path) -> Settings:
    return load_settings(home)


# Controls of the terminal


def test_what_others_wrote_cannot_steer_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(home, b"\x1b]0;owned\x07 \xe2\x80\xae nonsense\n", code=1)
    for command in (["list"], ["replay"]):
        cli.run(["dead-letters", *command, "--home", str(home)])
        said = capsys.readouterr()
        assert not set("\x1b\x07\u202e") & set(said.out + said.err)


# Dead letters


def test_dead_letters_can_be_dropped_one_by_one_or_all(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(home, b"one\ntwo\nthree\n", code=1)
    at = ["--home", str(home), "--json"]
    capsys.readouterr()
    assert cli.run(["dead-letters", "drop", "1", "99", *at]) == 1
    assert msgspec.json.decode(capsys.readouterr().out) == {"n_dropped": 1, "missing": [99]}
    assert cli.run(["dead-letters", "list", *at]) == 0
    letters = msgspec.json.decode(capsys.readouterr().out)["letters"]
    assert [letter["letter_id"] for letter in letters] == [3, 2]
    assert cli.run(["dead-letters", "drop", "--all", "--home", str(home)]) == 0
    assert "2 letters dropped" in capsys.readouterr().out
    assert cli.run(["dead-letters", "list", "--home", str(home)]) == 0
    assert "No dead letters" in capsys.readouterr().out


def test_each_dead_letter_is_a_block_that_fits_into_a_narrow_terminal(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ingest(home, b"one\n" + b"x" * 200 + b"\n", code=1)
    capsys.readouterr()
    assert cli.run(["dead-letters", "list", "--home", str(home)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "2 dead letters, newest first (times in UTC)"
    heads = [line for line in lines[1:] if line and not line.startswith("    ")]
    assert [head.split()[0] for head in heads] == ["2", "1"]
    assert f"    {'x' * 70}…" in lines
    assert lines[-1] == "    one"
    assert cli.run(["dead-letters", "list", "--limit", "1", "--home", str(home)]) == 0
    assert "The newest 1 are shown" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["1", "--all"]])
def test_dropping_takes_ids_or_all(home: Path, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["dead-letters", "drop", *argv, "--home", str(home)]) == 2
    assert "name the letters, or give --all" in capsys.readouterr().err


def test_dropping_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["dead-letters", "drop", "--help"]) == 0
    assert "Example: millrace dead-letters drop" in capsys.readouterr().out


# Taking in: interruptions, and folding ahead


def test_an_interrupted_ingest_says_how_far_it_came(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __enter__(self) -> Iterator[bytes]:
            return self.lines()

        def __exit__(self, *_error: object) -> None:
            pass

        def lines(self) -> Iterator[bytes]:
            yield from map(post_line, range(4_500))
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Interrupted()))
    assert cli.run(["ingest", "-", "--home", str(home), "--json"]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "Interrupted: 4,000 events taken in. Running it again is safe" in said.err


def test_only_interruptions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="other"), telling_interruptions(lambda: 3, "Go on."):
        raise ValueError("other")
    assert capsys.readouterr().err == ""


def test_much_that_is_new_is_folded_at_once_and_said_on_stderr(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(home, b"".join(map(post_line, range(50))))
    settings = settings_of(home)
    capsys.readouterr()
    assert fold_ahead(settings, FOLDED_AHEAD_FROM) is None
    assert not settings.checkpoints_dir.exists() or not list(settings.checkpoints_dir.iterdir())
    assert fold_ahead(settings, FOLDED_AHEAD_FROM + 1) == 50
    assert [path.name for path in settings.checkpoints_dir.iterdir()] == [f"ck-{50:016}"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "checkpoint written at log position 50" in said.err


def test_beside_a_running_server_nothing_is_folded_ahead(home: Path) -> None:
    ingest(home, b"".join(map(post_line, range(5))))
    settings = settings_of(home)
    with keeper_lock(settings.data_dir):
        assert fold_ahead(settings, FOLDED_AHEAD_FROM + 1) is None


def test_what_cannot_be_folded_ahead_is_no_error_of_the_import(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(home, post_line(1))
    settings = settings_of(home)
    settings.checkpoints_dir.parent.joinpath("content.db").write_bytes(b"")
    settings.checkpoints_dir.write_text("not a folder")
    assert fold_ahead(settings, FOLDED_AHEAD_FROM + 1) is None
    assert "Could not fold ahead" in capsys.readouterr().err


def test_a_checkpoint_written_here_tells_its_progress(home: Path) -> None:
    ingest(home, b"".join(map(post_line, range(20))))
    told: list[tuple[int, int]] = []
    assert write_now(settings_of(home), on_progress=lambda done, total: told.append((done, total))) == (20,)
    assert told[-1] == (20, 20)


def test_what_is_in_no_checkpoint_is_known_before_a_server_starts(home: Path) -> None:
    settings = settings_of(home)
    assert records_to_fold(settings) == 0
    ingest(home, b"".join(map(post_line, range(20))))
    assert records_to_fold(settings) == 20
    write_now(settings)
    ingest(home, b"".join(map(post_line, range(20, 23))))
    assert records_to_fold(settings) == 3


# The doctor


def test_doctor_diagnoses_a_config_that_cannot_be_used(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / CONFIG_NAME).write_text("[server]\nprot = 3\n[world]\nsize = 'huge'\n[params]\nrate = 3\n")
    assert cli.run(["doctor", "--home", str(home), "--json"]) == 1
    listed = msgspec.json.decode(capsys.readouterr().out)["findings"]
    broken = [found["detail"] for found in listed if found["check"] == "config"]
    assert "did you mean server.port?" in broken[0]
    assert "expected one of 'tiny', 'demo', '100k'" in broken[1]
    assert {"python", "disk"} <= {found["check"] for found in listed}
    (home / CONFIG_NAME).write_text("[server\n")
    assert "not valid TOML" in findings(home, capsys, 1)["config"]["detail"]
    assert cli.run(["doctor", "--home", str(home)]) == 1
    assert "✗ config" in capsys.readouterr().out


def test_doctor_misses_the_content_of_a_log_that_holds_records(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(home, capsys, 0)["content"]["verdict"] == "ok"
    ingest(home, post_line(1))
    found = findings(home, capsys, 0)["content"]
    assert found["verdict"] == "warning"
    assert "no content.db, though the log holds 1 record" in found["detail"]
    write_now(settings_of(home))
    assert findings(home, capsys, 0)["content"]["verdict"] == "ok"


@pytest.mark.parametrize("text", ["[params]\nage.max_age_h = -1.0\n", "[server]\nprot = 3\n", "[params\n"])
def test_doctor_tells_that_a_running_server_rejects_the_file(
    home: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (home / CONFIG_NAME).write_text(text)
    capsys.readouterr()

    def details() -> list[str]:
        assert cli.run(["doctor", "--home", str(home), "--json"]) == 1
        return [found["detail"] for found in msgspec.json.decode(capsys.readouterr().out)["findings"]]

    said = "a server runs on this home: it rejects the file and keeps the params from before the edit"
    assert said not in details()
    (home / "data").mkdir(exist_ok=True)
    with keeper_lock(home / "data"):
        assert said in details()


# Config, init, timeline


def test_all_problems_of_config_and_params_come_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ("params.rate=3", "params.age.max_age_h=-1", "params.popular.x=fast", "claims.backend=mysql")
    argv = [word for pair in sets for word in ("--set", pair)]
    for command in (["config", "show"], ["serve"], ["timeline"]):
        assert cli.run([*command, "--home", str(home), *argv]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 4
        text = "\n".join(said)
        assert "param 'rate': not known" in text
        assert "param age.max_age_h -1.0: out of bounds" in text or "param age.max_age_h -1: " in text
        assert "params.popular.x 'fast'" in text
        assert "expected one of 'sqlite', 'redis'" in text


def test_init_advises_the_next_steps_for_this_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", "--home", "other home"]) == 0
    assert "millrace ingest FILE --home 'other home'" in capsys.readouterr().out
    ingest(home, post_line(1))
    capsys.readouterr()
    assert cli.run(["init", "--home", "home"]) == 0
    assert "millrace serve --home home" in capsys.readouterr().out
    assert cli.run(["init"]) == 0
    assert "--home" not in capsys.readouterr().out


def test_timeline_takes_the_viewer_either_way_but_only_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest(home, post_line(1))
    capsys.readouterr()
    assert cli.run(["timeline", "--viewer", "bob", "--home", str(home)]) == 0
    assert "For you, bob" in capsys.readouterr().out
    assert cli.run(["timeline", "ada", "--viewer", "bob", "--home", str(home)]) == 2
    assert "name one" in capsys.readouterr().err
