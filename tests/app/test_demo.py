"""The demo and the commands around a home with a world in it, as people run them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from millrace.app import cli
from millrace.app.demo_world import can_go_on, demo_config, differences, read_note, state_path
from millrace.app.settings import load_settings
from millrace.mixer.feed import FeedResponse

SCRIPT = Path(sys.executable).with_name("millrace")
TINY = ["--set", "world.size=tiny", "--set", "server.port=0"]


def run(*argv: str, code: int = 0) -> str:
    env = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run([SCRIPT, *argv], capture_output=True, text=True, check=False, timeout=100, env=env)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def run_and_listen(*argv: str) -> str:
    """Run a command; return what it said beside its answer, on one line."""
    done = subprocess.run([SCRIPT, *argv], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a home whose demo has run once; what it printed is in ``first-run.txt``."""
    made = tmp_path_factory.mktemp("demo") / "home"
    text = run("demo", "--home", str(made), "--once", *TINY)
    (made / "first-run.txt").write_text(text)
    return made


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """Return a home of the test's own: what is served to a viewer of a tiny world is soon all that there is."""
    return shutil.copytree(made, tmp_path / "made" / "home")


@pytest.fixture
def server(home: Path) -> Iterator[str]:
    """A running server on the home; yields its URL."""
    command = [SCRIPT, "serve", "--home", str(home), "--set", "server.port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        for line in process.stderr:
            if found := re.search(r"Ready: (http://\S+)", line):
                break
        assert found, "the server ended before it was ready"
        yield found[1]
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(30) == 0


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def test_the_demo_prints_a_viewers_page_and_where_to_look_next(home: Path) -> None:
    text = (home / "first-run.txt").read_text()
    assert "For you, " in text
    assert re.search(r"^ 1  \S", text, re.MULTILINE)
    assert "You follow" in text or "Popular now" in text
    assert re.search(r"http://127\.0\.0\.1:\d+/api/v1/timeline/home\?viewer=", text)


def test_a_second_demo_uses_the_same_world(home: Path) -> None:
    note = read_note(load_settings(home))
    assert note is not None
    assert note.n_events > 1_000
    assert "For you, u5" in run("demo", "--home", str(home), "--once", "--viewer", "u5", *TINY)
    assert read_note(load_settings(home)) == note


def test_a_demo_that_asks_for_another_world_than_there_is_says_so(home: Path) -> None:
    note = read_note(load_settings(home))
    assert note is not None
    config = demo_config(load_settings(home, None, [("world.size", "tiny")]))
    assert config.states_topics, "the page has topics to show"
    plain = load_settings(home, None, [("world.states_topics", "false")])
    assert not demo_config(plain).states_topics
    assert differences(note, config) == []
    assert differences(note, msgspec.structs.replace(config, size="demo", seed=7, n_users=50)) == [
        "size 'tiny', not 'demo'",
        "seed 1, not 7",
        "n_users None, not 50",
    ]
    assert differences(msgspec.structs.replace(note, world=None), config) == []
    argv = ["demo", "--home", str(home), "--once", "--set", "world.size=demo", "--port", "0"]
    said = run_and_listen(*argv)
    assert "Going on with the world in" in said
    assert "not the world that the settings ask for: size 'tiny', not 'demo'" in said


@pytest.mark.parametrize("what", ["no state", "another simulator"])
@pytest.mark.slow
def test_a_world_of_another_version_is_made_anew(home: Path, what: str) -> None:
    settings = load_settings(home)
    note = read_note(settings)
    assert note is not None
    assert can_go_on(settings, note)
    if what == "no state":
        state_path(settings).unlink()
    else:
        other = msgspec.structs.replace(note, simulator="another")
        (settings.data_dir / "demo-world.json").write_bytes(msgspec.json.encode(other))
    said = run_and_listen("demo", "--home", str(home), "--once", *TINY)
    assert "made by another version of Millrace and cannot go on: making a new one" in said
    fresh = read_note(settings)
    assert fresh is not None
    assert fresh.made_at_ms > note.made_at_ms
    assert can_go_on(settings, fresh)


@pytest.mark.slow
def test_without_its_life_the_world_stands_still(home: Path, server: str) -> None:
    note = read_note(load_settings(home))
    assert note is not None
    ready = msgspec.json.decode(get(f"{server}/readyz"))
    assert (ready["is_time_virtual"], ready["now_ms"]) == (True, note.made_at_ms)


def test_the_demo_leaves_other_peoples_data_alone(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    events = tmp_path / "events.ndjson"
    events.write_bytes(b'{"payload": {"type": "PostCreated", "post_id": 1, "author_id": 2}}\n')
    run("init", "--home", home)
    run("ingest", str(events), "--home", home)
    assert "holds data that the demo did not make" in run("demo", "--home", home, "--once", *TINY, code=2)


def test_timeline_prints_what_the_api_answers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", "--home", str(home), "--json", "--limit", "5"]) == 0
    page = msgspec.json.decode(capsys.readouterr().out, type=FeedResponse)
    assert len(page.posts) == 5
    assert all(post.text or post.parent for post in page.posts)
    assert cli.run(["timeline", page.viewer_id, "--home", str(home), "--json", "--limit", "5"]) == 0
    after = msgspec.json.decode(capsys.readouterr().out, type=FeedResponse)
    assert after.viewer_id == page.viewer_id
    assert not {post.post_id for post in page.posts} & {post.post_id for post in after.posts}


@pytest.mark.slow
def test_timeline_works_beside_a_running_server(home: Path, server: str) -> None:
    viewer = msgspec.json.decode(get(f"{server}/api/v1/viewers?limit=1"))[0]["user_id"]
    over_http = msgspec.json.decode(get(f"{server}/api/v1/timeline/home?viewer={viewer}&limit=5"), type=FeedResponse)
    here = msgspec.json.decode(
        run("timeline", viewer, "--home", str(home), "--json", "--limit", "5"), type=FeedResponse
    )
    assert len(over_http.posts) == len(here.posts) == 5
    assert not {post.post_id for post in over_http.posts} & {post.post_id for post in here.posts}
    assert "answers" in run("doctor", "--home", str(home), "--set", f"server.port={server.rpartition(':')[2]}")
    assert "running on it already" in run("serve", "--home", str(home), "--port", "0", code=2)
    assert "good" in run("checkpoint", "--home", str(home))


def test_a_wrong_limit_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", "u1", "--home", str(home), "--limit", "51"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "limit 51" in said


def test_checkpoints_are_written_without_a_server(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["checkpoint", "--home", str(home), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found[0]["problem"] == ""
    assert cli.run(["checkpoint", "--list", "--home", str(home), "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == found


def test_a_backup_restored_elsewhere_serves_the_same_world(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, new_home = str(tmp_path / "backup"), str(tmp_path / "new")
    assert cli.run(["backup", target, "--home", str(home), "--json"]) == 0
    saved = msgspec.json.decode(capsys.readouterr().out)
    assert cli.run(["restore", target, "--home", new_home, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["log_end"] == saved["log_end"]
    assert cli.run(["restore", target, "--home", new_home]) == 1
    assert "has data already" in capsys.readouterr().err
    assert cli.run(["timeline", "--home", new_home, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=FeedResponse).posts


def test_pipeline_show_describes_every_stage(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert cli.run(["pipeline", "show", "--home", str(home)]) == 0
    text = capsys.readouterr().out
    for name in ("in_network", "second_degree", "popular", "blocked_author", "claims", "in_network.max_posts"):
        assert name in text
    assert cli.run(["pipeline", "show", "--mermaid", "--home", str(home)]) == 0
    assert capsys.readouterr().out.startswith("flowchart")
    assert cli.run(["pipeline", "show", "--json", "--home", str(home)]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)[0]["name"] == "home"
