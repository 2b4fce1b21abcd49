"""Every Python example of the documentation runs: the blocks of a page in their order, in one namespace."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return the code of each block and the line of the page on which it begins."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in BLOCK.finditer(text)]


PAGES = [page for page in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]) if blocks(page)]


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return a module that can be looked up by its name, as classes that are defined in it expect."""
    module = ModuleType("a_page_of_the_docs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_blocks_of_a_page_run(page: Path, namespace: ModuleType) -> None:
    for line, code in blocks(page):
        # Padded with empty lines, so that a traceback names the line of the page.
        exec(compile("\n" * line + code, str(page), "exec"), vars(namespace))


def test_a_block_begins_on_the_line_after_its_fence(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nfirst = 1\n```\n\n```sh\nls\n```\n\n```python\nsecond = 2\n```\n")
    assert blocks(page) == [(3, "first = 1\n"), (11, "second = 2\n")]
