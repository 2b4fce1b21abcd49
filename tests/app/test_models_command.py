"""``millrace models``: from a published version to a served one and back, as the operator sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.app import cli, wiring
from millrace.app.secret import load_or_make_secret, subkey
from millrace.app.settings import load_settings
from millrace.registry.lanes import PURPOSE, verify_lane
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["init", "--home", str(tmp_path / "home")]) == 0
    capsys.readouterr()
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*argv: str, code: int = 0) -> Any:
        assert cli.run(["models", *argv, "--home", str(home)]) == code
        said = capsys.readouterr()
        return msgspec.json.decode(said.out) if "--json" in argv and said.out else said

    return run


@pytest.fixture
def versions(home: Path, tmp_path: Path) -> list[str]:
    registry = Registry(load_settings(home).models_dir)
    (tmp_path / "trained").mkdir()
    made = []
    for text in ("old", "new"):
        (tmp_path / "trained" / "net.onnx").write_text(text)
        said = Description(
            kind="ranker", feature_schema_hash="f00d", from_ms=0, until_ms=1, metrics={"auc": 0.75}, data="one world"
        )
        made.append(registry.publish(tmp_path / "trained", said, now_ms=0).version)
    return made


def test_a_home_without_models_says_so(run: Any) -> None:
    assert run("list").out == run("verify").out == "No models.\n"
    nothing = {"versions": [], "lanes": {}, "history": [], "training": None, "last_training": None}
    assert run("list", "--json") == nothing
    assert "has nothing to go back to" in run("rollback", code=1).err


def test_promote_and_rollback_show_in_the_list(run: Any, versions: list[str]) -> None:
    old, new = versions
    assert run("promote", f"ranker={old}").err == f"Lane default serves ranker {old}.\n"
    assert run("promote", "ranker=newest", "--note", "better", "--json")["serving"] == {"ranker": new}
    assert run("rollback", "--json")["serving"] == {"ranker": old}
    run("promote", "ranker=newest", "--lane", "sandbox")
    found = run("list", "--json")
    assert [(row["version"], row["lanes"]) for row in found["versions"]] == [(new, ["sandbox"]), (old, ["default"])]
    assert found["lanes"] == {"default": {"ranker": old}, "sandbox": {"ranker": new}}
    assert [(change["what"], change["note"]) for change in found["history"]] == [
        ("promoted", ""),
        ("promoted", "better"),
        ("rolled back", ""),
        ("promoted", ""),
    ]
    table = run("list").out
    assert "sandbox" in table
    assert "rolled back" in table
    run("drop", "sandbox")
    assert run("promote", "ranker=none").err == "Lane default serves no models.\n"


def test_show_tells_what_a_version_is(run: Any, versions: list[str]) -> None:
    run("promote", f"ranker={versions[0]}")
    assert run("show", "ranker", "--json")["version"] == versions[0]
    said = run("show", "ranker", "newest").out
    for part in (versions[1], "f00d", "one world", "0.75", "net.onnx"):
        assert part in said


def test_verify_names_what_is_damaged_and_ends_with_code_1(home: Path, run: Any, versions: list[str]) -> None:
    assert {row["problem"] for row in run("verify", "--json")} == {""}
    path = load_settings(home).models_dir / "ranker" / versions[0] / "net.onnx"
    path.unlink()
    path.write_text("odd")
    found = run("verify", "--json", code=1)
    assert [("net.onnx" in row["problem"], row["version"]) for row in found] == [
        (True, versions[0]),
        (False, versions[1]),
    ]
    said = run("promote", f"ranker={versions[0]}", code=1).err
    assert said.count("\n") == 1
    assert "does not fit its sum" in said


def test_prune_tells_what_it_removes(run: Any, versions: list[str]) -> None:
    assert run("prune", "--keep", "1", "--dry-run").out == f"ranker {versions[0]}\nWould remove 1 version.\n"
    assert run("prune", "--keep", "1", "--json") == [{"kind": "ranker", "version": versions[0]}]
    assert len(run("list", "--json")["versions"]) == 1


def test_a_signed_lane_is_one_line_that_the_server_takes(home: Path, run: Any) -> None:
    settings = load_settings(home)
    value = run("sign", "sandbox", "vic", "--ttl", "2h").out.strip()
    key = subkey(load_or_make_secret(settings), PURPOSE)
    assert verify_lane(value, "vic", wiring.build_clock().now_ms(), key) == "sandbox"
    assert run("sign", "sandbox", "vic", "--json")["header"] == "x-millrace-lane"


@pytest.mark.parametrize(
    ("argv", "problem", "code"),
    [
        (("promote", "ranker"), "not KIND=VERSION", 2),
        (("promote", "brain=newest"), "use one of ranker, pre_ranker", 2),
        (("promote", "ranker=newest"), "there is none", 2),
        (("promote", "ranker=../x"), "is not there", 2),
        (("promote", "ranker=2020"), "is not there", 2),
        (("show", "ranker", "2020"), "is not there", 2),
        (("promote", "ranker=none", "--lane", "a b"), "not a name", 1),
        (("show", "ranker"), "there is none", 2),
        (("drop", "default"), "cannot be removed", 1),
        (("drop", "nowhere"), "is not there", 1),
        (("sign", "sandbox", "vic", "--ttl", "soon"), "not a span", 2),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run: Any, argv: tuple[str, ...], problem: str, code: int) -> None:
    said = run(*argv, code=code)
    assert problem in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
