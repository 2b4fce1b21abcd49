"""The public sets are read as what they are; every set gives its rows, and every number is one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from millrace.simulator.config import WorldConfig
from millrace.simulator.marginals.real import READERS, real_sets
from millrace.simulator.marginals.statistics import Marginals
from millrace.simulator.marginals.table import Row, describe
from millrace.simulator.world import simulate_history

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

HOUR_MS = 3_600_000

COMPARED = {
    "followers per user": {"yelp-social", "cascades-android"},
    "following per user": {"yelp-social", "cascades-android"},
    "follow graph": {"yelp-social", "cascades-android"},
    "neighbours per user": {"yelp-social", "lastfm-2k", "cascades-android"},
    "closed triangles": {"yelp-social", "lastfm-2k", "cascades-android"},
    "likes per post": {"reddit-posts"},
    "replies per post": {"reddit-posts"},
    "click rate by position": {"mind-subset", "obd-small"},
    "engagements per user": {"yelp-social", "ml-100k", "ml-1m"},
    "clicks per user": {"mind-subset"},
    "reposts per user": {"cascades-android"},
    "original text, characters": {"reddit-posts", "tweeteval"},
    "reply text, words": {"tweeteval", "xlm-t"},
    "original text, es, words": {"xlm-t", "langid17"},
    "original text, ar, characters": {"xlm-t", "langid17"},
    "posts per visit": {"mind-subset"},
    "gaps between visits": {"ml-100k"},
    "gaps between engagements of a user": {"ml-100k"},
    "gaps between posts of an author": {"reddit-posts"},
    "hours of the day, seen": {"mind-subset", "ml-100k"},
    "hours of the day, posted": {"reddit-posts"},
}


@pytest.fixture(scope="module")
def reals(data_folder: Path) -> dict[str, Marginals]:
    return dict(real_sets(data_folder, 56 * HOUR_MS))


@pytest.fixture(scope="module")
def rows(data_folder: Path) -> list[Row]:
    world = WorldConfig(size="demo", n_users=600)
    return describe(simulate_history(world, 1_800_000_000_000), data_folder)


def test_every_set_is_there_and_every_number_is_finite(reals: dict[str, Marginals]) -> None:
    assert set(reals) == set(READERS)
    numbers = [value for found in reals.values() for statistics in found.values() for value in statistics.values()]
    assert len(numbers) > 400
    assert all(map(math.isfinite, numbers))


def test_the_table_compares_every_quantity_with_the_sets_that_have_it(rows: list[Row]) -> None:
    compared = {
        quantity: {row.data_set for row in rows if row.quantity == quantity and row.data_set} for quantity in COMPARED
    }
    assert compared == COMPARED
    assert all(math.isfinite(row.world) for row in rows)


def test_published_sizes_come_out(reals: dict[str, Marginals]) -> None:
    friends = reals["lastfm-2k"]["neighbours per user"]
    assert friends["mean"] == pytest.approx(25_434 / 1_892)  # the set's own readme: 13.443 friends a user
    ratings = reals["ml-1m"]["engagements per user"]
    assert ratings["mean"] == pytest.approx(999_611 / 6_040)
    assert reals["mind-subset"]["click rate by position"]["rate"] == pytest.approx(7_542 / 189_359)


def test_mind_is_flat_within_its_shuffled_pages_and_falls_across_them(reals: dict[str, Marginals]) -> None:
    clicks = reals["mind-subset"]["click rate by position"]
    assert abs(clicks["decay"]) < 3 * clicks["decay se"]
    assert clicks["plain decay"] > 0.3
