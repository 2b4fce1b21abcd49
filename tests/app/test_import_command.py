from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from millrace.app import cli
from millrace.events.importers import IMPORTERS

ROOT = Path(__file__).parents[2]
FORUM = [str(ROOT / "examples" / "forum.csv"), "--map", str(ROOT / "examples" / "forum_map.toml")]
FILES = ROOT / "tests" / "events" / "importers" / "files"


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.run(["init", "--home", str(tmp_path / "home")]) == 0
    capsys.readouterr()
    return tmp_path / "home"


def test_a_mapped_file_is_taken_in_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import", "csv", *FORUM, "--home", str(home), "--json"]
    assert cli.run(command) == 0
    said = msgspec.json.decode(capsys.readouterr().out)
    assert (said["n_accepted"], said["n_duplicates"], said["n_refused"]) == (8, 0, 0)
    assert said["report"]["n_unmatched"] == 1
    assert cli.run(command) == 0
    said = msgspec.json.decode(capsys.readouterr().out)
    assert (said["n_accepted"], said["n_duplicates"]) == (0, 8)


def test_a_mapped_file_with_a_span_makes_a_page(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", "csv", *FORUM, "--home", str(home), "--span", "1h"]) == 0
    said = capsys.readouterr().out
    assert "8 events accepted" in said
    assert "1 row to which no rule of the mapping applies" in said
    assert cli.run(["timeline", "dan", "--home", str(home)]) == 0
    assert "The wheel turns, day and night" in capsys.readouterr().out


def test_what_is_said_to_do_next_names_the_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", "csv", *FORUM, "--home", str(home), "--span", "48h"]) == 0
    said = capsys.readouterr()
    assert f"Next: millrace timeline --home {home}, or millrace serve --home {home}\n" in said.out
    assert "newest post" not in said.err


def test_posts_that_are_too_old_for_any_page_are_told_of(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["import", "csv", *FORUM, "--home", str(home), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "d old; pages take posts up to 48 h (age.max_age_h). To see these on a page, import them with --span" in said
    assert cli.run(["import", "csv", *FORUM, "--home", str(home)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("The newest post is ")
    assert said.endswith("import them again into a new home, with --span 48h\n")
    new = str(tmp_path / "new")
    assert cli.run(["init", "--home", new]) == 0
    assert cli.run(["import", "csv", *FORUM, "--home", new, "--span", "48h"]) == 0  # and that helps
    assert cli.run(["timeline", "dan", "--home", new]) == 0
    said = capsys.readouterr()
    assert "The wheel turns, day and night" in said.out
    assert said.err == ""


def test_a_dry_run_prints_first_events_and_counts_and_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(home.rglob("*"))
    assert cli.run(["import", "csv", *FORUM, "--home", str(home), "--dry-run"]) == 0
    said = capsys.readouterr()
    events = [msgspec.json.decode(line) for line in said.out.splitlines()]
    assert [event["payload"]["type"] for event in events] == [
        *["PostCreated", "PostAnnotated"] * 2,
        *["Impression", "Engagement", "Engagement", "FollowChanged"],
    ]
    assert "8 events would be taken in, 0 refused; nothing was written" in said.err
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize("name", list(IMPORTERS))
def test_every_data_set_can_be_tried_without_a_home(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = {"reddit-posts": "reddit", "lastfm-2k": "lastfm", "ml-100k": "ml", "yelp-social": "yelp"}.get(name, name)
    assert cli.run(["import", name, str(FILES / folder), "--dry-run", "--json", "--span", "48h"]) == 0
    said = msgspec.json.decode(capsys.readouterr().out)
    assert said["is_dry_run"]
    assert said["n_acceptable"] == said["report"]["n_events"] > 0
    assert said["report"]["composition"].startswith("composite")
    by_type = said["report"]["n_events_by_type"]
    assert len(said["first_events"]) == sum(min(n, 3) for n in by_type.values())
    assert list(tmp_path.iterdir()) == []


def test_what_the_door_would_refuse_is_told_by_a_dry_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (home.parent / "forum.csv", Path(FORUM[0]).read_text() + f"post,3,ada,mills,{'x' * 2000},2024-11-02,,\n")
    rows[0].write_text(rows[1])
    command = ["import", "csv", str(rows[0]), *FORUM[1:], "--home", str(home), "--set", "log.max_event_bytes=1024"]
    assert cli.run([*command, "--dry-run", "--json"]) == 1
    said = msgspec.json.decode(capsys.readouterr().out)
    assert (said["n_acceptable"], said["n_refused"]) == (9, 1)
    assert "max_event_bytes" in said["refusals"][0]


def test_a_mapping_knows_the_operators_own_actions(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "orders.jsonl").write_text('{"who": 1, "what": "p1", "price": 12.5, "at": 1700000000}\n')
    (home / "orders.toml").write_text(
        '[[events]]\ntype = "Engagement"\ntime = { column = "at", unit = "s" }\n[events.fields]\n'
        'viewer_id = "who"\npost_id = "what"\naction = { value = "purchase" }\namount = "price"\n'
    )
    command = ["import", "jsonl", str(home / "orders.jsonl"), "--map", str(home / "orders.toml"), "--home", str(home)]
    assert cli.run([*command, "--dry-run"]) == 2
    assert "action 'purchase' is not known" in capsys.readouterr().err
    assert cli.run([*command, "--dry-run", "--set", 'events.business_actions=["purchase"]']) == 0
    assert '"action":"purchase","amount":12.5' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["csv", FORUM[0]], "option --map: needed for csv"),
        (["mind", str(FILES / "mind"), *FORUM[1:]], "mind has its own meaning"),
        (["csv", "nowhere.csv", *FORUM[1:]], "is no file"),
        (["csv", FORUM[0], "--map", "nowhere.toml"], "cannot be read"),
        (["jsonl", *FORUM], "none of its rows can be read"),
        (["csv", *FORUM, "--check-rows", "0"], "--check-rows"),
    ],
)
def test_wrong_use_writes_nothing(
    argv: list[str], problem: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(home.rglob("*"))
    assert cli.run(["import", *argv, "--home", str(home)]) in (1, 2)
    assert problem in capsys.readouterr().err
    assert sorted(home.rglob("*")) == before


def test_every_problem_of_a_mapping_is_a_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "bad.toml").write_text('nme = "x"\n[[events]]\ntype = "Liked"\n[[events]]\ntype = "Served"\n')
    assert cli.run(["import", "csv", FORUM[0], "--map", str(home / "bad.toml"), "--home", str(home)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith("millrace: map file bad.toml: ") for line in said)
