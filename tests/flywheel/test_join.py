"""The streaming join: when rows go out, what corrects them, what is kept, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import ConfigError, StoreError
from millrace.events.envelope import AnyEvent
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_compiled import CompiledJoin
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_reference import ReferenceJoin
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.join_rules import BUCKET_ENDS_MS, delay_bucket
from millrace.testing.builders import (
    NOW_MS,
    a_clock_tick,
    a_features_logged,
    a_post_created,
    an_engagement,
    an_impression,
)
from millrace.testing.join_builders import HASHER

M = 60_000
HOUR_MS = 60 * M

Make = Callable[..., StreamJoin]


@pytest.fixture(params=[CompiledJoin, ReferenceJoin])
def make(request: pytest.FixtureRequest) -> Make:
    def make_one(**settings: Any) -> StreamJoin:
        config = JoinConfig(**{"n_witnesses": 1, **settings})
        return StreamJoin(HASHER, ActionSpace(), config=config, form=request.param)

    return make_one


class Log:
    """Tells a join one event after the other."""

    def __init__(self, join: StreamJoin) -> None:
        self.join = join
        self.offset = 0

    def tell(self, *events: AnyEvent) -> JoinedRows:
        for event in events:
            self.join.hear(self.offset, event.event_time_ms, event)
            self.offset += 1
        return self.join.let_out()


def page(*posts: str, request: str = "r", at_ms: int = NOW_MS) -> AnyEvent:
    return a_features_logged("a", posts, request_id=request, at_ms=at_ms)


def look(post: str, at_ms: int, request: str | None = "r", **fields: Any) -> AnyEvent:
    return an_impression("a", post, request_id=request, at_ms=at_ms, **{"dwell_ms": 0, **fields})


def deed(post: str, at_ms: int, action: str = "like", request: str | None = "r", *, is_undo: bool = False) -> AnyEvent:
    return an_engagement("a", post, action, request_id=request, at_ms=at_ms, is_undo=is_undo)


def tick(at_ms: int) -> AnyEvent:
    return a_clock_tick(at_ms)


def likes(rows: JoinedRows) -> list[tuple[int, float]]:
    return list(zip(rows.revisions.tolist(), rows.labels[:, Action.LIKE].tolist(), strict=True))


def test_a_row_goes_out_when_the_watermark_passes_its_windows_end(make: Make) -> None:
    log = Log(make())
    assert len(log.tell(page("p", "q"), look("q", NOW_MS + M, position=1), deed("q", NOW_MS + 2 * M))) == 0
    assert len(log.tell(tick(NOW_MS + 51 * M))) == 0  # a minute, a window of 20, 30 for disorder: not past it
    rows = log.tell(tick(NOW_MS + 51 * M + 1_000))
    assert likes(rows) == [(0, 1.0)]
    assert (rows.page_rows[0], rows.page_offsets[0], rows.positions[0]) == (1, 0, 1)
    assert (rows.page_ms[0], rows.looked_ms[0], rows.rates[0]) == (NOW_MS, NOW_MS + M, 1.0)


def test_late_labels_late_undos_and_longer_looks_are_corrections_until_the_long_window_ends(make: Make) -> None:
    log = Log(make())
    log.tell(page("p"), look("p", NOW_MS))
    assert likes(log.tell(tick(NOW_MS + 2 * HOUR_MS))) == [(0, 0.0)]
    assert likes(log.tell(deed("p", NOW_MS + HOUR_MS))) == [(1, 1.0)]
    assert len(log.tell(deed("p", NOW_MS + HOUR_MS))) == 0  # told twice
    assert likes(log.tell(deed("p", NOW_MS + 2 * HOUR_MS, is_undo=True))) == [(2, 0.0)]
    rows = log.tell(look("p", NOW_MS + 2 * HOUR_MS, dwell_ms=8_000))
    assert rows.labels[:, [Action.DWELL, Action.NOT_DWELLED, Action.DWELL_TIME]].tolist() == [[1, 0, 8]]
    assert len(log.tell(deed("p", NOW_MS + 25 * HOUR_MS, "reply"))) == 0


def test_a_page_may_come_after_its_looks_and_after_their_windows(make: Make) -> None:
    log = Log(make())
    assert len(log.tell(look("p", NOW_MS + M), deed("p", NOW_MS + M), tick(NOW_MS + HOUR_MS))) == 0
    assert likes(log.tell(page("p"))) == [(0, 1.0)]
    assert log.join.stats().joined_looks_frac == 1.0


def test_nobody_elses_page_is_joined(make: Make) -> None:
    log = Log(make())
    other = a_features_logged("b", ("p",), request_id="r")
    assert len(log.tell(other, look("p", NOW_MS + M), tick(NOW_MS + 2 * HOUR_MS))) == 0
    stats = log.join.stats()
    assert (stats.n_looks_of_pages, stats.n_looks_joined, stats.joined_looks_frac) == (1, 0, 0.0)


def test_of_a_page_that_was_logged_twice_the_first_counts(make: Make) -> None:
    log = Log(make())
    rows = log.tell(page("p"), page("q", "p"), look("p", NOW_MS), look("q", NOW_MS), tick(NOW_MS + HOUR_MS))
    assert (rows.page_offsets.tolist(), rows.page_rows.tolist()) == ([0], [0])


def test_an_action_without_a_request_belongs_to_the_latest_look_that_began_before_it(make: Make) -> None:
    log = Log(make())
    log.tell(page("p", request="r"), page("p", request="s", at_ms=NOW_MS + M))
    log.tell(look("p", NOW_MS, "r"), look("p", NOW_MS + 2 * M, "s"), deed("p", NOW_MS + M, request=None))
    assert likes(log.tell(tick(NOW_MS + HOUR_MS))) == [(0, 1.0), (0, 0.0)]
    # A look of which one hears later, and that names no page at all, began between them: the label moves there.
    assert likes(log.tell(look("p", NOW_MS + M // 2, None))) == [(1, 0.0)]


@pytest.mark.parametrize("events", [(), (page("p", at_ms=NOW_MS + 5 * HOUR_MS),)])
def test_an_idle_stream_holds_the_watermark_until_anything_else_is_heard_of(
    make: Make, events: Sequence[AnyEvent]
) -> None:
    log = Log(make())
    log.tell(page("p"), look("p", NOW_MS))
    assert len(log.tell(*events)) == 0
    assert len(log.tell(a_post_created("x", at_ms=NOW_MS + HOUR_MS))) == 1


def test_a_few_client_events_from_the_future_do_not_drag_time_along(make: Make) -> None:
    log = Log(make(n_witnesses=3))
    log.tell(page("p"), *(look("p", NOW_MS + i) for i in range(3)))
    log.tell(*(tick(NOW_MS + 1_000 * HOUR_MS + i) for i in range(2)))
    assert log.join.stats().watermark_ms < NOW_MS
    assert len(log.tell(tick(NOW_MS + HOUR_MS))) == 1


def test_windows_of_single_actions_hold_all_rows_and_dynamic_ones_follow_the_delays(make: Make) -> None:
    log = Log(make(action_windows_ms={"follow_author": 3 * HOUR_MS}))
    assert log.join.stats().window_ms == 3 * HOUR_MS
    log = Log(make(windows="dynamic", min_delays=10, delay_quantile=0.9))
    posts = [str(i) for i in range(10)]
    log.tell(page(*posts), *(look(post, NOW_MS) for post in posts))
    log.tell(*(deed(post, NOW_MS + 4 * M) for post in posts), tick(NOW_MS + 5 * M))
    stats = log.join.stats()
    assert stats.window_ms == BUCKET_ENDS_MS[delay_bucket(4 * M)]
    assert stats.delays_ms == {"like": (stats.window_ms,) * 3}


def test_sums_over_sampled_rows_are_unbiased_and_positives_are_all_there(make: Make) -> None:
    posts = [str(i) for i in range(2_000)]
    log = Log(make(negative_rate=0.25))
    early = [deed(post, NOW_MS + M) for post in posts[:100]]
    rows = log.tell(page(*posts), *(look(post, NOW_MS) for post in posts), *early, tick(NOW_MS + HOUR_MS))
    late = log.tell(*(deed(post, NOW_MS + 2 * M) for post in posts[100:200]))
    undone = log.tell(*(deed(post, NOW_MS + 3 * M, is_undo=True) for post in posts[150:200]))
    newest: dict[int, tuple[float, float]] = {}
    for found in (rows, late, undone):
        newest.update(
            zip(
                found.posts.tolist(),
                zip(found.labels[:, Action.LIKE].tolist(), found.rates.tolist(), strict=True),
                strict=True,
            )
        )
    assert sum(like for like, _ in newest.values()) == 150
    assert all(rate == 1.0 for like, rate in newest.values() if like)
    n_negatives = sum(1 / rate for like, rate in newest.values() if not like)
    assert abs(n_negatives - 1_850) < 4 * (1_800 * 3) ** 0.5
    # The late ones that had not been kept go out for the first time, the others as corrections; undone ones stay.
    kept_before = set(rows.posts.tolist())
    assert [revision > 0 for revision in late.revisions.tolist()] == [
        post in kept_before for post in late.posts.tolist()
    ]
    assert undone.rates.tolist() == [1.0] * 50


def test_beyond_the_bounds_the_oldest_go_out_as_they_are_and_never_again(make: Make) -> None:
    log = Log(make(max_looks=2))
    rows = log.tell(page("p", "q", "s"), *(look(post, NOW_MS) for post in "pqs"), look("p", NOW_MS, dwell_ms=9_000))
    assert (rows.posts.tolist(), rows.revisions.tolist()) == (HASHER.posts("p").tolist(), [0])
    assert len(log.tell(tick(NOW_MS + HOUR_MS))) == 2
    stats = log.join.stats()
    assert (stats.n_dropped_for_bounds, stats.n_open_looks, stats.n_rows_out) == (2, 2, 3)


def test_an_action_that_was_dropped_for_room_takes_no_label_back(make: Make) -> None:
    log = Log(make(max_deeds=1))
    rows = log.tell(page("p"), look("p", NOW_MS), deed("p", NOW_MS), deed("q", NOW_MS), tick(NOW_MS + HOUR_MS))
    assert likes(rows) == [(0, 1.0)]
    assert len(log.tell(deed("p", NOW_MS + M, "reply"))) == 0


def test_what_is_older_than_is_remembered_is_forgotten_and_refused(make: Make) -> None:
    log = Log(make())
    log.tell(page("p"), look("p", NOW_MS), deed("p", NOW_MS), tick(NOW_MS + 49 * HOUR_MS))
    stats = log.join.stats()
    assert (stats.n_open_pages, stats.n_open_looks, stats.n_open_deeds, stats.n_waiting) == (0, 0, 0, 0)
    assert len(log.tell(page("p"), look("p", NOW_MS), deed("p", NOW_MS + M))) == 0
    assert log.join.stats().n_dropped_for_age == 3


def test_counts_tell_how_well_it_joins(make: Make) -> None:
    log = Log(make())
    log.tell(page("p"), look("p", NOW_MS), look("p", NOW_MS), look("q", NOW_MS, "other"), tick(NOW_MS + HOUR_MS))
    log.tell(deed("p", NOW_MS + M), deed("z", NOW_MS + M))
    stats = log.join.stats()
    assert (stats.n_pages, stats.n_looks, stats.n_look_duplicates, stats.n_deeds, stats.n_others) == (1, 2, 1, 2, 1)
    assert (stats.joined_looks_frac, stats.joined_deeds_frac, stats.late_frac) == (0.5, 0.5, 1.0)
    assert stats.lag_ms == 30 * M
    assert stats.state_bytes > 0
    empty = make().stats()
    assert (empty.joined_looks_frac, empty.joined_deeds_frac, empty.late_frac, empty.lag_ms) == (1.0, 1.0, 0.0, 0)


def test_rows_not_yet_handed_over_are_part_of_a_checkpoint(make: Make) -> None:
    join, fresh = make(), make()
    for offset, event in enumerate([page("p"), look("p", NOW_MS), tick(NOW_MS + HOUR_MS)]):
        join.hear(offset, event.event_time_ms, event)
    fresh.restore(join.state())
    assert np.array_equal(fresh.let_out().posts, join.let_out().posts)


def test_a_checkpoint_of_other_settings_is_refused(make: Make) -> None:
    with pytest.raises(StoreError, match="other actions or settings"):
        make(n_witnesses=2).restore(make().state())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"action_windows_ms": {"wink": HOUR_MS}}, "no such actions"),
        ({"window_ms": 2 * HOUR_MS, "late_ms": HOUR_MS}, "shorter than the longest window"),
        ({"min_window_ms": HOUR_MS, "max_window_ms": M}, "longer than max_window_ms"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(make: Make, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make(**settings)


def test_a_damaged_page_is_one_without_posts(make: Make) -> None:
    log = Log(make())
    whole = page("p")
    damaged = replace(whole, payload=replace(whole.payload, arrays=b"x"))
    assert len(log.tell(damaged, look("p", NOW_MS), tick(NOW_MS + HOUR_MS))) == 0
    assert log.join.stats().n_pages == 1
