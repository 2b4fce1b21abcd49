from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from millrace.simulator.config import WorldConfig
from millrace.simulator.marginals.statistics import Marginals
from millrace.simulator.marginals.table import COLUMNS, SHORT_COLUMNS, Row, beside, describe, short_cells
from millrace.simulator.world import simulate_history

NOW_MS = 1_800_000_000_000


def verdict(quantity: str, statistic: str, world: float, real: float) -> str:
    (row,) = beside({quantity: {statistic: world}}, [("a-set", {quantity: {statistic: real}})])
    return row.verdict


@pytest.mark.parametrize(
    ("statistic", "world", "real", "expected"),
    [
        ("gini", 0.3, 0.44, "alike"),
        ("gini", 0.3, 0.6, "near"),
        ("gini", 0.1, 0.6, "unlike"),
        ("gini", 0.6, 0.1, "unlike"),
        ("none at all", 0.0, 0.0, "alike"),
        ("none at all", 0.0, 0.1, "unlike"),
        ("burstiness", -0.05, 0.05, "alike"),
        ("burstiness", -0.3, 0.05, "near"),
        ("exponent of top 10%", 2.0, 3.5, "unlike"),
        ("at 4-5", 0.9, 1.0, ""),
        ("median", 10.0, 1.0, "scale"),
        ("plain decay", 1.0, 9.0, ""),
    ],
)
def test_verdicts(statistic: str, world: float, real: float, expected: str) -> None:
    assert verdict("followers per user", statistic, world, real) == expected


def test_levels_are_judged_where_they_do_not_grow() -> None:
    assert verdict("reply text, words", "median", 5.0, 17.0) == "unlike"


def test_a_row_for_each_set_and_one_where_there_is_none() -> None:
    world: Marginals = {"q": {"gini": 0.5, "rate": 0.1}}
    rows = beside(world, [("a", {"q": {"gini": 0.25}}), ("b", {"q": {"gini": 0.0}, "r": {"gini": 1.0}})])
    assert [(row.statistic, row.real, row.ratio, row.data_set) for row in rows] == [
        ("gini", 0.25, 2.0, "a"),
        ("gini", 0.0, None, "b"),
        ("rate", None, None, ""),
    ]


def test_the_short_table_has_a_line_a_statistic_and_says_what_lies_among_unlike_sets() -> None:
    real: list[tuple[str, Marginals]] = [
        ("a", {"q": {"gini": 0.2, "mean": 1.0}}),
        ("b", {"q": {"gini": 0.9, "mean": 2.0}}),
    ]
    cells = short_cells(beside({"q": {"gini": 0.5, "mean": 3.0, "rate": 1234.5}}, real))
    assert cells == [
        ("q", "gini", "0.5", "0.2 · 0.9", "within", "a · b"),
        ("", "rate", "1,234", "", "", ""),
    ]
    assert all(len(line) == len(SHORT_COLUMNS) for line in cells)


def test_a_row_reads_as_cells_and_as_json() -> None:
    row = Row("q", "gini", 0.5, 0.25, "a", 2.0, "near")
    assert row.cells() == ("q", "gini", "0.5", "0.25", "×2", "near", "a")
    assert len(row.cells()) == len(COLUMNS)
    assert msgspec.json.decode(msgspec.json.encode(row.as_dict()))["verdict"] == "near"


def test_a_world_alone_has_its_own_column() -> None:
    rows = describe(simulate_history(WorldConfig(size="tiny"), NOW_MS))
    assert {row.real for row in rows} == {None}
    quantities = {row.quantity for row in rows}
    assert {"followers per user", "cascade size", "click rate by position", "gaps between visits"} <= quantities


def test_the_same_world_gives_the_same_table() -> None:
    config = WorldConfig(size="tiny", n_users=40)
    assert describe(simulate_history(config, NOW_MS)) == describe(simulate_history(config, NOW_MS))


def test_sets_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "lastfm-2k"
    folder.mkdir()
    (folder / "user_friends.dat").write_text("userID\tfriendID\n1\t2\n2\t1\n")
    rows = describe(simulate_history(WorldConfig(size="tiny", n_users=40), NOW_MS), tmp_path)
    assert {row.data_set for row in rows} == {"", "lastfm-2k"}
    (mean,) = [row for row in rows if row.data_set and row.quantity.startswith("neigh") and row.statistic == "mean"]
    assert mean.real == 1.0
