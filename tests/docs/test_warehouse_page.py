"""docs/warehouse.md names every table, column and view as they are, and its queries run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from millrace.flywheel.tables.schema import SHOWN
from millrace.flywheel.tables.views import VIEWS
from millrace.testing.builders import a_post_created, a_profile_updated, a_served, an_engagement, an_impression
from millrace.testing.small_tables import SmallTables

PAGE = (Path(__file__).parents[2] / "docs" / "warehouse.md").read_text(encoding="utf-8")
SECTIONS = {part.split("`", 2)[1]: part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE) if part[0] == "`"}
ASKED = re.compile(r'^millrace sql "([^"]+)"', re.MULTILINE)


@pytest.mark.parametrize("table", SHOWN, ids=lambda table: table.name)
def test_every_column_of_a_table_is_described_as_it_is(table) -> None:  # type: ignore[no-untyped-def]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", SECTIONS[table.name], re.MULTILINE)
    assert rows == [(name, kind, what) for name, (kind, what) in table.columns.items()]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_stands_there_with_its_query_and_an_example(view) -> None:  # type: ignore[no-untyped-def]
    assert f"```sql\n{view.query}\n```" in SECTIONS[view.name]
    assert f'```sh\nmillrace sql "{view.example}"\n```' in SECTIONS[view.name]


def test_the_queries_of_the_page_run_and_know_the_columns_that_it_shows(tmp_path: Path) -> None:
    small = SmallTables(tmp_path)
    small.put(
        a_profile_updated("ann"),
        a_post_created(1, "bob"),
        a_served("ann", (1,), author_id="bob", request_id="r1"),
        an_impression("ann", 1, request_id="r1"),
        an_engagement("ann", 1, "like", request_id="r1"),
    )
    small.tables.build()
    with small.reader() as reader:
        for name, section in SECTIONS.items():
            for query in ASKED.findall(section):
                names, rows = reader.rows(shlex.split(f'"{query}"')[0])
                shown = re.search(r"^\| (.+) \|\n\|---", section, re.MULTILINE)
                assert shown is None or shown.group(1).split(" | ") == names, name
                assert rows or name in ("reaction_by_arm", "retention")
