from __future__ import annotations

import math

import pytest

from millrace.simulator.judge.utility import utility, utility_over_time, viewer_totals
from millrace.testing.run_plan import BEGAN_MS, DAY_MS, HOUR_MS
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import a_meta, small_run

USERS = [
    {"user": 1, "joined_ms": 0},
    {"user": 2, "joined_ms": 0},
    {"user": 3, "joined_ms": BEGAN_MS + DAY_MS},
    {"user": 4, "joined_ms": BEGAN_MS + 9 * DAY_MS},
]


def a_page(page: int, viewer: int, session: int, hours: float, **rest: float) -> dict[str, float]:
    return {"page": page, "viewer": viewer, "session": session, "time_ms": BEGAN_MS + int(hours * HOUR_MS), **rest}


def a_session(session: int, viewer: int, start_h: float, end_h: float) -> dict[str, float]:
    started, ended = (BEGAN_MS + int(hours * HOUR_MS) for hours in (start_h, end_h))
    return {"session": session, "viewer": viewer, "started_ms": started, "ended_ms": ended}


def test_value_by_page_session_person_and_day() -> None:
    pages = [
        a_page(0, 1, 0, 1, value=4.0, n_examined=10, n_negative=1),
        a_page(1, 1, 0, 2, value=2.0, n_examined=10),
        a_page(2, 1, 1, 30, value=3.0, n_examined=20),
        a_page(3, 2, 2, 40, value=1.0, n_examined=10, did_value=2.0),
    ]
    got = utility(small_run(users=USERS, pages=pages))
    value = got.measures["value"]
    assert value.page.value == 10 / 4
    assert value.session.value == 10 / 3
    assert value.active_day.value == 10 / 3
    assert value.viewer.value == pytest.approx(10 / 3)
    assert value.viewer.n == 3, "who joins after the end is nobody; who never comes counts as 0"
    assert value.viewer_day.value == 10 / 5
    assert got.measures["did_value"].page.value == 0.5
    assert got.sessions_per_viewer_day.value == 3 / 5
    assert got.negatives_per_1000.value == 1000 / 50
    assert (got.n_viewers, got.n_pages, got.n_sessions, got.n_impressions) == (2, 4, 3, 50)


def test_who_comes_back_within_a_day_of_the_days_last_session() -> None:
    sessions = [
        a_session(0, 1, 1, 2),
        a_session(1, 1, 20, 21),  # the last of day 0; back 23 h later
        a_session(2, 1, 44, 45),  # of day 1; back after 25 h
        a_session(3, 1, 70, 71),  # of day 2, whose 24 h are not over
        a_session(4, 2, 5, 6),  # never back
    ]
    got = utility(small_run(a_meta(n_days=3), users=USERS, sessions=sessions))
    assert got.return_frac.value == pytest.approx(1 / 3)
    assert got.return_frac.n == 2
    assert got.median_gap_h == 23


def test_of_an_empty_run_nothing_is_said() -> None:
    got = utility(small_run())
    assert got.n_pages == 0
    assert math.isnan(got.measures["value"].page.value)
    assert math.isnan(got.return_frac.value)
    assert math.isnan(got.median_gap_h)
    assert utility_over_time(small_run()).is_empty()


def test_utility_over_time() -> None:
    pages = [a_page(0, 1, 0, 1, value=4.0), a_page(1, 1, 0, 2, value=2.0), a_page(2, 2, 1, 25, value=3.0)]
    frame = utility_over_time(small_run(users=USERS, pages=pages))
    assert frame["start_ms"].to_list() == [BEGAN_MS, BEGAN_MS + DAY_MS]
    assert frame["value"].to_list() == [3.0, 3.0]
    assert frame["value_per_viewer"].to_list() == [6.0, 3.0]


def test_before_the_end_people_are_those_who_came() -> None:
    totals = viewer_totals(small_run(pages=[a_page(0, 7, 0, 1, value=4.0), a_page(1, 7, 0, 2, value=1.0)]))
    assert totals.select("viewer", "value", "n_pages", "days_present").rows() == [(7, 5.0, 2.0, 2.0)]


def test_people_can_be_drawn_instead() -> None:
    run = a_run(RunPlan(n_users=40, n_days=2))
    drawn, exact = utility(run, bootstrap_seed=3), utility(run)
    assert drawn == utility(run, bootstrap_seed=3)
    assert drawn.measures["value"].page.value == exact.measures["value"].page.value
    assert drawn.measures["value"].page.low != exact.measures["value"].page.low
