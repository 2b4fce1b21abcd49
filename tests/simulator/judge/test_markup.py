from __future__ import annotations

import math

import pytest

from millrace.simulator.judge.intervals import mean
from millrace.simulator.judge.markup import Markup, chance, estimate, join, name_of, number, table, tag


def test_plain_text_is_escaped_and_markup_is_not() -> None:
    assert join("a < b & ", Markup("<i>c</i>")) == "a &lt; b &amp; <i>c</i>"
    assert tag("p", "<script>", ["x", Markup("<br>")], class_='a"b', aria_label="c") == (
        '<p class="a&quot;b" aria-label="c">&lt;script&gt;x<br></p>'
    )
    assert name_of("<b>") == "<bdi>&lt;b&gt;</bdi>"
    assert "&lt;i&gt;" in table(("<i>",), [("<i>", "x")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1234.6, "1,235"),
        (12.34, "12.3"),
        (0.012345, "0.0123"),
        (-1.5, "−1.50"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, expected: str) -> None:
    assert number(value) == expected


def test_shares_and_chances() -> None:
    assert number(0.1234, percent=True) == "12.3 %"
    assert [chance(p) for p in (0.0001, 0.0304, math.nan)] == ["<\u00a00.001", "0.030", "–"]


def test_an_estimate_with_and_without_an_interval() -> None:
    assert "bounds" in estimate(mean([1.0, 2.0]))
    assert estimate(mean([2.0]), signed=True) == '<span class="value">+2.00</span>'
