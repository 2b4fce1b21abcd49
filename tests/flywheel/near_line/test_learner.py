"""The learner tells servers what it knows; it learns from a tilted world, and nothing from one that is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from millrace.base.actions import Action
from millrace.base.ids import IdKind
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import FeaturesLogged
from millrace.events.feed_events import Engagement, Impression
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.learner import NearLineLearner, SettledRows
from millrace.flywheel.near_line.pages import Page
from millrace.inference.near_line_layer import corrected
from millrace.inference.near_line_store import NearLineStore
from millrace.stores.fold import EventBatch
from millrace.testing.builders import a_user_erased, an_engagement, an_event, an_impression
from millrace.testing.live_traffic import ACTIONS, LiveTraffic, good, threefold

CONFIG = NearLineConfig(n_slots=4_096, calibration_rows=2_048, alpha=0.1, l1=0.1)
HEADS = [Action.LIKE, Action.DWELL, Action.CLICK]

Heard = list[tuple[int, AnyEvent]]


class Kept:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.settled: list[SettledRows] = []

    def hear_page(self, page: Page) -> None:
        self.pages.append(page)

    def hear_settled(self, rows: SettledRows) -> None:
        self.settled.append(rows)


def a_learner(traffic: LiveTraffic, *watchers: Kept, config: NearLineConfig = CONFIG) -> NearLineLearner:
    return NearLineLearner(config, traffic.hasher, ACTIONS, watchers=watchers)


def heard(learner: NearLineLearner, events: Heard) -> NearLineLearner:
    for time_ms, event in events:
        learner.hear(time_ms, event)
    return learner


def fold(store: NearLineStore, learner: NearLineLearner) -> None:
    events = [an_event(update, event_id=f"u{i}") for i, update in enumerate(learner.updates())]
    store.apply(EventBatch(events, np.arange(len(events)), np.zeros(len(events), np.int64)))


def liked_posts(posts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Tilt the truth: a fifth of the posts have become the talk of the town."""
    return np.where(posts % 5 == 0, 1.5, -0.5)


def traffic_of(
    seed: int, n_pages: int, tilt: Callable[..., npt.NDArray[np.float64]] | None
) -> tuple[LiveTraffic, Heard]:
    traffic = LiveTraffic(seed)
    return traffic, [event for _ in range(n_pages) for event in traffic.page(good, tilt=tilt)]


@pytest.fixture(scope="module")
def tilted() -> tuple[LiveTraffic, Heard]:
    return traffic_of(1, 300, liked_posts)


@pytest.mark.slow
def test_a_world_that_has_moved_on_opens_the_fast_layer(tilted: tuple[LiveTraffic, Heard]) -> None:
    layer = heard(a_learner(tilted[0]), tilted[1]).layers["m1"]
    assert layer.fast_gain.is_open[HEADS].all()
    assert (layer.fast_gain.lower_bound()[HEADS] > 0).all()


@pytest.mark.slow
def test_a_world_that_the_ranker_knows_opens_nothing() -> None:
    traffic, events = traffic_of(2, 250, None)
    layer = heard(a_learner(traffic), events).layers["m1"]
    assert not layer.fast_gain.is_open.any()
    assert not layer.calibration_gain.is_open.any()
    store = NearLineStore(len(ACTIONS))
    learner = heard(a_learner(traffic), events)
    fold(store, learner)
    assert store.layer("m1") is not None
    assert store.layer("m1").changes_nothing  # type: ignore[union-attr]


@pytest.mark.slow
def test_three_times_too_much_is_calibrated_within_some_hundred_rows() -> None:
    traffic = LiveTraffic(3)
    learner, store = a_learner(traffic), NearLineStore(len(ACTIONS))
    for number in range(200):
        heard(learner, list(traffic.page(threefold)))
        if number % 10 == 9:
            fold(store, learner)
    layer = store.layer("m1")
    assert layer is not None
    assert layer.is_calibrated[Action.LIKE]
    z, _ = traffic.rows(2_000)
    raw = threefold(z, traffic.rng).astype(np.float32)
    slots = np.zeros((len(raw), 6), dtype=np.int32)
    found = corrected(layer, raw, slots, fast_weight=0.0)[0][:, Action.LIKE].mean()
    assert raw[:, Action.LIKE].mean() > 0.25
    assert abs(found - 0.12) < 0.03


def test_servers_hold_what_the_learner_does_however_often_it_is_told(tilted: tuple[LiveTraffic, Heard]) -> None:
    learner, store = a_learner(tilted[0]), NearLineStore(len(ACTIONS))
    for start in range(0, len(tilted[1]), 500):
        heard(learner, tilted[1][start : start + 500])
        fold(store, learner)
    told, known = store.layer("m1"), learner.layers["m1"]
    assert told is not None
    is_open = told.fast_gates > 0
    assert (known.fast_gain.is_open == is_open).all()
    weights = known.arrays()["table.weights"]
    assert (told.weights[:, is_open] == weights[:, is_open]).all()
    assert (told.weights[:, ~is_open] == 0).all()
    assert learner.updates() == []


@pytest.mark.slow
def test_the_same_log_gives_the_same_however_it_is_cut_and_kept(tilted: tuple[LiveTraffic, Heard]) -> None:
    whole = heard(a_learner(tilted[0]), tilted[1]).arrays()
    first = heard(a_learner(tilted[0]), tilted[1][:2_000])
    first.advance(tilted[1][1_999][0])
    again = heard(a_learner(tilted[0]), tilted[1])
    again.updates()  # fits, and so changes the calibration alone
    assert {n: a.tobytes() for n, a in again.arrays().items() if "table" in n} == {
        n: a.tobytes() for n, a in whole.items() if "table" in n
    }
    kept = a_learner(tilted[0])
    kept.load(first.arrays())
    assert {n: a.tobytes() for n, a in kept.arrays().items()} == {n: a.tobytes() for n, a in first.arrays().items()}


def test_what_was_kept_under_other_sizes_is_refused(tilted: tuple[LiveTraffic, Heard]) -> None:
    kept = heard(a_learner(tilted[0]), tilted[1][:50]).arrays()
    with pytest.raises(ValueError, match="sizes"):
        a_learner(tilted[0], config=NearLineConfig(n_slots=64)).load(kept)


def one_page(seed: int = 5) -> tuple[LiveTraffic, tuple[int, AnyEvent], str, str]:
    """Return a page without its looks, its viewer and its first post."""
    traffic = LiveTraffic(seed)
    events = list(traffic.page(good))
    look = events[1][1].payload
    assert isinstance(look, Impression)
    return traffic, events[0], look.viewer_id, look.post_id


def test_a_late_action_counts_as_if_it_had_been_known_at_the_look() -> None:
    traffic, page, viewer, post = one_page()
    look = an_impression(viewer, post, dwell_ms=4_000, request_id="r0")
    like = an_engagement(viewer, post, "like", request_id="r0")
    late = heard(a_learner(traffic), [page, (page[0], look), (page[0] + 60_000, like)])
    early = heard(a_learner(traffic), [page, (page[0], like), (page[0], look)])
    late_z, early_z = (learner.layers["m1"].arrays()["table.z"][:, Action.LIKE] for learner in (late, early))
    assert (late_z < 0).any()
    np.testing.assert_allclose(
        late_z[late_z != 0], early_z[early_z != 0], rtol=0.2
    )  # the first step moved the weight a little


def test_an_action_that_is_taken_back_and_one_that_is_sent_twice() -> None:
    traffic, page, viewer, post = one_page()
    look = an_impression(viewer, post, dwell_ms=4_000, request_id="r0")
    like = an_engagement(viewer, post, "like", request_id="r0", event_id="a")
    again = an_engagement(viewer, post, "like", request_id="r0", event_id="b")
    undo = an_engagement(viewer, post, "like", request_id="r0", is_undo=True, event_id="c")
    watching = Kept()
    learner = heard(a_learner(traffic, watching), [page, *((page[0], e) for e in (look, like, again, undo))])
    learner.advance(page[0] + 60_000)
    (settled,) = watching.settled
    assert settled.labels[0, Action.LIKE] == 0
    learner = heard(a_learner(traffic, watching), [page, *((page[0], e) for e in (look, like, again))])
    learner.advance(page[0] + 60_000)
    assert watching.settled[-1].labels[0, Action.LIKE] == 1
    assert learner.layers["m1"].n_steps == 2  # the second of the two likes changes nothing


def test_looks_and_actions_that_come_before_their_page_wait_for_it() -> None:
    traffic, page, viewer, post = one_page()
    look = an_impression(viewer, post, dwell_ms=9_000, request_id="r0")
    like = an_engagement(viewer, post, "like", request_id="r0")
    watching = Kept()
    learner = heard(a_learner(traffic, watching), [(page[0], look), (page[0], like), page])
    learner.advance(page[0] + 60_000)
    (settled,) = watching.settled
    assert settled.labels[0, [Action.LIKE, Action.DWELL, Action.DWELL_TIME]].tolist() == [1, 1, 9]


def test_what_never_gets_a_page_is_let_go_and_no_page_looks_through_it_any_more() -> None:
    traffic, page, viewer, post = one_page()
    learner = a_learner(traffic)
    look = an_impression(viewer, post, dwell_ms=9_000, request_id="r0")
    # Its own clock is an hour slow: what counts is when it was heard.
    heard(learner, [(page[0], an_impression("nobody", post, request_id="x")), (page[0] - 3_600_000, look)])
    wait_ms = round(CONFIG.wait_s * 1000)
    learner.advance(page[0] + 3 * wait_ms)
    n_hashed = 0
    one = traffic.hasher.one

    def counting(kind: IdKind, text: str) -> int:
        nonlocal n_hashed
        n_hashed += 1
        return one(kind, text)

    traffic.hasher.one = counting  # type: ignore[method-assign]
    heard(learner, [page])
    assert learner.n_rows == 1
    n_with, n_hashed = n_hashed, 0
    learner.advance(page[0] + 5 * wait_ms + 60_000)
    pages = [event for event in traffic.page(good) if isinstance(event[1].payload, FeaturesLogged)]
    n_hashed = 0
    heard(learner, pages)
    assert n_hashed == 2  # the page's own viewer and request
    assert n_with > 2


def test_an_action_without_a_request_belongs_to_the_newest_page_that_has_the_post() -> None:
    traffic, page, viewer, post = one_page()
    watching = Kept()
    look = an_impression(viewer, post, dwell_ms=9_000)
    learner = heard(a_learner(traffic, watching), [page, (page[0], look)])
    learner.advance(page[0] + 60_000)
    assert len(watching.settled) == 1
    stranger = an_impression("somebody else", post, dwell_ms=9_000, request_id="r0")
    assert heard(a_learner(traffic), [page, (page[0], stranger)]).n_rows == 0


def test_a_page_that_comes_twice_or_is_none_of_a_ranker_is_not_learned_twice() -> None:
    traffic, page, _, _ = one_page()
    watching = Kept()
    heard(a_learner(traffic, watching), [page, page])
    assert len(watching.pages) == 1


def test_an_erased_viewer_is_not_learned_from() -> None:
    traffic, page, viewer, post = one_page()
    look = an_impression(viewer, post, dwell_ms=9_000, request_id="r0")
    learner = heard(a_learner(traffic), [page, (page[0], a_user_erased(viewer)), (page[0], look)])
    assert learner.n_rows == 0


def test_an_erased_viewers_rows_do_not_settle_and_what_came_before_its_page_is_not_learned() -> None:
    traffic, page, viewer, post = one_page()
    look = an_impression(viewer, post, dwell_ms=9_000, request_id="r0")
    erased = (page[0], a_user_erased(viewer))
    waits = Kept()
    learner = heard(a_learner(traffic, waits), [page, (page[0], look), erased])
    learner.advance(10**15)
    assert (learner.n_rows, waits.settled) == (1, [])
    early = heard(a_learner(traffic), [(page[0], look), erased, page])
    assert early.n_rows == 0


@pytest.mark.slow
def test_every_action_of_the_traffic_finds_its_row(tilted: tuple[LiveTraffic, Heard]) -> None:
    watching = Kept()
    learner = heard(a_learner(tilted[0], watching), tilted[1])
    learner.advance(10**15)
    wanted = sum(isinstance(event.payload, Engagement) for _, event in tilted[1])
    labels = np.concatenate([rows.labels for rows in watching.settled])
    assert int(labels[:, [Action.LIKE, Action.CLICK, Action.REPOST, Action.REPLY]].sum()) == wanted
    assert len(labels) == learner.n_rows == 3_000


@pytest.mark.slow
def test_where_learning_is_switched_off_servers_forget(tilted: tuple[LiveTraffic, Heard]) -> None:
    store = NearLineStore(len(ACTIONS))
    fold(store, heard(a_learner(tilted[0]), tilted[1]))
    assert not store.layer("m1").changes_nothing  # type: ignore[union-attr]
    off = heard(a_learner(tilted[0], config=NearLineConfig(is_on=False, n_slots=4_096)), tilted[1][:50])
    fold(store, off)
    assert store.layer("m1").changes_nothing  # type: ignore[union-attr]
    assert off.updates() == []
