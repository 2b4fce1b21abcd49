"""``millrace simulate``: what people type, and what they get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.app import cli
from millrace.app.commands.init import make_home
from millrace.app.commands.simulate_options import named_run, runs_folder
from millrace.base.errors import ConfigError
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.simulator.policies import FEEDS, parse_policy

SMALL = ["--size", "tiny", "--set", "world.n_users=40", "--hours", "2"]


def told(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> str:
    assert cli.run(["simulate", *map(str, argv)]) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of this module go, so that worlds are made once."""
    return tmp_path_factory.mktemp("simulations")


def test_generate_writes_events_that_the_door_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.ndjson"
    told(capsys, "generate", file, "--size", "tiny", "--set", "world.n_users=20")
    lines = file.read_bytes().splitlines()
    codec = EventCodec(EventRegistry())
    times = [codec.decode_json(line).event_time_ms for line in lines]
    assert len(lines) > 200
    assert times == sorted(times)


@pytest.mark.slow
def test_a_run_tells_true_utility_and_goes_on_when_it_is_given_again(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", *SMALL, "--out", out, "--json"]
    first = json.loads(told(capsys, *argv))
    (arm,) = first["arms"]
    assert arm["policy"] == "home"
    assert arm["n_pages"] > 0
    assert first["virtual_hours"] == 2.0
    assert json.loads(told(capsys, *argv)) == first
    longer = json.loads(told(capsys, *argv, "--hours", "3"))
    assert longer["folder"] == first["folder"]
    assert longer["virtual_hours"] == 3.0
    assert longer["arms"][0]["n_pages"] > arm["n_pages"]


@pytest.mark.slow
def test_twins_of_one_policy_do_not_differ_and_a_planted_effect_is_seen(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["twin", "one=chronological", "two=chronological", *SMALL, "--out", out, "--processes", "1", "--json"]
    same = json.loads(told(capsys, *argv))
    assert same["value"]["per_page"]["relative"] == 0.0
    argv[2] = "ready=chronological,readiness=1.1"
    ready = json.loads(told(capsys, *argv))
    assert ready["value"]["per_page"]["after"] != ready["value"]["per_page"]["before"]


@pytest.mark.slow
def test_an_ab_test_splits_people_and_a_report_is_one_page(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = json.loads(told(capsys, "ab", "home", "random", *SMALL, "--out", out, "--json"))
    assert figures["value"]["per_page"]["n"] <= 46
    (folder,) = out.glob("home-vs-random-*")
    told(capsys, "report", folder, "--out", tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "random" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert set(json.loads((tmp_path / "report" / "report.json").read_text())["policies"]) == {"home", "random"}


@pytest.mark.slow
def test_policies_are_compared_on_one_world(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["policies", "--size", "tiny", "--set", "world.n_users=40", "--seeds", "1", "--max-pages", "10"]
    argv += ["--mechanisms", "multi", "--feeds", "home,chronological,oracle", "--processes", "1"]
    figures = json.loads(told(capsys, *argv, "--out", out, "--json"))["multi"]
    assert set(figures["policies"]) == {"home", "chronological", "oracle"}
    assert (
        figures["policies"]["oracle"]["value_per_page"]["value"]
        >= figures["policies"]["home"]["value_per_page"]["value"]
    )
    (ahead,) = figures["home_against"]["chronological"]
    assert ahead["low"] <= ahead["difference"] <= ahead["high"]
    assert "true utility by policy" in told(capsys, *argv, "--out", out)


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["run", "--policy", "b=nonsense"], "no feed is called 'nonsense'"),
        (["run", "--policy", "b=home,limit"], "'limit' has no value"),
        (["run", "--policy", "b=home,readiness=much"], "readiness is no number"),
        (["run", "--policy", "b=missing.toml"], "no such file"),
        (["run", "--policy", "home", "--policy", "home"], "two have this name"),
        (["run", "--posts", "nowhere/at-all"], "no such data set"),
        (["policies", "--mechanisms", "gate,grate"], "'grate'"),
        (["policies", "--feeds", "home,hime"], "'hime'"),
        (["validate", "--checks", "1,8"], "no such check"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], problem: str
) -> None:
    text = told(capsys, *argv, "--out", tmp_path, code=2)
    assert problem in text
    assert text.count("\n") == 1


def test_runs_go_into_the_home_or_the_users_place_for_data_and_never_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert runs_folder(None, None) == tmp_path / "share/millrace/simulations"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # not to be used, says the convention
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    assert runs_folder(None, None) == tmp_path / "somebody/.local/share/millrace/simulations"
    made, _ = make_home(tmp_path / "feed")
    assert runs_folder(None, made.home) == tmp_path / "feed/simulations"
    monkeypatch.setenv("MILLRACE_HOME", str(made.home))
    assert runs_folder(None, None) == tmp_path / "feed/simulations"
    assert runs_folder(Path("here"), made.home) == tmp_path / "here"
    with pytest.raises(ConfigError, match="holds no"):
        runs_folder(None, tmp_path / "no-home")


def test_a_run_may_be_named_by_its_folder_or_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = make_home(tmp_path / "feed")
    monkeypatch.setenv("MILLRACE_HOME", str(made.home))
    monkeypatch.chdir(tmp_path)
    of_home = made.home / "simulations" / "mine"
    of_home.mkdir(parents=True)
    assert named_run(Path("mine")) == of_home
    (tmp_path / "mine").mkdir()
    assert named_run(Path("mine")) == Path("mine")
    assert named_run(Path("nothing")) == Path("nothing")


def test_a_report_on_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no simulated run is there" in told(capsys, "report", tmp_path, "--out", tmp_path / "r", code=2)


def test_a_policy_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_text(
        'readiness = 1.01\n[settings]\n"params.value.weight_like" = 2.0\n[harm]\nlanguage = "es"\nreadiness = 0.9\n'
    )
    policy = parse_policy(f"b={file}")
    assert (policy.name, policy.feed, policy.readiness) == ("b", "home", 1.01)
    assert policy.settings == {"params.value.weight_like": 2.0}
    assert policy.harm is not None
    assert policy.harm.language == "es"


def test_every_feed_can_be_named() -> None:
    assert [parse_policy(feed).feed for feed in FEEDS] == list(FEEDS)
