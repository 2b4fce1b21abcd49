from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.simulator.judge.exposure import exposure, gini, lorenz
from millrace.testing.run_plan import BEGAN_MS, DAY_MS, HOUR_MS
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import a_meta, small_run

counts = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [([1, 1, 1, 1], 0.0), ([0, 0, 0, 8], 0.75), ([1, 3], 0.25), ([5], 0.0)],
)
def test_gini(amounts: list[float], expected: float) -> None:
    assert gini(amounts) == expected


@settings(max_examples=100, deadline=None)
@given(amounts=counts)
def test_gini_lies_between_equality_and_one_having_it_all(amounts: list[int]) -> None:
    if not sum(amounts):
        assert math.isnan(gini(amounts))
        assert lorenz(amounts) == ()
        return
    assert 0 <= gini(amounts) <= (len(amounts) - 1) / len(amounts) + 1e-12
    assert gini(amounts) == pytest.approx(gini([7 * amount for amount in reversed(amounts)]))
    curve = np.array(lorenz(amounts))
    assert (curve[0], curve[-1]) == (0.0, pytest.approx(1.0))
    assert (np.diff(curve) >= -1e-12).all()
    assert (curve <= np.linspace(0, 1, 101) + 1e-9).all()


def shown(post: int, author: int, n: int, **rest: object) -> list[dict[str, object]]:
    return [{"post": post, "author": author, "is_examined": True, "liking": 0.9, "age_ms": HOUR_MS, **rest}] * n


def test_who_is_heard() -> None:
    users = [
        {"user": 1, "joined_ms": 0},
        {"user": 2, "joined_ms": BEGAN_MS},
        {"user": 3, "joined_ms": 0},
        {"user": 4, "joined_ms": 0, "is_spammer": True},
    ]
    posts = [
        {"post": 0, "author": 1, "created_ms": BEGAN_MS},
        {"post": 1, "author": 1, "created_ms": BEGAN_MS + 1},
        {"post": 2, "author": 2, "created_ms": BEGAN_MS + DAY_MS},
        {"post": 3, "author": 3, "created_ms": BEGAN_MS, "kind": 1},  # a reply is not asked
        {"post": 4, "author": 3, "created_ms": BEGAN_MS + DAY_MS + 1},  # its day is not over
        {"post": 5, "author": 4, "created_ms": BEGAN_MS},  # spam
        {"post": 6, "author": 3, "created_ms": BEGAN_MS - 3 * DAY_MS},  # too old
    ]
    items = [
        *shown(0, 1, 10),
        *shown(1, 1, 9),
        *shown(1, 1, 5, age_ms=DAY_MS + 1),
        *shown(1, 1, 5, liking=0.5),
        *shown(1, 1, 5, is_examined=False),
        *shown(2, 2, 1),
        *shown(5, 4, 20),
    ]
    got = exposure(small_run(a_meta(n_days=2), users=users, posts=posts, items=items))
    assert (got.heard.n_posts, got.heard.n_authors) == (3, 2)
    assert got.heard.posts.value == pytest.approx(1 / 3)
    assert got.heard.authors.value == 0.5
    assert (got.new_authors.n_posts, got.new_authors.posts.value) == (1, 0.0)
    assert got.other_authors.authors.value == 1.0
    assert (got.n_authors, got.n_impressions) == (3, 30)
    assert got.spam_frac == 0.4
    assert got.unseen_frac == pytest.approx(1 / 3)
    assert got.top_1_frac == 29 / 30
    assert got.gini == pytest.approx(gini([0, 1, 29]))


def test_of_an_empty_run_nothing_is_said() -> None:
    got = exposure(small_run())
    assert math.isnan(got.gini)
    assert math.isnan(got.top_1_frac)
    assert math.isnan(got.heard.posts.value)


def test_a_made_up_run_has_both_sorts_of_authors() -> None:
    got = exposure(a_run(RunPlan(n_users=60, n_days=3)))
    assert got.new_authors.n_posts + got.other_authors.n_posts == got.heard.n_posts > 0
    assert 0 < got.gini < 1
