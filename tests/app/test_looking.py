"""``millrace why``, ``post``, ``user`` and ``timeline --debug``: what the system knows, and how a page came about."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.app import cli
from millrace.app.settings import load_settings

Captured = pytest.CaptureFixture[str]

TEXT = "مرحبا \u202e\x1b[31m 你好 [bold]x[/]"
"""What others write: any script, controls of the terminal, markup of ours."""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def event(event_id: str, /, hours_ago: float = 1.0, **payload: Any) -> dict[str, Any]:
    at_ms = int(time.time() * 1000 - hours_ago * 3_600_000)
    return {"event_id": event_id, "event_time_ms": at_ms, "payload": payload}


def a_post(name: str, author: str, hours_ago: float = 1.0, **fields: Any) -> dict[str, Any]:
    payload = {"type": "PostCreated", "post_id": name, "author_id": author, "text": f"text {name}", **fields}
    return event(f"create-{name}", hours_ago, **payload)


EVENTS = [
    event("f", type="FollowChanged", follower_id="vic", followee_id="ada"),
    event("g", type="FollowChanged", follower_id="bob", followee_id="vic"),
    event("b", type="BlockChanged", blocker_id="vic", blocked_id="mal"),
    event("m", type="MuteChanged", muter_id="vic", muted_id="tom"),
    event("k", type="MuteChanged", muter_id="vic", keyword="dull"),
    event(
        "n",
        type="ProfileUpdated",
        user_id="vic",
        name="Vic \u202e\x1b[2J",
        bio="Mühlen & Räder",
        languages=["de", "en"],
        interests=["mills"],
        settings={"sensitive_media": "show"},
    ),
    *(a_post(f"p{n}", "ada", 1 + n / 10) for n in range(5)),
    a_post("own", "vic"),
    a_post("evil", "mal"),
    a_post("old", "bob", 60),
    a_post("odd", "bob", text=TEXT),
    a_post("q", "bob", kind="quote", parent_id="p0", parent_author_id="ada"),
    event("a", type="PostAnnotated", post_id="p0", producer="test", language="en", topics=["mills", "water"]),
    event("l", type="LabelChanged", label="spam", post_id="p0"),
    event("o", type="CountsObserved", post_id="p0", counts={"like": 1_234}),
    *(event(f"e{who}", 0.5, type="Engagement", viewer_id=who, post_id="p0", action="like") for who in ("bob", "vic")),
    event("i", 0.5, type="Impression", viewer_id="vic", post_id="p4", dwell_ms=5_000),
    a_post("lost", "bob"),
    event("d", 0.2, type="PostDeleted", post_id="lost"),
]


@pytest.fixture
def home(tmp_path: Path, capsys: Captured) -> Path:
    assert cli.run(["init", "--home", "home"]) == 0
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"\n".join(map(msgspec.json.encode, EVENTS)))
    assert cli.run(["ingest", str(file), "--home", "home"]) == 0
    capsys.readouterr()
    return tmp_path / "home"


def run(home: Path, capsys: Captured, *argv: str, code: int = 0) -> str:
    capsys.readouterr()
    assert cli.run([*argv, "--home", str(home)]) == code
    said = capsys.readouterr()
    if "--json" not in argv:
        assert not set("\x1b\x07\u202e") & set(said.out + said.err)
    return said.out if code == 0 else said.err


def run_json(home: Path, capsys: Captured, *argv: str) -> Any:
    return msgspec.json.decode(run(home, capsys, *argv, "--json"))


# timeline --debug


def test_timeline_tells_how_the_page_was_made_and_why(home: Path, capsys: Captured) -> None:
    said = run(home, capsys, "timeline", "vic", "--debug")
    assert "For you, vic" in said
    for part in (
        "Sources",
        "in_network",
        "Filters: ",
        "own_posts",
        "Time: ",
        "source",
        "all at their defaults",
        "recency",
    ):
        assert part in said
    said = run(home, capsys, "timeline", "bob", "--debug", "--set", "params.recency.rate_per_h=0.5")
    assert "recency.rate_per_h" in said
    assert "config" in said


def test_timeline_as_json_keeps_its_form_and_gets_the_trace_beside_it(home: Path, capsys: Captured) -> None:
    page = run_json(home, capsys, "timeline", "vic")
    assert {post["post_id"] for post in page["posts"]} >= {"p1", "p2", "odd"}
    both = run_json(home, capsys, "timeline", "vic", "--debug")
    assert set(both) == {"page", "trace"}
    assert both["trace"]["request_id"] == both["page"]["request_id"] != page["request_id"]


def test_a_page_for_somebody_unknown_says_what_it_is(home: Path, capsys: Captured) -> None:
    assert cli.run(["timeline", "zoe", "--home", str(home)]) == 0
    said = capsys.readouterr()
    assert said.err == "Nobody has heard of zoe: this is what is popular\n"
    assert "For you, zoe" in said.out
    assert cli.run(["timeline", "vic", "--home", str(home)]) == 0
    assert capsys.readouterr().err == ""


def test_a_page_names_the_posts_and_the_request_that_can_be_asked_about(
    home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(home, capsys, "timeline", "vic").splitlines()
    posts = [line.rpartition("  ·  post ")[2] for line in lines if "  ·  post " in line]
    assert "p1" in posts
    (request,) = [line.removeprefix("request ") for line in lines if line.startswith("request ")]
    for post in posts:
        assert "Shown at place" in run(home, capsys, "why", "vic", post, "--request", request)
    first = run(home, capsys, "why", "vic", "p1").splitlines()[0]
    assert first == "p1  was sent to vic lately: how that came about is in `--request ID`"
    assert run(home, capsys, "why", "vic", "old").startswith("old  found by no source")


def test_scores_fit_into_a_narrow_terminal_and_tell_only_what_changed_something(
    home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run(home, capsys, "timeline", "vic", "--debug")
    assert "x0.9" in said  # recency
    assert "x1 " not in said
    assert "+0 " not in said
    said = run(home, capsys, "why", "bob", "p1")
    bars = [line for line in said.splitlines() if "█" in line or "░" in line]
    assert len(bars) > 1
    assert all(line.count("│") == 6 and line.split("│")[1].strip() for line in bars)  # none goes on in a second line
    assert "x 1 " not in said
    assert "other steps changed nothing" in said


# why


def test_why_looks_at_a_page_that_nobody_gets(home: Path, capsys: Captured) -> None:
    first = run_json(home, capsys, "why", "vic", "p1")
    assert first["verdict"] == "shown"
    assert first["sources"][0] == "in_network"
    assert run_json(home, capsys, "why", "vic", "p1")["position"] == first["position"]
    assert not load_settings(home).traces_dir.exists()
    page = run_json(home, capsys, "timeline", "vic")
    assert "p1" in {post["post_id"] for post in page["posts"]}  # neither look has claimed it
    assert run_json(home, capsys, "why", "vic", "p1")["verdict"] in ("dropped", "not_retrieved")  # the page has


def test_why_explains_a_page_that_was_sent(home: Path, capsys: Captured) -> None:
    page = run_json(home, capsys, "timeline", "vic", "--limit", "2")
    posts = [post["post_id"] for post in page["posts"]]
    found = run_json(home, capsys, "why", "vic", posts[1], "--request", page["request_id"])
    assert (found["verdict"], found["position"], found["request_id"]) == ("shown", 2, page["request_id"])
    assert found["score"] == pytest.approx(page["posts"][1]["score"], rel=1e-6)
    said = run(home, capsys, "why", "vic", posts[0], "--request", page["request_id"])
    assert "Shown at place 1." in said
    assert "recency" in said
    assert "█" in said


@pytest.mark.parametrize(
    ("post", "parts"),
    [
        ("own", ("dropped", "own_posts")),
        ("evil", ("dropped", "blocked_author", "accounts that the viewer blocks")),
        ("p4", ("dropped", "seen")),
        ("old", ("found by no source", "as things stand now", "in_network", "recent")),
    ],
)
def test_why_says_why_not(home: Path, capsys: Captured, post: str, parts: tuple[str, ...]) -> None:
    said = run(home, capsys, "why", "vic", post)
    for part in parts:
        assert part in said


def test_why_refuses_what_it_cannot_explain(home: Path, capsys: Captured) -> None:
    page = run_json(home, capsys, "timeline", "vic")
    assert "post 'nope': was no candidate" in run(home, capsys, "why", "vic", "nope", code=1)
    assert "request 'x': never heard of here" in run(home, capsys, "why", "vic", "p1", "--request", "x", code=1)
    other = run(home, capsys, "why", "bob", "p1", "--request", page["request_id"], code=1)
    assert "not of viewer 'bob'" in other
    assert "viewer ''" in run(home, capsys, "why", "", "p1", code=1)


# post and user


def test_post_tells_what_all_stores_know(home: Path, capsys: Captured) -> None:
    found = run_json(home, capsys, "post", "p0")
    assert (found["text"], found["author"], found["kind"]) == ("text p0", {"user_id": "ada", "name": ""}, "original")
    assert (found["language"], found["topics"], found["labels"]) == ("en", ["mills", "water"], ["spam"])
    assert found["stores"] == ["content", "posts", "engagements", "labels"]
    assert found["observed"] == {"like": 1_234}
    assert found["counts"]["like"] == pytest.approx(2, rel=0.1)
    assert found["n_engagers"] == 2
    assert {person["user_id"] for person in found["engagers"]} == {"bob", "vic"}
    said = run(home, capsys, "post", "p0")
    for part in ("live", "text p0", "mills, water", "spam", "1,234", "2: "):
        assert part in said
    assert run_json(home, capsys, "post", "q")["parent_id"] == "p0"


def test_any_text_is_safe_in_a_terminal(home: Path, capsys: Captured) -> None:
    said = run(home, capsys, "post", "odd")
    assert "[bold]x[/]" in said
    assert "你好" in said
    assert "Vic" in run(home, capsys, "user", "vic")


def test_a_deleted_post_is_known_to_be_deleted(home: Path, capsys: Captured) -> None:
    found = run_json(home, capsys, "post", "lost")
    assert (found["is_deleted"], found["stores"], found["text"], found["author"]) == (True, [], "", None)
    assert "deleted" in run(home, capsys, "post", "lost")


def test_user_tells_what_all_stores_know(home: Path, capsys: Captured) -> None:
    found = run_json(home, capsys, "user", "vic")
    assert (found["bio"], found["languages"], found["interests"]) == ("Mühlen & Räder", ["de", "en"], ["mills"])
    assert found["shows_sensitive"] is True
    assert (found["n_following"], found["n_followers"]) == (1, 1)
    assert (found["n_blocked"], found["n_blocked_by"], found["n_muted"], found["n_muted_keywords"]) == (1, 0, 1, 1)
    assert (found["n_live_posts"], found["n_seen"], found["n_served"]) == (1, 1, 0)
    assert found["actions"]["like"] == 1
    assert [like["author"]["user_id"] for like in found["likes"]] == ["ada"]
    assert run_json(home, capsys, "user", "ada")["n_live_posts"] == 5
    assert run_json(home, capsys, "user", "mal")["n_blocked_by"] == 1
    said = run(home, capsys, "user", "vic")
    for part in ("Mühlen", "de, en", "shown", "1; followed by 1", "Likes most", "ada", "1 account, 1 keyword"):
        assert part in said


@pytest.mark.parametrize("command", ["post", "user"])
def test_what_nobody_has_heard_of_is_refused(home: Path, capsys: Captured, command: str) -> None:
    assert f"{command} 'nope': never heard of" in run(home, capsys, command, "nope", code=1)
    assert f"{command} id ''" in run(home, capsys, command, "", code=1)
