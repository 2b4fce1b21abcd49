"""What becomes of pages, looks and actions in ``interactions`` and ``user_post_day``: small exact cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.actions import ActionSpace
from millrace.base.ids import IdKind, hash_id
from millrace.events.feature_events import POSTS, FeaturesLogged
from millrace.events.packed import unpack_arrays
from millrace.testing.builders import NOW_MS, a_served, an_engagement, an_impression
from millrace.testing.join_house import JoinHouse
from millrace.testing.join_traffic import ACTIONS, Traffic, traffic
from millrace.testing.small_tables import DAY_MS, HOUR_MS, SmallTables

HOUR = NOW_MS // HOUR_MS


@pytest.fixture
def small(tmp_path: Path) -> SmallTables:
    return SmallTables(tmp_path)


def test_a_page_a_look_and_actions_meet_in_one_row_in_the_hour_of_the_page(small: SmallTables) -> None:
    small.put(
        a_served("ann", (1, 2), author_id="bob", request_id="r1", at_ms=NOW_MS - 2 * HOUR_MS),
        an_impression("ann", 1, request_id="r1", dwell_ms=7_000, at_ms=NOW_MS - HOUR_MS),
        an_engagement("ann", 1, "like", request_id="r1", at_ms=NOW_MS - HOUR_MS + 1),
        an_engagement("ann", 1, "share_dm", at_ms=NOW_MS - HOUR_MS + 2),
    )
    small.tables.build()
    found = small.rows(
        "SELECT post_id, author_id, position, is_served, is_seen, watch_s, is_valid_view, likes, shares, actions, hour "
        "FROM interactions ORDER BY post_id"
    )
    hour = (HOUR - 2) % 24
    assert found == [
        ("1", "bob", 0, True, True, 7.0, True, 1, 1, ["like", "share_dm"], hour),
        ("2", "bob", 1, True, False, 0.0, False, 0, 0, [], hour),
    ]


def test_the_longest_look_of_a_request_counts_and_no_more_than_the_longest_there_is(small: SmallTables) -> None:
    small.put(
        a_served("ann", (1,), request_id="r1"),
        an_impression("ann", 1, request_id="r1", dwell_ms=1_000),
        an_impression("ann", 1, request_id="r1", dwell_ms=2_000, duration_ms=1_500),
        a_served("ann", (1,), request_id="r2"),
        an_impression("ann", 1, request_id="r2", dwell_ms=3_600_000),
    )
    small.tables.build()
    assert small.rows(
        "SELECT request_id, n_looks, watch_s, is_short_view, is_valid_view, is_complete FROM interactions ORDER BY 1"
    ) == [("r1", 2, 2.0, True, False, True), ("r2", 1, 600.0, False, True, False)]
    assert small.rows("SELECT n_looks, watch_s, is_valid_view, is_complete FROM user_post_day") == [
        (3, 602.0, True, True)
    ]


def test_the_last_word_of_an_action_counts(small: SmallTables) -> None:
    small.put(
        an_impression("ann", 1, request_id="r1"),
        an_engagement("ann", 1, "like", request_id="r1"),
        an_engagement("ann", 1, "like", request_id="r1", is_undo=True),
        an_engagement("ann", 1, "repost", request_id="r1", is_undo=True, at_ms=NOW_MS - 1),
        an_engagement("ann", 1, "repost", request_id="r1"),
    )
    small.tables.build()
    assert small.rows("SELECT likes, reposts, actions FROM interactions") == [(0, 1, ["repost"])]
    assert small.rows("SELECT likes, reposts, n_undone FROM user_post_day") == [(0, 1, 1)]


def test_the_last_word_is_the_last_by_time_whatever_the_logs_order_and_taking_back_at_one_moment(
    small: SmallTables,
) -> None:
    small.put(
        an_impression("ann", 1, request_id="r1", dwell_ms=0, at_ms=NOW_MS - 9),
        an_engagement("ann", 1, "like", request_id="r1", is_undo=True, at_ms=NOW_MS - 1),
        an_engagement("ann", 1, "like", request_id="r1", at_ms=NOW_MS - 2),
        an_engagement("ann", 1, "repost", request_id="r1", is_undo=True, at_ms=NOW_MS - 1),
        an_engagement("ann", 1, "repost", request_id="r1", at_ms=NOW_MS - 1),
    )
    small.tables.build()
    assert small.rows("SELECT likes, reposts, actions FROM interactions") == [(0, 0, [])]
    assert small.rows("SELECT likes, reposts, n_undone FROM user_post_day") == [(0, 0, 2)]


@pytest.mark.slow
def test_looks_and_actions_are_those_of_the_join(small: SmallTables, tmp_path: Path) -> None:
    events = traffic(Traffic())
    house = JoinHouse(tmp_path)
    house.put(events)
    truth = house.truth()
    house.close()
    small.clock.advance_ms(1_000 * HOUR_MS)  # each event counts at its own time
    post_by_id = {hash_id(IdKind.POST, str(post)): str(post) for post in range(Traffic().n_posts)}
    for event in events:
        if isinstance(page := event.payload, FeaturesLogged):
            posts = [post_by_id[post] for post in unpack_arrays(page.arrays)[POSTS].tolist()]
            small.put(a_served(page.viewer_id, posts, request_id=page.request_id, at_ms=event.event_time_ms))
    small.put(*events)
    small.tables.build()
    found = {
        (hash_id(IdKind.USER, viewer), hash_id(IdKind.REQUEST, request), hash_id(IdKind.POST, post)): set(actions)
        for viewer, request, post, actions in small.rows(
            "SELECT viewer_id, request_id, post_id, actions FROM interactions WHERE is_served AND is_seen"
        )
    }
    names = ActionSpace().names
    wanted = {
        key: {name for name, label in zip(names, labels, strict=True) if label and name in ACTIONS}
        for key, (_, labels) in truth.items()
    }
    assert len(wanted) > 300
    assert found == wanted


@pytest.mark.slow
def test_an_action_without_a_request_belongs_to_the_latest_look_before_it(small: SmallTables) -> None:
    small.put(
        an_impression("ann", 1, request_id="r1", dwell_ms=0, at_ms=NOW_MS - 5 * HOUR_MS),
        an_impression("ann", 1, request_id="r2", dwell_ms=0, at_ms=NOW_MS - 3 * HOUR_MS),
        an_engagement("ann", 1, "like", at_ms=NOW_MS - 4 * HOUR_MS),
        an_engagement("ann", 1, "reply", at_ms=NOW_MS - HOUR_MS),
        an_engagement("ann", 1, "quote", at_ms=NOW_MS - 6 * HOUR_MS),
    )
    small.tables.build()
    assert small.rows("SELECT request_id, is_seen, actions FROM interactions ORDER BY time_ms") == [
        (None, False, ["quote"]),
        ("r1", True, ["like"]),
        ("r2", True, ["reply"]),
    ]


@pytest.mark.slow
def test_whose_request_it_was_is_not_for_clients_to_say(small: SmallTables) -> None:
    small.put(a_served("ann", (1,), request_id="r1"), an_impression("eve", 1, request_id="r1"))
    small.tables.build()
    assert small.rows("SELECT viewer_id, is_served, is_seen FROM interactions ORDER BY 1") == [
        ("ann", True, False),
        ("eve", False, True),
    ]


@pytest.mark.slow
def test_a_look_long_after_its_page_and_an_act_long_after_its_look_stand_alone(small: SmallTables) -> None:
    small.put(
        a_served("ann", (1,), request_id="r1", at_ms=NOW_MS - 60 * HOUR_MS),
        an_impression("ann", 1, request_id="r1", dwell_ms=0, at_ms=NOW_MS - 35 * HOUR_MS),
        an_engagement("ann", 1, "like", request_id="r1", at_ms=NOW_MS),
        a_served("bob", (1,), request_id="r2", at_ms=NOW_MS - 24 * HOUR_MS),
        an_impression("bob", 1, request_id="r2", dwell_ms=0, at_ms=NOW_MS),
    )
    small.tables.build()
    assert small.rows("SELECT viewer_id, is_served, is_seen, likes FROM interactions ORDER BY 1, time_ms") == [
        ("ann", True, False, 0),
        ("ann", False, True, 0),
        ("ann", False, False, 1),
        ("bob", True, True, 0),
    ]


@pytest.mark.slow
def test_user_post_day_has_a_row_for_each_day(small: SmallTables) -> None:
    small.put(
        an_impression("ann", 1, at_ms=NOW_MS - DAY_MS, dwell_ms=1_000),
        an_impression("ann", 1, at_ms=NOW_MS, dwell_ms=9_000),
    )
    small.tables.build()
    assert small.rows("SELECT dt::VARCHAR, watch_s, is_short_view, is_valid_view FROM user_post_day ORDER BY 1") == [
        ("2027-01-14", 1.0, True, False),
        ("2027-01-15", 9.0, False, True),
    ]
