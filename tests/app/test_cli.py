"""The command line as people use it: small commands, help, errors."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main

from millrace.app import cli
from millrace.app.settings import CONFIG_NAME, load_settings

COMMANDS = [
    ["init"],
    ["demo"],
    ["serve"],
    ["timeline"],
    ["following"],
    ["pipeline", "show"],
    ["ingest"],
    ["import"],
    ["editorial", "list"],
    ["editorial", "add"],
    ["editorial", "remove"],
    ["events", "schema"],
    ["events", "list"],
    ["dead-letters", "list"],
    ["dead-letters", "replay"],
    ["warehouse", "export"],
    ["flywheel", "join"],
    ["token"],
    ["keys", "add"],
    ["keys", "list"],
    ["keys", "remove"],
    ["config", "show"],
    ["checkpoint"],
    ["backup"],
    ["restore"],
    ["doctor"],
    ["bench"],
]


@pytest.fixture(autouse=True)
def _no_home_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.run(["init", "--home", str(tmp_path / "home")]) == 0
    capsys.readouterr()
    return tmp_path / "home"


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def a_post(name: str, **more: Any) -> dict[str, Any]:
    payload = {"type": "PostCreated", "post_id": name, "author_id": "ada", "text": "Das Rad dreht sich.", **more}
    return {"event_id": f"e-{name}", "payload": payload}


def follow(follower: str, followee: str) -> dict[str, Any]:
    payload = {"type": "FollowChanged", "follower_id": follower, "followee_id": followee}
    return {"event_id": f"f-{follower}-{followee}", "payload": payload}


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "from millrace.app import cli\n"
        "assert cli.run(['--help']) == 0\n"
        "heavy = {'numba', 'litestar', 'uvicorn', 'duckdb', 'pyarrow', 'polars', 'faiss', 'onnxruntime', 'sqlite3',\n"
        "         'prometheus_client'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command) for command in COMMANDS])
def test_every_command_has_help_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command, "--help"]) == 0
    assert f"Example: millrace {command[0]}" in capsys.readouterr().out


def texts(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Give the help of a command, of its options and of the commands below it."""
    yield name, command.help or ""
    for param in command.params:
        yield f"{name} {param.name}", getattr(param, "help", None) or ""
    for below, found in getattr(command, "commands", {}).items():
        yield from texts(found, f"{name} {below}")


def test_no_help_has_what_is_swallowed_as_markup() -> None:
    said = dict(texts(typer.main.get_command(cli.app), "millrace"))
    assert len(said) > 100
    assert {name: text for name, text in said.items() if re.search(r"(?<!\\)\[[a-z#/@]", text)} == {}


@pytest.mark.parametrize("command", ["skew", "guards"])
def test_commands_that_read_a_config_take_other_values_for_it(
    command: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["init", "--home", str(home)])
    assert cli.run(["flywheel", command, "--home", str(home), "--set", "home.no_such_key=1"]) == 2
    assert "home.no_such_key" in capsys.readouterr().err


@pytest.mark.slow  # imports PyTorch
def test_one_round_without_pages_says_what_is_missing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["init", "--home", str(home)])
    capsys.readouterr()
    assert cli.run(["flywheel", "run", "--once", "--json", "--home", str(home)]) == 0
    assert "no impressions" in msgspec.json.decode(capsys.readouterr().out)["why"]


def test_the_script_prints_its_version() -> None:
    script = Path(sys.executable).with_name("millrace")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("millrace ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["serve", "--workers", "0"], "Invalid value for '--workers'"),
        (["import", "reddit-posts"], "Missing argument"),
        (["import", "nonsense", "."], "Invalid value for 'DATASET': 'nonsense' is not one of 'reddit-posts'"),
        (["config", "show"], "run `millrace init`"),
        (["config", "show", "--home", "nowhere"], "holds no millrace.toml"),
        (["bench", "nonsense"], "start it in a checkout of Millrace"),
        (["bench", "../evil"], "not found"),
        (["bench"], "Missing argument 'NAME'"),
    ],
)
def test_wrong_use_is_one_line_on_stderr_and_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("millrace: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_every_problem_of_a_config_is_a_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / CONFIG_NAME).write_text("[server]\nport = -1\nprot = 3\n")
    assert cli.run(["config", "show", "--home", str(home)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "server.port -1" in said[0]
    assert "did you mean server.port?" in said[1]


def test_init_makes_a_home_and_leaves_an_existing_one_alone(tmp_path: Path) -> None:
    assert cli.run(["init", "--home", "new/home"]) == 0
    config = tmp_path / "new" / "home" / CONFIG_NAME
    config.write_text("[server]\nport = 1234\n")
    assert cli.run(["init", "--home", "new/home"]) == 0
    assert config.read_text() == "[server]\nport = 1234\n"


def test_config_show_tells_each_values_origin(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / CONFIG_NAME).write_text("[server]\nn_workers = 3\n")
    monkeypatch.setenv("MILLRACE__SERVER__PORT", "9002")
    monkeypatch.setenv("MILLRACE_HOME", str(home))
    assert cli.run(["config", "show", "--json", "--set", "server.host=localhost"]) == 0
    values = msgspec.json.decode(capsys.readouterr().out)["values"]
    assert values["server.n_workers"] == {"value": 3, "origin": "millrace.toml"}
    assert values["server.port"] == {"value": 9002, "origin": "environment"}
    assert values["server.host"] == {"value": "localhost", "origin": "command line"}
    assert values["log.n_partitions"] == {"value": 16, "origin": "default"}
    assert cli.run(["config", "show"]) == 0
    assert "n_workers = 3" in capsys.readouterr().out


def test_params_of_the_config_are_checked_against_the_pipelines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / CONFIG_NAME).write_text("[params]\nin_network.max_posts = 99\nage.max_age_h = -1.0\npopular.max = 3\n")
    for command in (["config", "show"], ["serve", "--set", "server.port=0"]):
        assert cli.run([*command, "--home", str(home)]) == 2
        said = capsys.readouterr().err
        assert "param age.max_age_h -1.0: out of bounds" in said
        assert "param 'popular.max': not known" in said
    assert cli.run(["doctor", "--home", str(home), "--json"]) == 1


def test_profiles_are_checked_with_the_params_and_shown_as_toml(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / CONFIG_NAME
    file.write_text("[home]\nvalue_profile = 'calm'\n[profiles.calm]\nrecency.rate_per_h = 0.02\nlift.is_on = false\n")
    command = ["config", "show", "--home", str(home)]
    assert cli.run(command) == 0
    printed = capsys.readouterr().out
    assert 'calm."recency.rate_per_h" = 0.02' in printed
    assert 'calm."lift.is_on" = false' in printed
    (home / CONFIG_NAME).write_text(printed)
    assert cli.run(command) == 0
    assert [line.split("#")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        line.split("#")[0] for line in printed.splitlines()[1:]
    ]
    overrides = ("home.value_profile=wild", "profiles.calm.recency.rate=1", "profiles.classic.lift.rank=-1")
    assert cli.run([*command, *(word for pair in overrides for word in ("--set", pair))]) == 2
    said = capsys.readouterr().err
    assert "home.value_profile 'wild': no such profile; use one of calm, classic, x" in said
    assert "profile calm: param 'recency.rate': not known" in said
    assert "profiles.classic: a built-in profile has this name" in said
    assert "profile classic: param lift.rank -1: out of bounds" in said


def test_the_server_refuses_an_address_that_others_can_reach(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["serve", "--home", str(home), "--set", "server.host=0.0.0.0"]) == 2
    assert "use 127.0.0.1" in capsys.readouterr().err


def test_events_schema_is_json_schema_even_without_a_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["events", "schema"]) == 0
    schema = msgspec.json.decode(capsys.readouterr().out)
    assert "PostCreated" in schema["$defs"]


def test_ingest_takes_events_in_and_says_what_it_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(lines(a_post("p1"), follow("bob", "ada")) + b"\nnonsense\n" + lines(a_post("p1")))
    assert cli.run(["ingest", str(file), "--home", str(home), "--json"]) == 1
    found = msgspec.json.decode(capsys.readouterr().out)
    assert (found["n_accepted"], found["n_duplicates"], found["n_refused"]) == (2, 1, 1)
    assert found["refusals"][0]["line"] == 4
    assert "not valid JSON" in found["refusals"][0]["error"]


def test_ingest_reads_gzip_and_standard_input(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    file = tmp_path / "events.ndjson.gz"
    file.write_bytes(gzip.compress(lines(a_post("p1"))))
    assert cli.run(["ingest", str(file), "--home", str(home)]) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines(a_post("p2")))))
    assert cli.run(["ingest", "-", "--home", str(home)]) == 0
    assert capsys.readouterr().out.count("1 event accepted") == 2
    file.write_bytes(gzip.compress(lines(a_post("p3")))[:-4])
    assert cli.run(["ingest", str(file), "--home", str(home)]) == 1
    assert "cannot be read on" in capsys.readouterr().err
    assert cli.run(["ingest", "nowhere.ndjson", "--home", str(home)]) == 1
    assert "No such file" in capsys.readouterr().err


MODULE = """
from millrace.events.envelope import Payload, UserId
from millrace.events.registry import EventType

class SongPlayed(Payload, frozen=True, kw_only=True):
    \"\"\"Somebody heard a song.\"\"\"

    user_id: UserId
    song: str

EVENT_TYPES = (EventType(SongPlayed, "events.song", key="user_id"),)
"""


def test_an_operators_event_type_passes_door_log_and_warehouse(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    song = {"event_id": "s1", "event_time_ms": 1_700_000_000_000}
    song["payload"] = {"type": "SongPlayed", "user_id": 7, "song": "Das Wandern"}  # type: ignore[assignment]
    file = tmp_path / "songs.ndjson"
    file.write_bytes(lines(song))
    at = ["--home", str(home)]
    assert cli.run(["ingest", str(file), *at]) == 1
    assert cli.run(["dead-letters", "list", *at, "--json"]) == 0
    letters = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1])
    assert letters["n_letters"] == 1
    assert "'SongPlayed': not known" in letters["letters"][0]["reason"]

    (tmp_path / "choir_events.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    (home / CONFIG_NAME).write_text('[events]\nmodules = ["choir_events"]\n')
    assert cli.run(["dead-letters", "replay", *at, "--json"]) == 0
    assert len(msgspec.json.decode(capsys.readouterr().out)["replayed"]) == 1
    assert cli.run(["dead-letters", "list", *at]) == 0
    assert "No dead letters" in capsys.readouterr().out

    assert cli.run(["warehouse", "export", *at, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["n_events"] == 1
    rows = duckdb.sql(
        f"select topic, payload ->> 'user_id', payload ->> 'song' "
        f"from read_parquet('{home}/data/warehouse/*/*/*.parquet', hive_partitioning = true)"
    ).fetchall()
    assert rows == [("events.song", "7", "Das Wandern")]
    assert cli.run(["events", "list", *at, "--json"]) == 0
    assert "events.song" in capsys.readouterr().out


def test_replaying_a_letter_that_is_still_wrong_ends_with_code_1(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.ndjson"
    file.write_bytes(b"nonsense\n")
    cli.run(["ingest", str(file), "--home", str(home)])
    assert cli.run(["dead-letters", "replay", "1", "99", "--home", str(home)]) == 1
    said = capsys.readouterr().out
    assert "letter 1 refused again" in said
    assert "letter 99 does not exist" in said


def test_doctor_is_content_with_a_new_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    any_port = "server.port=0"  # the usual one may well be taken by the server of whoever runs the tests
    assert cli.run(["doctor", "--home", str(home), "--json", "--set", any_port]) == 0
    findings = {f["check"]: f["verdict"] for f in msgspec.json.decode(capsys.readouterr().out)["findings"]}
    assert findings["log"] == "warning"
    assert findings["python"] == findings["claims"] == findings["server"] == "ok"


def files_of(home: Path) -> dict[str, bytes]:
    kept = (path for path in home.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {str(path.relative_to(home)): path.read_bytes() for path in kept}


def test_doctor_makes_nothing_and_changes_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["doctor", "--home", str(home), "--json", "--set", "server.port=0"]
    shutil.rmtree(home / "data")
    before = files_of(home)
    assert cli.run(argv) == 0
    assert files_of(home) == before
    assert not (home / "data").exists()
    file = tmp_path / "more.jsonl"
    file.write_bytes(msgspec.json.encode({"payload": {"type": "ProfileUpdated", "user_id": "v", "name": "V"}}))
    assert cli.run(["ingest", str(file), "--home", str(home)]) == 0
    assert cli.run(["timeline", "v", "--home", str(home)]) == 0
    before = files_of(home)
    assert {"data/log.db", "data/claims.db", "data/pages.db"} <= set(before)
    capsys.readouterr()
    assert cli.run(argv) == 0
    assert files_of(home) == before
    found = {f["check"]: f["detail"] for f in msgspec.json.decode(capsys.readouterr().out)["findings"]}
    assert "pages.db: good" in found["claims"]
    assert found["traces"].endswith("MB")


def test_doctor_finds_damaged_pages_and_traces(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "pages.db").write_bytes(b"no pages at all, " * 100)
    traces = load_settings(home).traces_dir
    traces.mkdir(parents=True)
    (traces / "slot-3.traces").write_bytes(b"no traces at all, " * 100)
    assert cli.run(["doctor", "--home", str(home), "--json", "--set", "server.port=0"]) == 1
    found = {f["check"]: f for f in msgspec.json.decode(capsys.readouterr().out)["findings"]}
    assert "pages.db is damaged" in found["claims"]["detail"]
    assert found["traces"]["verdict"] == "warning"
    assert "slot-3.traces" in found["traces"]["detail"]


@pytest.mark.parametrize(
    ("name", "data"),
    [("state.json", b"{"), ("topic=events.post/dt=2027-01-15/000000000000-000000000001.parquet", b"no parquet")],
)
def test_doctor_looks_at_the_warehouse(home: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes) -> None:
    path = home / "data" / "warehouse" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert cli.run(["doctor", "--home", str(home), "--json"]) == 1
    found = [f for f in msgspec.json.decode(capsys.readouterr().out)["findings"] if f["check"] == "warehouse"]
    assert [f["verdict"] for f in found] == ["problem"]
    assert path.name in found[0]["detail"]


def test_doctor_finds_what_is_broken_and_goes_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "log.db").write_bytes(b"this is not a database at all, " * 100)
    (home / "data" / "claims.db").write_bytes(b"nor is this, " * 100)
    (home / "data" / "checkpoints" / "ck-000000000005").mkdir(parents=True)
    argv = ["doctor", "--home", str(home), "--json", "--set", "server.host=0.0.0.0"]
    assert cli.run(argv) == 1
    findings = msgspec.json.decode(capsys.readouterr().out)["findings"]
    broken = {f["check"]: f for f in findings if f["verdict"] == "problem"}
    met = {check for finding in broken.values() for check in (finding["check"], *finding["also"])}
    assert {"log", "checkpoints", "server", "claims"} <= met
    assert "claims.db is damaged" in broken["claims"]["detail"]
    assert all(finding["remedy"] for finding in broken.values())


def test_bench_runs_the_checkouts_script_and_prints_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "bench_two_words.py").write_text(
        'print("noise")\nprint(\'{"bench": "two-words", "ratio": {"sqlite": 5.5}}\')\n'
    )
    (folder / "bench_broken.py").write_text("raise SystemExit(3)\n")
    assert cli.run(["bench", "two-words", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"bench": "two-words", "ratio": {"sqlite": 5.5}}
    assert cli.run(["bench", "two-words"]) == 0
    assert "ratio.sqlite" in capsys.readouterr().out
    assert cli.run(["bench", "broken"]) == 1
    assert "ended with code 3" in capsys.readouterr().err
    assert cli.run(["bench", "three"]) == 2
    assert "use one of broken, two-words" in capsys.readouterr().err


def test_what_stands_after_a_benchs_name_is_the_benchs_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "bench_sized.py").write_text(
        "import argparse, json\n"
        "parser = argparse.ArgumentParser(description='sizes matter')\n"
        "parser.add_argument('--size', default='large')\n"
        "parser.add_argument('--seed', type=int, default=1)\n"
        "print(json.dumps(vars(parser.parse_args())))\n"
    )
    told = {"size": "tiny", "seed": 11}
    for command in (
        ["bench", "sized", "--size", "tiny", "--seed", "11", "--json"],
        ["bench", "--json", "sized", "--seed=11", "--size=tiny"],
    ):
        assert cli.run(command) == 0
        assert msgspec.json.decode(capfd.readouterr().out) == told
    assert cli.run(["bench", "sized", "--json", "--help"]) == 0
    assert "sizes matter" in capfd.readouterr().out
    assert cli.run(["bench", "sized", "--seed", "many"]) == 2
    assert "argument --seed: invalid int value: 'many'" in capfd.readouterr().err


def test_every_benchmark_of_the_checkout_tells_what_it_takes_and_refuses_the_rest() -> None:
    scripts = sorted((Path(__file__).parents[2] / "benchmarks").glob("bench_*.py"))
    reads = [
        script.name
        for script in scripts
        if "parse_args()" in (text := script.read_text()) or ("without_options(__doc__)" in text)
    ]
    assert reads == [script.name for script in scripts]


@pytest.mark.parametrize("text", ["48", "-3h", "h", "0h", "1s", "two days"])
def test_a_span_that_is_none_is_refused(home: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", "lastfm-2k", ".", "--span", text, "--home", str(home)]) == 2
    assert "write 48h, 90m or 7d" in capsys.readouterr().err


def test_config_show_keeps_passwords_to_itself(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["config", "show", "--home", str(home), "--set", "claims.redis_url=redis://:hush@cache:6379/0"]
    assert cli.run(command) == 0
    text = capsys.readouterr().out
    assert cli.run([*command, "--json"]) == 0
    text += capsys.readouterr().out
    assert "hush" not in text
    assert text.count("redis://***@cache:6379/0") == 2


def test_an_error_of_the_system_is_a_line_with_a_remedy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data").rename(home / "moved")
    (home / "data").write_text("")
    (home / "events").write_bytes(b"")
    assert cli.run(["ingest", str(home / "events"), "--home", str(home)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"millrace: {home / 'data'}: ")
    assert said.count("\n") == 1
    assert "a file stands where a folder belongs" in said


def test_a_value_that_nobody_expected_is_a_line_and_no_traceback(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert cli.run(["ingest", "a\0b", "--home", str(home)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("millrace: ")
    assert said.count("\n") == 1
    assert "; " in said
