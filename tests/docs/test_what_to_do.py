"""What the documentation and error messages tell people to do can be done."""

from __future__ import annotations

import re
from pathlib import Path

from millrace.app.api.problems import _MEANINGS

ROOT = Path(__file__).parents[2]
TEXTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("src/**/*.py")),
    *sorted(ROOT.glob("benchmarks/*.py")),
]
FROM_PYPI = re.compile(r"pip install [^`\n]*\bmillrace\b(?!/)")
ROW = re.compile(r"^\| ((?:\d{3}(?:, )?)+) \|", re.MULTILINE)


def test_nobody_is_told_to_install_from_where_there_is_no_millrace() -> None:
    """The package is in no index: it is installed from a checkout, as ``pip install '.[redis]'``."""
    told = {str(path.relative_to(ROOT)): FROM_PYPI.findall(path.read_text(encoding="utf-8")) for path in TEXTS}
    assert {path: lines for path, lines in told.items() if lines} == {}


def test_every_status_that_a_route_declares_is_explained() -> None:
    rows = ROW.findall((ROOT / "docs/http.md").read_text(encoding="utf-8"))
    explained = {int(status) for row in rows for status in row.split(", ")}
    assert set(_MEANINGS) - explained == set()
