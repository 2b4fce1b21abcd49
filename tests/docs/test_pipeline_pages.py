"""What the pages on pipelines and batches list is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from millrace.app.settings import Settings
from millrace.app.wiring import build_idle_pipelines
from millrace.base.actions import Action
from millrace.features import columns
from millrace.mixer.value_model.profiles import CLASSIC
from millrace.mixer.value_model.weights import X_WEIGHTS
from millrace.pipeline.column import Column
from millrace.pipeline.describe import PipelineDescription, describe, render_text

DOCS = Path(__file__).parents[2] / "docs"
PIPELINE_PAGE = (DOCS / "pipeline.md").read_text(encoding="utf-8")
BATCH_PAGE = (DOCS / "batch.md").read_text(encoding="utf-8")


PIPELINES = {p.name: describe(p) for p in build_idle_pipelines(Settings(Path("/nonexistent")))}


@pytest.fixture(scope="module")
def home() -> PipelineDescription:
    return PIPELINES["home"]


def section(text: str, title: str) -> str:
    """Return the text under a heading, up to the next one."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no section {title}"
    return match.group(1)


def rows(text: str) -> list[list[str]]:
    """Return the cells of a section's table rows that begin with code."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]


def test_the_excerpt_is_what_the_command_prints(home: PipelineDescription) -> None:
    (excerpt,) = re.findall(r"```text\n(.*?)```", PIPELINE_PAGE, re.DOTALL)
    printed = iter(render_text(home).splitlines())
    assert [line for line in excerpt.splitlines() if line not in printed] == []


@pytest.mark.parametrize("title", ["Query hydrators", "Sources", "Hydrators", "Filters"])
def test_the_tables_list_every_stage_in_order(home: PipelineDescription, title: str) -> None:
    (group,) = (group for group in home.groups if group.title == title.lower())
    assert [row[0].strip("`") for row in rows(section(PIPELINE_PAGE, title))] == [c.name for c in group.components]


def test_the_table_of_the_page_lists_every_other_stage(home: PipelineDescription) -> None:
    listed = [
        name
        for row in rows(section(PIPELINE_PAGE, "Rankers, selector, the page"))
        for name in re.findall(r"`(\w+)`", row[0])
    ]
    first = [group.title for group in home.groups].index("rankers")
    assert listed == [component.name for group in home.groups[first:] for component in group.components]


def test_the_table_of_the_following_timeline_lists_its_stages_in_order() -> None:
    listed = [
        name
        for row in rows(section(PIPELINE_PAGE, "The following timeline"))
        for name in re.findall(r"`(\w+)`", row[0])
    ]
    assert listed == [c.name for group in PIPELINES["following"].groups for c in group.components]


def test_the_policies_of_filters_are_theirs(home: PipelineDescription) -> None:
    (group,) = (group for group in home.groups if group.title == "filters")
    assert [row[-1] for row in rows(section(PIPELINE_PAGE, "Filters"))] == [c.on_error for c in group.components]


def test_the_caps_of_sources_are_theirs(home: PipelineDescription) -> None:
    defaults = {p.name: p.default for group in home.groups for c in group.components for p in c.params}
    for name, *_, cap in rows(section(PIPELINE_PAGE, "Sources")):
        assert defaults[f"{name.strip('`')}.max_posts"] == int(cap)


def test_the_weights_are_those_of_the_value_model() -> None:
    listed = {name.strip("`"): float(weight) for name, weight, _ in rows(section(PIPELINE_PAGE, "The value model"))}
    assert listed == {action.label: X_WEIGHTS[action] for action in Action}


def test_the_params_of_the_classic_profile_are_listed() -> None:
    listed = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", section(PIPELINE_PAGE, "Value profiles").partition("```toml")[0]))
    assert listed == {name for name, value in CLASSIC.items() if value or not name.startswith("value.weight_")}


def test_every_column_is_listed_with_its_type_and_fill() -> None:
    listed = [row[:3] for row in rows(section(BATCH_PAGE, "The feed's columns"))]
    declared = [column for column in vars(columns).values() if isinstance(column, Column)]
    assert listed == [[f"`{c.name}`", _type_of(c), _fill_of(c)] for c in declared]


def _type_of(column: Column) -> str:  # type: ignore[type-arg]
    return f"{column.dtype} × {', '.join(map(str, column.shape))}" if column.shape else str(column.dtype)


def _fill_of(column: Column) -> str:  # type: ignore[type-arg]
    return str(bool(column.fill)) if column.dtype == bool else f"{column.fill:g}"
