from __future__ import annotations

import math

import pytest

from millrace.simulator.judge.intervals import mean
from millrace.simulator.judge.learning import Step, new_authors, new_viewers, reached
from millrace.testing.run_plan import BEGAN_MS, HOUR_MS
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import a_meta, small_run

NEW = {"user": 1, "joined_ms": BEGAN_MS}
OLD = {"user": 2, "joined_ms": 0}


def an_author(predicted: list[float]) -> dict[str, list[dict[str, object]]]:
    """One post of a new author, served once an hour; it is truly liked by half."""
    return {
        "users": [NEW],
        "posts": [{"post": 0, "author": 1, "created_ms": BEGAN_MS}],
        "pages": [{"page": i, "viewer": 9, "time_ms": BEGAN_MS + i * HOUR_MS} for i in range(len(predicted))],
        "items": [{"page": i, "author": 1, "true_like": 0.5, "pred_like": rate} for i, rate in enumerate(predicted)],
    }


@pytest.mark.parametrize(
    ("predicted", "hours"),
    [
        ([0.5, 0.5, 0.5], 1.0),  # right from the first full window
        ([1.0, 1.0, 0.5, 0.5], 3.0),  # the window of hours 1 and 2 is still wrong
        ([0.5, 0.5, 1.0, 0.5, 0.5], 4.0),  # went wrong again in between
        ([0.5, 0.5, 0.5, 1.0], None),  # is wrong at the end
    ],
)
def test_an_author_is_right_once_the_rate_stays_right(predicted: list[float], hours: float | None) -> None:
    got = new_authors(small_run(**an_author(predicted)), window=2, tolerance_frac=0.1)
    assert got.hours == hours
    assert (got.n_new, got.n_judged, got.n_right) == (1, 1, int(hours is not None))


def test_who_is_hardly_served_or_never_predicted_is_not_judged() -> None:
    for predicted in ([0.5], [math.nan] * 9):
        got = new_authors(small_run(**an_author(predicted)), window=2)
        assert (got.n_new, got.n_judged, got.n_right, got.hours) == (1, 0, 0, None)


def test_the_curve_tells_predicted_over_true_by_hours() -> None:
    got = new_authors(small_run(**an_author([1.0, 0.75, 0.5])), window=2)
    assert [(step.start, step.ratio.value) for step in got.curve] == [(0.0, 2.0), (1.0, 1.5), (2.0, 1.0)]


def a_step(start: float, value: float) -> Step:
    return Step(start=start, ratio=mean([value]))


@pytest.mark.parametrize(
    ("values", "start"),
    [((0.5, 0.8, 0.95), 2.0), ((0.95, 0.8, 0.95), 2.0), ((0.9, 0.9, 1.0), 0.0), ((1.0, 1.0, 0.8), None), ((), None)],
)
def test_reached_means_reached_and_kept(values: tuple[float, ...], start: float | None) -> None:
    assert reached(tuple(a_step(float(i), value) for i, value in enumerate(values)), 0.9) == start


def test_steps_of_too_few_people_do_not_decide() -> None:
    steps = (Step(start=0, ratio=mean([0.5] * 5)), Step(start=1, ratio=mean([1.0] * 5)), a_step(2, 0.1))
    assert reached(steps, 0.9, min_people=5) == 1
    assert reached(steps, 0.9) is None
    assert reached(steps[2:], 0.9, min_people=5) is None


def test_an_unknown_ratio_is_not_reached() -> None:
    assert reached((a_step(0, 1.0), a_step(1, math.nan)), 0.9) is None


def test_new_viewers_beside_the_older_ones_of_the_same_day() -> None:
    values = [2.0, 6.0, 9.0]
    pages = [
        {"page": i, "viewer": 1, "time_ms": BEGAN_MS + i * HOUR_MS, "value": value} for i, value in enumerate(values)
    ]
    pages += [{"page": 9, "viewer": 2, "time_ms": BEGAN_MS + HOUR_MS, "value": 10.0}]
    held = [{"page": 0, "served": 1.0, "best_all": 4.0}, {"page": 9, "served": 5.0, "best_all": 10.0}]
    got = new_viewers(small_run(a_meta(), users=[NEW, OLD], pages=pages, regret=held), min_people=1)
    assert [step.ratio.value for step in got.value_by_pages] == [0.2, 0.6, 0.9]
    assert got.pages == 2.0
    assert got.hours is None, "hours 1 and 2 are one step, whose pages are worth three quarters"
    assert [step.ratio.value for step in got.served_by_pages] == [0.5]
    assert got.n_new == 1


def test_beside_older_viewers_who_are_badly_served_nothing_is_said() -> None:
    pages = [{"page": 0, "viewer": 1, "value": -2.0}, {"page": 1, "viewer": 2, "value": -1.0}]
    got = new_viewers(small_run(users=[NEW, OLD], pages=pages), min_people=1)
    assert (got.pages, got.value_by_pages) == (None, ())


def test_nobody_is_new() -> None:
    run = small_run(users=[OLD], pages=[{"page": 0, "viewer": 2, "value": 1.0}])
    assert (new_viewers(run).hours, new_viewers(run).n_new) == (None, 0)
    assert (new_authors(run).hours, new_authors(run).n_new) == (None, 0)


def test_a_bias_towards_new_authors_wears_off() -> None:
    got = new_authors(a_run(RunPlan(n_users=120, n_days=4, new_frac=0.3)))
    assert got.n_right > 0
    assert got.hours is not None
    assert 4 < got.hours < 40
    assert got.curve[0].ratio.value > 1.4 > 1.1 > got.curve[-1].ratio.value
