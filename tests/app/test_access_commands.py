"""Tokens and keys from the command line, and what doctor and serve say about access."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.app import cli, wiring
from millrace.app.settings import CONFIG_NAME, load_settings


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["init", "--home", str(tmp_path / "home")]) == 0
    capsys.readouterr()
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*argv: str, code: int = 0) -> Any:
        assert cli.run([*argv, "--home", str(home)]) == code
        return capsys.readouterr()

    return run


def test_a_token_is_one_line_that_the_server_takes(home: Path, run: Any) -> None:
    said = run("token", "vic", "--ttl", "12h")
    assert said.out.count("\n") == 1
    assert wiring.build_tokens(load_settings(home)).viewer_of(said.out.strip()) == "vic"
    assert "Development mode does not ask for it" in said.err
    assert "Development" not in run("token", "vic", "--set", "auth.mode=tokens").err


def test_a_token_as_json_says_until_when_it_is_good(home: Path, run: Any) -> None:
    clock = wiring.build_clock()
    before_s = clock.now_ms() // 1000
    made = msgspec.json.decode(run("token", "vic", "--json", "--set", "auth.token_ttl_s=100").out)
    assert (made["viewer_id"], made["ttl_s"]) == ("vic", 100)
    assert before_s + 100 <= made["expires_at_s"] <= clock.now_ms() // 1000 + 100
    assert wiring.build_tokens(load_settings(home)).viewer_of(made["token"]) == "vic"


@pytest.mark.parametrize("ttl", ["0h", "12", "-1h", "400d", "9" * 400 + "d", "soon"])
def test_a_span_that_is_none_makes_no_token(run: Any, ttl: str) -> None:
    said = run("token", "vic", f"--ttl={ttl}", code=2)
    assert said.out == ""
    assert "write 12h, 90m or 7d" in said.err


def test_nobody_gets_a_token_without_a_name_that_can_be_an_id(run: Any) -> None:
    assert "viewer id ''" in run("token", "", code=1).err


def test_keys_are_made_listed_and_removed(home: Path, run: Any) -> None:
    made = run("keys", "add", "shop", "--role", "ingest")
    assert "not shown again" in made.err
    key = made.out.strip()
    assert key.startswith("mr_ingest_")
    admin = msgspec.json.decode(run("keys", "add", "ops", "--role", "admin", "--json").out)
    assert admin["key"].startswith("mr_admin_")
    listed = run("keys", "list").out
    assert "shop" in listed
    assert "ops" in listed
    assert key not in listed
    rows = msgspec.json.decode(run("keys", "list", "--json").out)
    assert [(row["name"], row["role"]) for row in rows] == [("shop", "ingest"), ("ops", "admin")]
    assert set(rows[0]) == {"name", "role", "created_at_ms"}
    run("keys", "remove", "shop")
    keys = wiring.build_api_keys(load_settings(home))
    assert keys.find(key) is None
    assert keys.find(admin["key"]) is not None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["keys", "add", "shop"], "--role"),
        (["keys", "add", "shop", "--role", "king"], "king"),
        (["keys", "add", "a b", "--role", "ingest"], "not a name"),
        (["keys", "remove", "nobody"], "no key of that name"),
    ],
)
def test_wrong_use_of_keys_changes_nothing(home: Path, run: Any, argv: list[str], message: str) -> None:
    assert message in run(*argv, code=2).err
    assert not (home / "keys.json").exists()


def findings(run: Any, *argv: str, code: int = 0) -> list[dict[str, str]]:
    found = msgspec.json.decode(run("doctor", "--json", *argv, code=code).out)["findings"]
    return [finding for finding in found if finding["check"] in {"access", "server"}]


def test_doctor_tells_the_mode(run: Any) -> None:
    assert "development mode: this machine only" in findings(run)[0]["detail"]
    access, server = findings(
        run, "--set", "auth.mode=tokens", "--set", "server.host=0.0.0.0", "--set", "server.port=0"
    )
    assert (access["verdict"], server["verdict"]) == ("warning", "ok")
    assert "0 API keys; 0.0.0.0 is reachable from outside" in access["detail"]
    assert access["remedy"] == "millrace keys add NAME --role admin"
    run("keys", "add", "ops", "--role", "admin")
    assert findings(run, "--set", "auth.mode=tokens")[0]["verdict"] == "ok"


def test_doctor_finds_an_address_that_does_not_fit_the_mode(run: Any) -> None:
    (server,) = [f for f in findings(run, "--set", "server.host=0.0.0.0", code=1) if f["verdict"] == "problem"]
    assert 'set auth.mode = "tokens"' in server["detail"]


@pytest.mark.parametrize("name", ["secret.key", "keys.json"])
def test_doctor_finds_files_that_others_can_read(home: Path, run: Any, name: str) -> None:
    run("token", "vic")
    run("keys", "add", "ops", "--role", "admin")
    (home / name).chmod(0o644)
    (problem,) = [finding for finding in findings(run, code=1) if finding["verdict"] == "problem"]
    assert problem["detail"] == f"{name} can be read by others (mode 644)"
    assert problem["remedy"].startswith("chmod 600 ")


@pytest.mark.parametrize(("name", "remedy"), [("secret.key", "put the right one back"), ("keys.json", "mend the file")])
def test_doctor_finds_damaged_files(home: Path, run: Any, name: str, remedy: str) -> None:
    (home / name).write_text("x")
    (home / name).chmod(0o600)
    (problem,) = [f for f in findings(run, "--set", "auth.mode=tokens", code=1) if f["verdict"] == "problem"]
    assert remedy in problem["detail"]


def test_serve_refuses_an_open_address_in_development_mode(run: Any) -> None:
    assert "binds to loopback only" in run("serve", "--set", "server.host=0.0.0.0", code=2).err


def test_the_demo_is_development_mode(run: Any) -> None:
    assert "`millrace serve` serves the same home" in run("demo", "--set", "auth.mode=tokens", code=2).err


def test_an_unknown_mode_is_refused(home: Path, run: Any) -> None:
    (home / CONFIG_NAME).write_text('[auth]\nmode = "open"\n')
    assert "auth.mode 'open'" in run("config", "show", code=2).err
