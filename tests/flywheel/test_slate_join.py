"""The join: what belongs together, what was done, and how far the log may be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import IdHasher, IdKind
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Served, ServedItem
from millrace.flywheel.log_time import LogTime, _reached, reached_kernel
from millrace.flywheel.slate_join import HOUR_MS, SlateJoin
from millrace.flywheel.slates import Slates
from millrace.testing.builders import NOW_MS, a_post_created, a_served, an_engagement, an_event, an_impression

HASHER = IdHasher()
S = 1000


def post(text: str) -> int:
    return HASHER.one(IdKind.POST, text)


def joined(events: Sequence[AnyEvent], *, takes_all: bool = False, **span: int) -> Slates:
    join = SlateJoin(HASHER, ActionSpace(), takes_all=takes_all)
    for offset, event in enumerate(events):
        join.hear(offset, event.event_time_ms, event)
    return join.join(**span)


def rows_of(slates: Slates) -> list[list[int]]:
    return [slates.post_ids[a:b].tolist() for a, b in zip(slates.starts[:-1], slates.starts[1:], strict=True)]


def quiet(n: int, until_ms: int = NOW_MS) -> list[AnyEvent]:
    """Events that concern nobody, a second apart."""
    return [a_post_created(f"quiet-{i}", at_ms=until_ms - (n - i) * S) for i in range(n)]


def test_a_request_is_a_slate_and_rising_positions_without_one_are_too() -> None:
    slates = joined(
        [
            an_impression("a", "p1", request_id="r1", position=0),
            an_impression("a", "p2", request_id="r1", position=3),
            an_impression("b", "p1", position=0, at_ms=NOW_MS + 1 * S),
            an_impression("b", "p2", position=1, at_ms=NOW_MS + 5 * S),
            an_impression("b", "p3", position=0, at_ms=NOW_MS + 9 * S),
            an_impression("b", "p4", position=1, at_ms=NOW_MS + 2 * HOUR_MS),
        ]
    )
    expected = [["p1", "p2"], ["p1", "p2"], ["p3"], ["p4"]]
    assert sorted(rows_of(slates)) == sorted([post(p) for p in row] for row in expected)


def test_impressions_that_name_no_page_are_left_out_unless_asked_for() -> None:
    events = [an_impression("a", "p1"), an_impression("a", "p2", position=0)]
    assert (len(joined(events)), joined(events).n_unplaced) == (1, 1)
    assert (len(joined(events, takes_all=True).post_ids), joined(events, takes_all=True).n_unplaced) == (2, 0)


def test_actions_are_joined_by_request_or_to_the_latest_look_before_them() -> None:
    slates = joined(
        [
            an_impression("a", "p1", request_id="r1", position=0),
            an_impression("a", "p1", request_id="r2", position=0, at_ms=NOW_MS + 60 * S),
            an_engagement("a", "p1", "like", request_id="r1", at_ms=NOW_MS + 90 * S),
            an_engagement("a", "p1", "click", at_ms=NOW_MS + 95 * S),
            an_engagement("a", "p9", "click", at_ms=NOW_MS + 95 * S),
            an_engagement("b", "p1", "like", at_ms=NOW_MS + 95 * S),
        ]
    )
    assert slates.labels[:, [Action.LIKE, Action.CLICK]].tolist() == [[1, 0], [0, 1]]
    assert slates.n_unmatched == 2


def test_an_undo_takes_a_label_back_and_what_comes_after_the_window_is_none() -> None:
    slates = joined(
        [
            an_impression("a", "p1", position=0),
            an_impression("a", "p2", position=1, at_ms=NOW_MS + S),
            an_engagement("a", "p1", "like", at_ms=NOW_MS + S),
            an_engagement("a", "p2", "like", at_ms=NOW_MS + S),
            an_engagement("a", "p1", "like", is_undo=True, at_ms=NOW_MS + HOUR_MS),
            an_engagement("a", "p2", "like", is_undo=True, at_ms=NOW_MS + 25 * HOUR_MS),
            an_engagement("a", "p2", "bookmark", at_ms=NOW_MS + 25 * HOUR_MS),
        ]
    )
    assert slates.labels[:, [Action.LIKE, Action.BOOKMARK]].tolist() == [[0, 0], [1, 0]]


def test_the_dwell_family_follows_from_the_longest_look_of_a_slate() -> None:
    slates = joined(
        [
            an_impression("a", "p1", dwell_ms=1 * S, request_id="r"),
            an_impression("a", "p2", dwell_ms=1 * S, request_id="r"),
            an_impression("a", "p1", dwell_ms=8 * S, duration_ms=7 * S, request_id="r"),
        ]
    )
    family = [Action.DWELL, Action.NOT_DWELLED, Action.COMPLETE, Action.DWELL_TIME]
    assert slates.labels[:, family].tolist() == [[1, 0, 1, 8], [0, 1, 0, 1]]


def test_the_cut_lies_before_everything_that_is_about_the_slate_or_happened_after_it_began() -> None:
    look = an_impression("a", "p1", dwell_ms=10 * S, position=0, at_ms=NOW_MS + 10 * S)
    between = [a_post_created(f"b-{i}", at_ms=NOW_MS + i * S) for i in range(20)]
    # The like is told before the look ends: an impression is told when the post leaves the screen.
    like = an_engagement("a", "p1", "like", at_ms=NOW_MS + 4 * S)
    events = sorted([*quiet(40), *between, like, look], key=lambda event: event.event_time_ms)
    slates = joined(events)
    cut = int(slates.cuts[0])
    assert slates.labels[0, Action.LIKE] == 1
    assert [event.event_time_ms < NOW_MS for event in events].count(True) == 40
    assert cut == 40
    assert all(event.event_time_ms < NOW_MS for event in events[:cut])


def test_a_late_log_moves_the_cut_before_the_action_all_the_same() -> None:
    like = an_engagement("a", "p1", "like", at_ms=NOW_MS + 20 * S)
    events = [*quiet(20), like, *quiet(5), an_impression("a", "p1", position=0, at_ms=NOW_MS + 19 * S)]
    assert int(joined(events).cuts[0]) <= 20


def test_the_position_a_page_was_made_at_is_its_cut() -> None:
    events = [
        *quiet(30),
        a_served("a", ("p1",), request_id="r1", state_offset=(27,)),
        an_impression("a", "p1", request_id="r1", at_ms=NOW_MS + 60 * S),
    ]
    assert joined(events).cuts.tolist() == [27]
    assert joined(events).began_ms.tolist() == [NOW_MS]


def test_an_imported_page_without_a_position_is_cut_where_it_stands() -> None:
    events = [
        *quiet(30),
        a_served("a", ("p1",), request_id="r1", state_offset=()),
        an_impression("a", "p1", request_id="r1", dwell_ms=20 * S),
    ]
    assert joined(events).cuts.tolist() == [30]


def test_scores_that_a_page_was_sent_with_are_kept() -> None:
    item = ServedItem(post_id="p1", author_id="x", position=0, scores={"score": 0.25, "value": 3.0})
    page = Served(request_id="r1", viewer_id="a", pipeline="home", items=(item,))
    slates = joined([an_event(page), *(an_impression("a", p, request_id="r1") for p in ("p1", "p2"))])
    assert slates.served_scores[0] == 0.25
    assert np.isnan(slates.served_scores[1])


def test_only_slates_that_began_within_the_span_are_given() -> None:
    events = [an_impression("a", f"p{i}", position=0, dwell_ms=0, at_ms=NOW_MS + i * HOUR_MS) for i in range(4)]
    assert len(joined(events, from_ms=NOW_MS + HOUR_MS, until_ms=NOW_MS + 3 * HOUR_MS)) == 2


def test_two_looks_at_a_post_in_one_slate_are_one_row() -> None:
    slates = joined([an_impression("a", "p1", request_id="r"), an_impression("a", "p1", request_id="r")])
    assert rows_of(slates) == [[post("p1")]]


def test_a_log_of_nothing_has_no_slates() -> None:
    slates = joined([])
    assert len(slates) == 0
    assert slates.labels.shape == (0, len(ActionSpace()))


def test_a_few_events_from_the_far_future_do_not_drag_time_along() -> None:
    events = quiet(200)
    events[3] = replace(events[3], event_time_ms=NOW_MS + 10_000 * HOUR_MS)
    events.append(an_impression("a", "p1", position=0, dwell_ms=0))
    slates = joined(events)
    assert 180 <= int(slates.cuts[0]) <= 200


def test_the_kernel_and_its_plain_form_agree_on_what_was_reached() -> None:
    times = np.random.default_rng(2).integers(0, 1000, 300)
    expected = [int(np.sort(times[: i + 1])[-16]) if i >= 15 else 0 for i in range(300)]
    assert reached_kernel(times, 16).tolist() == expected
    assert _reached(times, 16).tolist() == expected


def test_in_a_log_in_order_the_cut_is_the_first_record_of_the_moment() -> None:
    log_time = LogTime()
    for i in range(100):
        log_time.add(500 + i, NOW_MS + i * S)
    moments = NOW_MS + np.array([-5, 0, 20, 77]) * S
    assert log_time.cuts(moments).tolist() == [500, 500, 520, 577]


def test_times_told_at_once_are_those_of_records_told_one_by_one() -> None:
    events = [*quiet(20), an_impression("a", "p1", position=0), an_impression("a", "p2", position=1), *quiet(5)]
    join = SlateJoin(HASHER, ActionSpace())
    join.hear_times(np.arange(len(events)), np.array([event.event_time_ms for event in events]))
    for offset in (20, 21):
        join.hear_untimed(offset, events[offset].event_time_ms, events[offset])
    slates, expected = join.join(), joined(events)
    assert slates.cuts.tolist() == expected.cuts.tolist()
    assert rows_of(slates) == rows_of(expected)
    assert (join.last_ms, slates.n_open) == (max(event.event_time_ms for event in events), expected.n_open)


def test_some_slates_are_taken_with_their_rows() -> None:
    slates = joined([an_impression(v, p, request_id=v, position=0) for v in "abc" for p in ("p1", f"of {v}")])
    some = slates.take(np.array([2, 0]))
    assert rows_of(some) == [rows_of(slates)[2], rows_of(slates)[0]]
    assert some.viewers.tolist() == slates.viewers[[2, 0]].tolist()
    assert np.array_equal(some.labels, slates.labels[[4, 5, 0, 1]])


def test_an_actions_last_word_is_the_last_in_time_not_in_the_log() -> None:
    like = an_engagement("a", "p1", "like", request_id="r", at_ms=NOW_MS + S)
    undo = an_engagement("a", "p1", "like", request_id="r", is_undo=True, at_ms=NOW_MS + 2 * S)
    look = an_impression("a", "p1", request_id="r")
    for events in ([look, like, undo], [undo, look, like], [undo, like, look, like]):
        assert joined(events).labels[0, Action.LIKE] == 0
    at_once = an_engagement("a", "p1", "like", request_id="r", is_undo=True, at_ms=NOW_MS + S)
    assert [joined([look, *two]).labels[0, Action.LIKE] for two in ([like, at_once], [at_once, like])] == [0, 0]


def test_of_looks_that_name_no_page_each_is_one_that_actions_may_belong_to() -> None:
    events = [
        an_impression("a", "p1", position=0, dwell_ms=0),
        an_impression("a", "p1", request_id="r", dwell_ms=0, at_ms=NOW_MS + 10 * S),
        an_impression("a", "p1", position=1, dwell_ms=0, at_ms=NOW_MS + 20 * S),
        an_engagement("a", "p1", "like", at_ms=NOW_MS + 15 * S),
        an_engagement("a", "p1", "reply", at_ms=NOW_MS + 25 * S),
    ]
    for order in (events, events[::-1]):
        slates = joined(order)
        by_request = dict(
            zip(slates.requests.tolist(), slates.labels[:, [Action.LIKE, Action.REPLY]].tolist(), strict=False)
        )
        assert by_request[HASHER.one(IdKind.REQUEST, "r")] == [1, 0]


def test_a_look_far_from_its_logged_page_is_of_no_page() -> None:
    join = SlateJoin(HASHER, ActionSpace())
    viewer, request = HASHER.one(IdKind.USER, "a"), HASHER.one(IdKind.REQUEST, "r")
    join.hear_logged(7, NOW_MS, viewer, request)
    join.hear_logged(9, NOW_MS + HOUR_MS, viewer, request)
    for offset, hours in enumerate((1, 23, 26)):
        at_ms = NOW_MS + hours * HOUR_MS
        join.hear(
            offset, at_ms, an_impression("a", "p1", request_id="r", position=hours, dwell_ms=hours * S, at_ms=at_ms)
        )
    slates = join.join()
    assert join.first_logged(viewer, request) == 7
    assert slates.requests.tolist() == [request, 0]
    assert slates.labels[:, Action.DWELL_TIME].tolist() == [23, 26]
    assert slates.positions.tolist() == [1, 26]
