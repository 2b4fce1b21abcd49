from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.actions import ActionSpace
from millrace.base.errors import ConfigError
from millrace.events.codec import EventCodec
from millrace.events.importers.map_file import FileMap, load_map
from millrace.events.registry import EventRegistry

CODEC = EventCodec(EventRegistry(), ActionSpace(("purchase",)))
GOOD = """
name = "shop"
[[events]]
type = "Engagement"
when = { column = "what", equals = "buy" }
time = { column = "at", unit = "s" }
event_id = { template = "{order}/{line}" }
[events.fields]
viewer_id = "who"
post_id = { template = "item-{sku}" }
action = { value = "purchase" }
amount = { column = "price", default = 0 }
"""


def load(folder: Path, text: str) -> FileMap:
    file = folder / "map.toml"
    file.write_text(text)
    return load_map(file, CODEC)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(folder, text)
    return [problem.removeprefix("map file map.toml: ") for problem in refused.value.problems]


def test_a_mapping_knows_which_columns_it_reads_and_which_it_needs(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD)
    assert found.name == "shop"
    assert found.columns_read() == ("what", "at", "who", "sku", "price", "order", "line")
    assert found.events[0].columns_needed() == ("who", "sku", "order", "line", "at")
    assert found.events[0].fields["viewer_id"].column == "who"


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = """
    name = "My Shop"
    delimeter = ";"
    [[events]]
    type = "Engagement"
    when = { column = "what" }
    time = { column = "at", unit = "minutes" }
    colour = "red"
    [events.fields]
    viewer = "who"
    post_id = { column = "sku", template = "item-{sku}" }
    action = { column = "what", names = { buy = "purchase", sell = "sale" } }
    amount = { column = "price", times = 0 }
    [[events]]
    type = "Liked"
    [[events]]
    type = "Served"
    [[events]]
    time = "at"
    fields = "all"
    """
    found = problems(tmp_path, text)
    for expected in (
        "name 'My Shop': Expected str matching regex",
        "delimeter: not known; did you mean delimiter?",
        "events[1].when: give exactly one of equals, any_of and is_present",
        "events[1].time.unit 'minutes': not one of s, ms, iso8601",
        "events[1].colour: not known; known here:",
        "events[1].fields.post_id: give exactly one of column, template and value",
        "events[1].fields.amount.times 0: Expected float > 0.0",
        "events[2].type 'Liked': not known; use one of PostCreated",
        "events[3].type 'Served': written by the server only; use Impression",
        "events[4].time 'at': not a table",
        "events[4].fields: not a table",
        "events[4]: type missing",
    ):
        assert any(problem.startswith(expected) for problem in found), (expected, found)
    rest = problems(tmp_path, text.replace('colour = "red"', ""))
    for expected in (
        "events[1].fields.viewer: Engagement has no such field; did you mean viewer_id?",
        "events[1].fields.action: action 'sale' is not known; use one of like",
        "events[1].fields: Engagement needs viewer_id",
    ):
        assert any(problem.startswith(expected) for problem in rest), (expected, rest)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("{}", "give exactly one of column, template and value"),
        ('{ value = "x", names = { a = "b" } }', "names can only stand with a column"),
        ('{ template = "x", split = "," }', "split can only stand with a column"),
        ('{ template = "x" }', "the template names no column in braces"),
        ('{ column = "a", otherwise = "x" }', "otherwise can only stand with names"),
        ('{ column = "a", split = ",", times = 2 }', "give only one of names, split and times"),
        ("7", "7: not a table"),
        ('{ colum = "a" }', "colum: not known; did you mean column?"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(tmp_path: Path, field: str, problem: str) -> None:
    found = problems(tmp_path, GOOD.replace('{ template = "item-{sku}" }', field))
    assert any(problem in said for said in found), found


@pytest.mark.parametrize(
    ("text", "problem"), [("", "there are none"), ("events = 3", "there are none"), ("events = [3]", "not a table")]
)
def test_a_mapping_without_rules_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in problems(tmp_path, text)[0]


def test_derived_actions_and_times_of_posts_cannot_be_mapped(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, GOOD.replace('"purchase"', '"dwell"'))
    assert "derived from impressions, never sent" in said
    (said,) = problems(
        tmp_path,
        '[[events]]\ntype = "PostCreated"\n[events.fields]\npost_id = "a"\nauthor_id = "b"\ncreated_at_ms = "c"\n',
    )
    assert "the rule's time is the post's" in said


def test_what_is_no_toml_and_no_file_is_refused(tmp_path: Path) -> None:
    assert "not valid TOML" in problems(tmp_path, "[events")[0]
    with pytest.raises(ConfigError, match="cannot be read"):
        load_map(tmp_path / "nowhere.toml", CODEC)
