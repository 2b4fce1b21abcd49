"""Views that compare: arms with the default, days with later days."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from millrace.events.envelope import AnyEvent, Event
from millrace.testing.builders import NOW_MS, a_served, an_engagement, an_impression
from millrace.testing.small_tables import DAY_MS, SmallTables


def a_page(request: str, viewer: str, *, pipeline: str = "home", weight: float | None = None) -> AnyEvent:
    """Return a page that was made with a param set by an experiment, or with all defaults."""
    page = a_served(viewer, (1,), request_id=request, pipeline=pipeline)
    if weight is None:
        return page
    payload = structs.replace(page.payload, params={"weight": weight}, param_levels={"weight": "experiment"})
    return Event(event_id=f"e-{request}", event_time_ms=NOW_MS, source="server", payload=payload)


def test_an_arm_stands_beside_the_pages_of_its_pipeline_that_kept_the_default(tmp_path: Path) -> None:
    small = SmallTables(tmp_path)
    small.put(
        a_page("r1", "ann", weight=2.0),
        a_page("r2", "bob"),
        a_page("r3", "bob"),
        a_page("r4", "cat", pipeline="following"),
        an_impression("ann", 1, request_id="r1", dwell_ms=0),
        an_engagement("ann", 1, "like", request_id="r1"),
        an_impression("bob", 1, request_id="r2", dwell_ms=0),
    )
    small.tables.build()
    assert small.rows(
        "SELECT param, value, level, n_requests, n_viewers, n_seen, likes_per_look FROM reaction_by_arm ORDER BY level"
    ) == [("weight", None, "default", 2, 1, 1, 0.0), ("weight", 2.0, "experiment", 1, 1, 1, 1.0)]


def test_days_on_which_nobody_came_back_count_and_days_that_are_not_over_do_not(tmp_path: Path) -> None:
    small = SmallTables(tmp_path)
    at_ms = {day: NOW_MS - (4 - day) * DAY_MS for day in range(5)}
    small.put(
        an_impression("ann", 1, dwell_ms=0, at_ms=at_ms[0]),
        an_impression("bob", 1, dwell_ms=0, at_ms=at_ms[0]),
        an_impression("bob", 1, dwell_ms=0, at_ms=at_ms[2]),
        an_impression("bob", 1, dwell_ms=0, at_ms=at_ms[4]),
    )
    small.tables.build()
    found = small.rows("SELECT day(dt), n_users, days_later, n_returned, returned_frac FROM retention")
    assert found == [(11, 2, 1, 0, 0.0), (11, 2, 2, 1, 0.5), (11, 2, 3, 0, 0.0), (13, 1, 1, 0, 0.0)]
