"""Views over a warehouse with a few events: what an operator would read off them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from millrace.events.envelope import AnyEvent
from millrace.testing.builders import a_served, an_impression
from millrace.testing.small_tables import SmallTables

PARAM = "network.out_of_network_factor"


def a_page(viewer: str, request: str, value: float | None, level: str = "experiment") -> AnyEvent:
    """Return a page of two posts, made with a value of a param; None: with its default, of which nothing is said."""
    served = a_served(viewer, (1, 2), request_id=request, event_id=request)
    if value is None:
        return served
    payload = msgspec.structs.replace(served.payload, params={PARAM: value}, param_levels={PARAM: level})
    return msgspec.structs.replace(served, payload=payload)


def test_two_arms_that_differ_in_a_param_are_told_apart_by_pages_and_reactions(tmp_path: Path) -> None:
    small = SmallTables(tmp_path)
    small.put(
        a_page("ann", "r1", 0.5),
        a_page("ann", "r2", 0.5),
        a_page("bob", "r3", 0.9),
        a_page("eve", "r4", 0.9),
        a_page("dan", "r5", None),  # of no arm
        a_page("ida", "r6", 0.5, "config"),  # the same value, by the operator: no arm of the experiment
        an_impression("ann", 1, request_id="r1", dwell_ms=2_000),
        an_impression("ann", 2, request_id="r1", dwell_ms=4_000),
        an_impression("bob", 1, request_id="r3", dwell_ms=9_000),
        an_impression("dan", 1, request_id="r5", dwell_ms=8_000),
        an_impression("eve", 1, request_id="r3", dwell_ms=8_000),  # of somebody else's request
    )
    small.tables.build()
    found = small.rows(
        "SELECT param, value, level, n_requests, n_viewers, n_seen, watch_s_mean FROM reaction_by_arm "
        "WHERE level = 'experiment'"
    )
    assert found == [(PARAM, 0.5, "experiment", 2, 1, 2, 3.0), (PARAM, 0.9, "experiment", 2, 2, 1, 9.0)]
    assert small.rows("SELECT value, level, n_requests FROM reaction_by_arm WHERE level <> 'experiment'") == [
        (0.5, "config", 1),
        (None, "default", 1),  # dan's: what it is held against
    ]
