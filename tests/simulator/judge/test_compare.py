from __future__ import annotations

from typing import Any

import pytest

from millrace.base.errors import MillraceError
from millrace.simulator.judge.compare import ab_effect, interference, twin_effect, viewer_differences
from millrace.testing.run_plan import BEGAN_MS
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import a_meta, small_run

WORLD: dict[str, Any] = {"n_users": 200, "n_days": 2, "page_limit": 10}
BEFORE = a_run(RunPlan(**WORLD))


def test_everybody_is_compared_with_themselves() -> None:
    users = [{"user": user, "joined_ms": 0} for user in (1, 2, 3)]
    before = small_run(
        users=users, pages=[{"page": 0, "viewer": 1, "value": 2.0}, {"page": 1, "viewer": 2, "value": 1.0}]
    )
    after = small_run(
        users=users, pages=[{"page": 0, "viewer": 1, "value": 3.0}, {"page": 1, "viewer": 1, "value": 1.0}]
    )
    pairs = viewer_differences(before, after)
    assert pairs.select("viewer", "before", "after", "difference").rows() == [
        (1, 2.0, 4.0, 2.0),
        (2, 1.0, 0.0, -1.0),
        (3, 0.0, 0.0, 0.0),
    ]
    got = twin_effect(before, after)
    assert got.per_viewer.relative.value == pytest.approx(1 / 3)
    assert got.per_page.relative.value == pytest.approx(1 / 3)
    assert got.per_viewer.n == 3


def test_twins_recover_a_planted_effect_exactly_where_nothing_else_differs() -> None:
    got = twin_effect(BEFORE, a_run(RunPlan(**WORLD, lift_frac=(0.05,))))
    assert got.per_viewer.relative.value == pytest.approx(0.05, rel=1e-5)
    assert got.per_page.relative.value == pytest.approx(0.05, rel=1e-5)
    assert got.harmed == ()


def test_twins_recover_a_planted_effect_among_other_posts() -> None:
    got = twin_effect(BEFORE, a_run(RunPlan(**WORLD, feed_seed=1, lift_frac=(0.05,))))
    assert got.per_viewer.relative.low < 0.05 < got.per_viewer.relative.high
    assert got.per_viewer.relative.error < 0.01


def test_harm_planted_in_one_slice_is_found_there_and_nowhere_else() -> None:
    got = twin_effect(BEFORE, a_run(RunPlan(**WORLD, lift_frac=(0.03,), language_lift_frac={"ja": -0.15})))
    assert got.harmed == ("language=ja",)
    ja = next(part for part in got.slices if part.slice == "language=ja")
    assert ja.effect.relative.value == pytest.approx(1.03 * 0.85 - 1, rel=1e-5)
    assert ja.against_rest.value == pytest.approx(1.03 * 0.85 - 1.03, rel=1e-5)
    assert {part.slice.partition("=")[0] for part in got.slices} == {"language", "activity", "account", "voice"}


def test_planted_harm_is_found_among_other_posts() -> None:
    got = twin_effect(BEFORE, a_run(RunPlan(**WORLD, feed_seed=1, lift_frac=(0.03,), language_lift_frac={"ja": -0.15})))
    assert got.harmed == ("language=ja",)


def test_two_feeds_that_do_the_same_harm_nobody() -> None:
    harmed = [twin_effect(BEFORE, a_run(RunPlan(**WORLD, feed_seed=seed))).harmed for seed in range(1, 6)]
    assert sum(map(len, harmed)) <= 1


def test_runs_of_two_worlds_are_not_compared() -> None:
    with pytest.raises(MillraceError, match="same number is another person"):
        twin_effect(BEFORE, a_run(RunPlan(n_users=200, n_days=2, page_limit=10, seed=2)))
    with pytest.raises(MillraceError, match="nobody is in both"):
        twin_effect(BEFORE, small_run())


def test_a_naive_test_between_arms() -> None:
    users = [{"user": user, "joined_ms": 0, "arm": user % 2} for user in range(6)]
    pages = [
        {"page": user, "viewer": user, "arm": user % 2, "time_ms": BEGAN_MS, "value": 1.0 + user % 2 + user / 10}
        for user in range(6)
    ]
    run = small_run(a_meta(arms=("old", "new")), users=users, pages=pages)
    got = ab_effect(run)
    assert got.before == pytest.approx(1.2)
    assert got.relative.value == pytest.approx(2.3 / 1.2 - 1)
    assert ab_effect(run, control="new", treatment="old").difference.value == pytest.approx(-1.1)
    assert ab_effect(run, per_page=True).relative.value == pytest.approx(got.relative.value)
    with pytest.raises(MillraceError, match="old, new"):
        ab_effect(run, treatment="newest")


def test_interference_is_how_far_the_naive_test_is_off() -> None:
    twin = twin_effect(BEFORE, a_run(RunPlan(**WORLD, lift_frac=(0.05,))))
    ab = ab_effect(a_run(RunPlan(**WORLD, arms=("a", "b"), lift_frac=(0.0, 0.05))), per_page=True)
    got = interference(twin.per_page, ab)
    assert got.difference.value == pytest.approx(ab.relative.value - twin.per_page.relative.value)
    assert got.difference.low < 0 < got.difference.high
    assert interference(twin, ab).twin == twin.per_viewer.relative
