"""docs/operations.md has a row of every metric that the code exports, and of none that it does not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
NAME = re.compile(r"millrace_[a-z0-9_]+")
TOLD = re.compile(r"`(millrace_[a-z0-9_]+)(?:\{[a-z,]+\})?`")


def exported(source: str) -> set[str]:
    """Return the metrics that a source makes: calls, or pairs for them, that begin with a name of ours and a text."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call | ast.Tuple):
            continue
        parts = node.args if isinstance(node, ast.Call) else node.elts
        texts = [part.value for part in parts[:2] if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if len(texts) == 2 and NAME.fullmatch(texts[0]):
            found.add(texts[0])
    return found


def rows_of_metrics() -> list[str]:
    section = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def told() -> list[str]:
    """Return the metrics that have a row, as the code calls them: a counter's ``_total`` is the format's."""
    return [name.removesuffix("_total") for row in rows_of_metrics() for name in TOLD.findall(row.split(" | ")[0])]


def in_code() -> set[str]:
    return set().union(*(exported(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py")))


def test_every_metric_that_is_exported_has_a_row_and_every_row_is_of_one() -> None:
    assert in_code() - set(told()) == set()
    assert set(told()) - in_code() == set()


def test_no_metric_has_two_rows_and_no_row_abbreviates_a_name() -> None:
    assert sorted(told()) == sorted(set(told()))
    assert [row for row in rows_of_metrics() if "…" in row.split(" | ")[0]] == []
    assert [row for row in rows_of_metrics() if not TOLD.search(row.split(" | ")[0])] == []


def test_what_is_exported_is_found_in_the_source() -> None:
    source = 'Counter("millrace_a", "What.", registry=r)\ngauge("millrace_b", "What" " it is.")\nf("millrace_c")'
    source += '\nALARM = ("millrace_d", "1 while")\ngauge(*ALARM)'
    assert exported(source) == {"millrace_a", "millrace_b", "millrace_d"}
    assert {"millrace_page_posts", "millrace_join_rate", "millrace_rank_queued", "millrace_guard_value"} <= in_code()


def test_each_file_of_a_home_has_one_row() -> None:
    home = PAGE.split("## A home", 1)[1].split("\n## ", 1)[0]
    named = [name for row in re.findall(r"^\| (.+?) \| ", home, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 20
    assert sorted(named) == sorted(set(named))
