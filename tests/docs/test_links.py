"""The documentation points at things that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|click \w+ \"([^\"]+)\"")
CODE = re.compile(r"`((?:src|tests|docs|benchmarks|examples)/[\w./-]+)`")


def targets(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    links = [first or second for first, second in LINK.findall(text)]
    return [link.split("#")[0] for link in links if link.split("#")[0] and "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    missing = [target for target in targets(page) if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_code_marks_exists(page: Path) -> None:
    paths = CODE.findall(page.read_text(encoding="utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []
