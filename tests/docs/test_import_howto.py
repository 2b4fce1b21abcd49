"""The worked examples of the how-to on importing are those of ``examples/``, and print what the page says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from millrace.app import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "import-your-data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def dry_run(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """Return the events of a dry run, one line each, as the page shows them."""
    assert cli.run(["import", *argv, "--dry-run"]) == 0
    shown = []
    for line in capsys.readouterr().out.splitlines():
        event = msgspec.json.decode(line)
        when = datetime.fromtimestamp(event["event_time_ms"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        shown.append(f"{when} {event['payload'].pop('type')} {msgspec.json.encode(event['payload']).decode()}")
    return shown


def test_the_page_shows_the_example_files_and_what_a_dry_run_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (csv,), (forum_map, _), (printed,) = blocks("csv"), blocks("toml"), blocks("text")
    assert csv == (ROOT / "examples" / "forum.csv").read_text(encoding="utf-8")
    assert forum_map == (ROOT / "examples" / "forum_map.toml").read_text(encoding="utf-8")
    argv = ["csv", str(ROOT / "examples" / "forum.csv"), "--map", str(ROOT / "examples" / "forum_map.toml")]
    assert dry_run(capsys, *argv) == printed.splitlines()


def test_the_example_in_json_works_once_its_action_is_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rows,), (_, shop_map) = blocks("json"), blocks("toml")
    (tmp_path / "shop.jsonl").write_text(rows)
    (tmp_path / "shop.toml").write_text(shop_map)
    assert cli.run(["init", "--home", str(tmp_path / "home")]) == 0
    capsys.readouterr()
    argv = ["jsonl", str(tmp_path / "shop.jsonl"), "--map", str(tmp_path / "shop.toml")]
    declared = ["--home", str(tmp_path / "home"), "--set", 'events.business_actions=["purchase"]']
    assert dry_run(capsys, *argv, *declared) == [
        '2024-11-02T08:00:00Z PostCreated {"post_id":"item-a7","author_id":"shop-3","text":"A mill stone"}',
        '2024-11-02T08:01:00Z Engagement {"viewer_id":"99","post_id":"item-a7","action":"purchase","amount":120.5}',
    ]
