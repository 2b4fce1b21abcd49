from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.base.surfaces import Surface
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry
from millrace.stores.codes import CodeTables
from millrace.stores.engagement_config import HOUR_MS, DwellThresholds, EngagementConfig
from millrace.stores.engagements import EngagementStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_counts_observed,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_user_erased,
    an_engagement,
    an_impression,
)
from millrace.testing.engagement_model import EngagementModel

SMALL = EngagementConfig(max_history=5, max_engagers=3, max_engaged=3, retention_ms=6 * HOUR_MS, max_popular=64)
POST_IDS = np.array([hash_id(IdKind.POST, text) for text in events_st.POSTS], dtype=np.int64)
USER_IDS = np.array([hash_id(IdKind.USER, text) for text in events_st.USERS], dtype=np.int64)
LATER_MS = NOW_MS + events_st.SPAN_MS
IMPRESSION = len(Action)

STORE_HASHER = IdHasher()


class Live:
    """A store with its code tables, as the applier drives them."""

    def __init__(self, config: EngagementConfig = SMALL, actions: ActionSpace | None = None) -> None:
        self.codes = CodeTables()
        self.store = EngagementStore(config, STORE_HASHER, self.codes, actions)

    def apply(self, events: Sequence[AnyEvent], ends: Sequence[int] | None = None) -> "Live":
        for batch in events_st.batches(events, ends or [len(events)]):
            self.codes.apply(batch)
            self.store.apply(batch)
        return self

    def forget(self, watermark_ms: int) -> None:
        for _ in range(122):  # two full sweeps and a bit
            self.store.tick(watermark_ms)


def user(text: object) -> int:
    return hash_id(IdKind.USER, str(text))


def post(text: object) -> int:
    return hash_id(IdKind.POST, str(text))


def counts_of(live: Live, post_id: object, now_ms: int = NOW_MS) -> np.ndarray:
    """The undecayed counters of one post."""
    return live.store.counters.post_counts(np.array([post(post_id)]), now_ms)[0, 1]


def non_zero(counts: np.ndarray) -> dict[str, float]:
    names = [*ActionSpace().names, "impression"]
    return {names[column]: round(float(counts[column]), 4) for column in np.flatnonzero(counts)}


sequences = events_st.event_sequences(EngagementStore.handles, max_size=80)


def assert_agrees(live: Live, model: EngagementModel, now_ms: int) -> None:
    store, config = live.store, model.config
    posts = [model.posts.get(int(post_id)) for post_id in POST_IDS]
    want = [model.decayed(p.counts if p else {}, config.post_half_lives_ms, now_ms) for p in posts]
    np.testing.assert_allclose(store.counters.post_counts(POST_IDS, now_ms), want, rtol=1e-5, atol=1e-4)
    want = [model.decayed(model.author_counts.get(int(u), {}), config.author_half_lives_ms, now_ms) for u in USER_IDS]
    np.testing.assert_allclose(store.counters.author_counts(USER_IDS, now_ms), want, rtol=1e-5, atol=1e-4)
    topics = np.array([live.codes.topics.code(name) for name in events_st.TOPICS], dtype=np.int32)
    want = [
        model.decayed(model.topic_counts.get(name, {}), config.topic_half_lives_ms, now_ms) for name in events_st.TOPICS
    ]
    np.testing.assert_allclose(store.counters.topic_counts(topics, now_ms), want, rtol=1e-5, atol=1e-4)
    observed = store.counters.observed_counts(POST_IDS)
    for row, p in enumerate(posts):
        assert {c: n for c, n in enumerate(observed[row].tolist()) if n} == {
            c: n for c, n in (p.observed if p else {}).items() if n
        }
        engagers = store.index.engagers(int(POST_IDS[row]))
        assert list(zip(*(part.tolist() for part in engagers), strict=True)) == (p.engagers if p else [])
    hot, heat = store.counters.popular(now_ms, 64)
    assert (np.diff(heat) <= 1e-6).all()
    kept = {int(p): float(h) for p, h in zip(hot, heat, strict=True) if h > 1e-5}
    assert kept == pytest.approx({p: h for p, h in model.popular(now_ms).items() if h > 1e-5}, rel=1e-3)
    for viewer in USER_IDS.tolist():
        history = store.histories.history(viewer)
        got = zip(
            history.post_ids.tolist(),
            history.author_ids.tolist(),
            history.actions.tolist(),
            history.times_ms.tolist(),
            history.dwell_ms.tolist(),
            history.surfaces.tolist(),
            strict=True,
        )
        assert list(got) == model.histories.get(viewer, [])
        engaged = store.index.engaged(viewer)
        assert list(zip(*(part.tolist() for part in engaged), strict=True)) == model.engaged.get(viewer, [])
        affinity = store.histories.author_affinity(viewer, USER_IDS, now_ms)
        want = [model.affinity(viewer, author, now_ms) for author in USER_IDS.tolist()]
        np.testing.assert_allclose(affinity, want, rtol=1e-4, atol=1e-6)
    lengths = {viewer: len(entries) for viewer, entries in model.histories.items()}
    longest = sorted(lengths, key=lambda viewer: (-lengths[viewer], viewer))
    known = store.histories.most_active(10).tolist()
    assert [v for v in known if lengths.get(v)] == [v for v in longest if lengths[v]]
    for max_per_seed in (1, 10):
        found = store.index.second_degree(
            USER_IDS, since_ms=NOW_MS + HOUR_MS, max_per_seed=max_per_seed, exclude_user=user("u1"), max_posts=50
        )
        want_rows = model.second_degree(
            USER_IDS.tolist(), since_ms=NOW_MS + HOUR_MS, max_per_seed=max_per_seed, exclude_user=user("u1")
        )
        assert found.post_ids.tolist() == [row[0] for row in want_rows]
        assert found.n_proofs.tolist() == [row[1] for row in want_rows]
        assert found.proof_user_ids.tolist() == [[*row[2], 0, 0, 0][:3] for row in want_rows]


@settings(max_examples=80, deadline=None)
@given(first=sequences, second=sequences, hours=st.integers(0, 20))
def test_agrees_with_the_naive_model(first: list[AnyEvent], second: list[AnyEvent], hours: int) -> None:
    live, model = Live(), EngagementModel(SMALL)
    live.apply(first)
    for event in first:
        model.apply(event)
    assert_agrees(live, model, LATER_MS)
    watermark_ms = NOW_MS + hours * HOUR_MS
    live.forget(watermark_ms)
    model.expire(watermark_ms)
    assert live.store.counters.n_posts == len(model.posts)
    live.apply(second)
    for event in second:
        model.apply(event)
    assert_agrees(live, model, LATER_MS)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), events=sequences, hours=st.integers(0, 20))
def test_batches_leave_no_trace_in_the_arrays(data: st.DataObject, events: list[AnyEvent], hours: int) -> None:
    whole, pieces = Live(), Live()
    split = data.draw(st.integers(0, len(events)))
    for live in (whole, pieces):
        ends = data.draw(events_st.cuts(split)) if live is pieces else None
        live.apply(events[:split], ends)
        for _ in range(30):
            live.store.tick(NOW_MS + hours * HOUR_MS)
    # The second one is also written to a checkpoint and read back in the middle of its life.
    copied = {name: array.copy() for name, array in pieces.store.arrays().items()}
    again = Live()
    again.codes = pieces.codes
    again.store = EngagementStore(SMALL, STORE_HASHER, pieces.codes)
    again.store.load(copied)
    again.apply(events[split:], data.draw(events_st.cuts(len(events) - split)))
    whole.apply(events[split:])
    left, right = whole.store.arrays(), again.store.arrays()
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_growth_happens_at_the_same_events_however_the_log_is_cut() -> None:
    rng = np.random.default_rng(7)
    events: list[AnyEvent] = []
    for i in range(6_000):
        at_ms = NOW_MS + i * 1_000
        kind = rng.integers(4)
        post_id, viewer = int(rng.integers(1_500)), int(rng.integers(400))
        if kind == 0:
            events.append(a_post_created(post_id, viewer, at_ms=at_ms))
        elif kind == 1:
            events.append(a_post_annotated(post_id, topics=(f"t{rng.integers(200)}",), at_ms=at_ms))
        elif kind == 2:
            events.append(an_impression(viewer, post_id, dwell_ms=int(rng.integers(20_000)), at_ms=at_ms))
        else:
            events.append(an_engagement(viewer, post_id, "like", at_ms=at_ms))
    config = EngagementConfig(max_history=64)
    one, many = Live(config).apply(events), Live(config)
    many.codes.apply(a_batch_of(events))
    for start in range(0, len(events), 7):
        many.store.apply(a_batch_of(events[start : start + 7]))
    left, right = one.store.arrays(), many.store.arrays()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    assert len(left["posts.post_id"]) > 512
    assert len(left["stats.post_row"]) > 64


def test_an_action_counts_once_whatever_the_event_ids() -> None:
    live = Live().apply([an_engagement(20, 1, "like", at_ms=NOW_MS + i) for i in range(3)])
    assert non_zero(counts_of(live, 1)) == {"like": 1.0}
    assert len(live.store.histories.history(user(20)).post_ids) == 1


def test_a_day_of_scrolling_does_not_push_out_what_a_user_did() -> None:
    liked = [an_engagement(20, i, "like", at_ms=NOW_MS + i) for i in range(4)]
    seen = [an_impression(20, 100 + i, dwell_ms=100, at_ms=NOW_MS + 100 + i) for i in range(50)]
    config = EngagementConfig(max_history=10)
    kept = Live(config).apply([*liked, *seen]).store.histories.history(user(20))
    assert kept.post_ids.tolist() == [post(i) for i in (0, 1, 2, 3, *range(144, 150))]
    more = [an_engagement(20, 200 + i, "like", at_ms=NOW_MS + 200 + i) for i in range(20)]
    kept = Live(config).apply([*liked, *seen, *more]).store.histories.history(user(20))
    assert kept.post_ids.tolist() == [post(210 + i) for i in range(10)]


def test_an_undo_that_arrives_first_cancels_its_do() -> None:
    undo = an_engagement(20, 1, "like", is_undo=True, at_ms=NOW_MS + 5)
    do = an_engagement(20, 1, "like", at_ms=NOW_MS)
    for order in ([undo, do], [do, undo], [undo, do, do, undo]):
        live = Live().apply(order)
        assert non_zero(counts_of(live, 1)) == {}
        assert not live.store.histories.history(user(20))
        assert live.store.counters.popular(NOW_MS, 5)[0].tolist() == []


def test_an_action_may_be_taken_up_again_after_its_undo() -> None:
    live = Live().apply(
        [
            an_engagement(20, 1, "like"),
            an_engagement(20, 1, "like", is_undo=True, at_ms=NOW_MS + 1),
            an_engagement(20, 1, "like", at_ms=NOW_MS + 2),
        ]
    )
    assert non_zero(counts_of(live, 1)) == {"like": 1.0}


def test_an_undo_takes_back_exactly_what_its_do_gave() -> None:
    others = [an_engagement(viewer, 1, "like", at_ms=NOW_MS + viewer * 60_000) for viewer in range(5)]
    passing = [an_engagement(99, 1, "like"), an_engagement(99, 1, "like", is_undo=True, at_ms=NOW_MS + 3 * HOUR_MS)]
    without, with_undo = Live().apply(others), Live().apply([passing[0], *others, passing[1]])
    now_ms = NOW_MS + 4 * HOUR_MS
    ids = np.array([post(1)])
    np.testing.assert_allclose(
        with_undo.store.counters.post_counts(ids, now_ms), without.store.counters.post_counts(ids, now_ms), rtol=1e-5
    )
    assert with_undo.store.counters.popular(now_ms, 5)[1] == pytest.approx(without.store.counters.popular(now_ms, 5)[1])


def author_likes(live: Live, author: object) -> float:
    return float(live.store.counters.author_counts(np.array([user(author)]), NOW_MS)[0, 1, Action.LIKE])


def topic_likes(live: Live, name: str) -> float:
    codes = np.array([live.codes.topics.code(name)], dtype=np.int32)
    return float(live.store.counters.topic_counts(codes, NOW_MS)[0, 1, Action.LIKE])


def test_a_topic_named_twice_counts_once_and_leaves_its_place_to_the_next() -> None:
    topics = ("cats", "CATS", "dogs", "birds")
    live = Live().apply([a_post_annotated(1, topics=topics), an_engagement(20, 1, "like")])
    assert [topic_likes(live, name) for name in ("cats", "dogs", "birds")] == [1.0, 1.0, 1.0]


def test_an_undo_takes_nothing_from_an_author_who_got_nothing() -> None:
    live = Live().apply(
        [
            an_engagement(20, 1, "like"),
            a_post_created(1, 10),
            an_engagement(21, 1, "like"),
            an_engagement(20, 1, "like", is_undo=True, at_ms=NOW_MS + 1),
        ]
    )
    assert author_likes(live, 10) == 1.0
    live.apply([an_engagement(21, 1, "like", is_undo=True, at_ms=NOW_MS + 1)])
    assert author_likes(live, 10) == 0.0


def test_an_undo_takes_from_the_topics_that_the_post_had_at_its_do() -> None:
    live = Live().apply(
        [
            a_post_annotated(1, topics=("cats",)),
            an_engagement(20, 1, "like"),
            a_post_annotated(1, topics=("dogs", "birds")),
            an_engagement(21, 1, "like"),
            a_post_annotated(1, topics=("cats",)),
            an_engagement(22, 1, "like"),
        ]
    )
    assert [topic_likes(live, name) for name in ("cats", "dogs", "birds")] == [2.0, 1.0, 1.0]
    live.apply([an_engagement(viewer, 1, "like", is_undo=True, at_ms=NOW_MS + 1) for viewer in (20, 21)])
    assert [topic_likes(live, name) for name in ("cats", "dogs", "birds")] == [1.0, 0.0, 0.0]


def test_a_view_that_turns_out_long_is_taken_from_the_topics_of_the_short_one() -> None:
    live = Live().apply(
        [
            a_post_annotated(1, topics=("cats",)),
            an_impression(20, 1, dwell_ms=1_000),
            a_post_annotated(1, topics=("dogs",)),
            an_impression(20, 1, dwell_ms=9_000),
        ]
    )
    codes = np.array([live.codes.topics.code(name) for name in ("cats", "dogs")], dtype=np.int32)
    counts = live.store.counters.topic_counts(codes, NOW_MS)[:, 1]
    assert non_zero(counts[0]) == {"impression": 1, "dwell_time": 1}
    assert non_zero(counts[1]) == {"dwell": 1, "dwell_time": 8}


def test_a_post_annotated_without_end_keeps_a_bounded_number_of_credits() -> None:
    events = []
    for i in range(400):
        events += [a_post_annotated(1, topics=(f"t{i}",)), an_engagement(i, 1, "like")]
    live = Live().apply(events)
    live.apply([an_engagement(i, 1, "like", is_undo=True, at_ms=NOW_MS + 1) for i in range(200)])
    assert [topic_likes(live, f"t{i}") for i in (0, 100, 199, 200, 300, 399)] == [0, 0, 0, 1, 1, 1]
    assert live.store.arrays()["credits.rows"][:, 3].max() == 256


def test_counters_decay_by_their_half_life() -> None:
    live = Live().apply([a_post_created(1, 10), an_engagement(20, 1, "like")])
    ids, author = np.array([post(1)]), np.array([user(10)])
    later = NOW_MS + 12 * HOUR_MS
    assert live.store.counters.post_counts(ids, later)[0, :, Action.LIKE].tolist() == [0.25, 1.0]
    week = NOW_MS + 7 * 24 * HOUR_MS
    assert live.store.counters.author_counts(author, week)[0, :, Action.LIKE].tolist() == pytest.approx([0.5, 1.0])


def test_counters_stay_right_over_years_between_events() -> None:
    year_ms = 365 * 24 * HOUR_MS
    events = [a_post_created(1, 10)]
    events += [an_engagement(viewer, 1, "like", at_ms=NOW_MS + viewer * year_ms) for viewer in range(3)]
    live = Live().apply(events)
    found = live.store.counters.author_counts(np.array([user(10)]), NOW_MS + 2 * year_ms)[0, :, Action.LIKE]
    assert found.tolist() == pytest.approx([1.0, 3.0])


@pytest.mark.parametrize(
    ("dwell_ms", "duration_ms", "expected"),
    [
        (0, 0, {"not_dwelled": 1}),
        (2_999, 0, {"not_dwelled": 1, "dwell_time": 2.999}),
        (3_000, 0, {"dwell_time": 3}),
        (6_000, 0, {"dwell_time": 6}),
        (6_001, 0, {"dwell": 1, "dwell_time": 6.001}),
        (9_000, 9_000, {"dwell": 1, "dwell_time": 9, "complete": 1}),
        (2_000, 2_000, {"not_dwelled": 1, "dwell_time": 2, "complete": 1}),
        (3_600_000, 0, {"dwell": 1, "dwell_time": 600}),
    ],
)
def test_the_dwell_family_follows_from_an_impression(
    dwell_ms: int, duration_ms: int, expected: dict[str, float]
) -> None:
    live = Live().apply([an_impression(20, 1, dwell_ms=dwell_ms, duration_ms=duration_ms)])
    assert non_zero(counts_of(live, 1)) == {**expected, "impression": 1}


def test_a_longer_impression_replaces_a_shorter_one_in_any_order() -> None:
    short = an_impression(20, 1, dwell_ms=1_000)
    long = an_impression(20, 1, dwell_ms=8_000, at_ms=NOW_MS + 60_000)
    for order in ([short, long], [long, short], [short, long, long, short]):
        live = Live().apply(order)
        assert non_zero(counts_of(live, 1)) == {"impression": 1, "dwell": 1, "dwell_time": 8}
        history = live.store.histories.history(user(20))
        assert (history.actions.tolist(), history.dwell_ms.tolist()) == ([Action.DWELL], [8_000])


def test_a_history_tells_on_which_surface_each_thing_happened() -> None:
    """Of what is sent twice the first counts, an undo takes it along, and a dwell is where it became the longest."""
    live = Live(EngagementConfig()).apply(
        [
            an_engagement(20, 1, "like", surface="search"),
            an_engagement(20, 1, "like", surface="home", at_ms=NOW_MS + 1),
            an_engagement(20, 2, "like", surface="home", at_ms=NOW_MS + 2),
            an_engagement(20, 2, "like", surface="profile", is_undo=True, at_ms=NOW_MS + 3),
            an_engagement(20, 2, "like", surface="following", at_ms=NOW_MS + 4),
            an_engagement(20, 3, "reply", at_ms=NOW_MS + 5),
            an_engagement(20, 4, "share", surface="tv_app", at_ms=NOW_MS + 6),
            an_impression(20, 5, dwell_ms=7_000, surface="home", at_ms=NOW_MS + 7),
            an_impression(20, 5, dwell_ms=10**9, surface="push", at_ms=NOW_MS + 8),
            an_impression(20, 5, dwell_ms=1_000, surface="search", at_ms=NOW_MS + 9),
        ]
    )
    history = live.store.histories.history(user(20))
    assert history.post_ids.tolist() == [post(1), post(2), post(3), post(4), post(5)]
    assert history.actions.tolist() == [Action.LIKE, Action.LIKE, Action.REPLY, Action.SHARE, Action.DWELL]
    assert history.surfaces.dtype == np.uint8
    assert history.surfaces.tolist() == [
        Surface.SEARCH,
        Surface.FOLLOWING,
        Surface.UNKNOWN,
        Surface.OTHER,
        Surface.NOTIFICATION,
    ]
    assert history.dwell_ms.tolist() == [0, 0, 0, 0, 600_000]
    assert live.store.histories.history(user(20), 2).surfaces.tolist() == [Surface.OTHER, Surface.NOTIFICATION]


def test_an_old_log_whose_events_name_no_surface_folds_to_unknown() -> None:
    codec = EventCodec(EventRegistry())
    head = '"event_time_ms": 1000, "source": "web", "payload": {"viewer_id": "20", "post_id": "1", "type": '
    lines = [
        '{"event_id": "1", ' + head + '"Engagement", "action": "like"}}',
        '{"event_id": "2", ' + head + '"Engagement", "action": "share", "context": {"device": "phone"}}}',
        '{"event_id": "3", ' + head + '"Impression", "dwell_ms": 9000}}',
    ]
    live = Live().apply([codec.decode_json(line.encode()) for line in lines])
    assert live.store.histories.history(user(20)).surfaces.tolist() == [Surface.UNKNOWN] * 3


def test_thresholds_of_the_dwell_family_are_settings() -> None:
    config = EngagementConfig(dwell=DwellThresholds(short_ms=100, valid_ms=200, max_ms=1_000))
    live = Live(config).apply([an_impression(20, 1, dwell_ms=5_000)])
    assert non_zero(counts_of(live, 1)) == {"impression": 1, "dwell": 1, "dwell_time": 1}


def test_business_actions_have_columns_of_their_own() -> None:
    actions = ActionSpace(("purchase",))
    config = EngagementConfig(indexed_actions=("purchase",), heat_weights={"purchase": 8.0})
    live = Live(config, actions).apply([an_engagement(20, 1, "purchase", amount=9.5)])
    assert live.store.counters.n_columns == len(Action) + 2
    assert counts_of(live, 1)[len(Action)] == 1.0
    assert live.store.index.engagers(post(1)).user_ids.tolist() == [user(20)]
    assert live.store.counters.popular(NOW_MS, 1)[1].tolist() == [8.0]


def test_deleting_a_post_frees_what_is_known_of_it_and_late_events_do_not_bring_it_back() -> None:
    live = Live().apply(
        [
            a_post_created(1, 10),
            an_engagement(20, 1, "like"),
            a_counts_observed(1, like=5),
            a_post_deleted(1),
            an_engagement(21, 1, "like"),
            a_post_created(1, 10),
        ]
    )
    counters = live.store.counters
    ids = np.array([post(1)])
    assert not counts_of(live, 1).any()
    assert not counters.observed_counts(ids).any()
    assert counters.popular(NOW_MS, 5)[0].tolist() == []
    assert counters.author_counts(np.array([user(10)]), NOW_MS)[0, 1, Action.LIKE] == 1.0
    found = live.store.index.second_degree(
        np.array([user(20)]), since_ms=0, max_per_seed=5, exclude_user=0, max_posts=5
    )
    assert found.post_ids.tolist() == []


def test_an_erased_user_stands_in_no_array() -> None:
    live = Live().apply(
        [
            a_post_created(1, 10),
            a_post_created(2, 20),
            an_engagement(20, 1, "like"),
            an_engagement(21, 1, "like"),
            an_engagement(21, 2, "like"),
            an_impression(20, 1),
            a_user_erased(20),
        ]
    )
    erased = user(20)
    assert [
        name for name, array in live.store.arrays().items() if array.dtype == np.int64 and (array == erased).any()
    ] == []
    assert live.store.index.engagers(post(1)).user_ids.tolist() == [user(21)]
    assert live.store.histories.history(user(21)).author_ids.tolist() == [user(10), 0]


def test_the_hottest_posts_are_kept_when_the_pool_is_full() -> None:
    config = EngagementConfig(max_popular=3)
    events = [an_engagement(viewer, post_id, "like") for post_id in range(1, 8) for viewer in range(post_id)]
    live = Live(config).apply(events)
    post_ids, heat = live.store.counters.popular(NOW_MS, 10)
    assert post_ids.tolist() == [post(7), post(6), post(5)]
    assert heat.tolist() == pytest.approx([7.0, 6.0, 5.0])


def test_popular_breaks_ties_by_id_and_cuts() -> None:
    live = Live().apply([an_engagement(20, post_id, "like") for post_id in range(5)])
    post_ids, _ = live.store.counters.popular(NOW_MS, 3)
    assert post_ids.tolist() == sorted(post(p) for p in range(5))[:3]


def test_second_degree_cuts_to_the_best_also_when_many_tie() -> None:
    config = EngagementConfig()
    events = [an_engagement(viewer, post_id, "like") for viewer in range(20) for post_id in range(viewer, viewer + 40)]
    live = Live(config).apply(events)
    model = EngagementModel(config)
    for event in events:
        model.apply(event)
    seeds = np.array([user(viewer) for viewer in range(20)])
    for max_posts in (1, 3, 1_000):
        found = live.store.index.second_degree(
            seeds, since_ms=0, max_per_seed=50, exclude_user=user(3), max_posts=max_posts
        )
        want = model.second_degree(seeds.tolist(), since_ms=0, max_per_seed=50, exclude_user=user(3))[:max_posts]
        assert found.post_ids.tolist() == [row[0] for row in want]
        assert found.proof_user_ids.tolist() == [[*row[2], 0, 0, 0][:3] for row in want]


def test_event_times_from_the_future_are_brought_back_to_their_append() -> None:
    live = Live()
    batch = a_batch_of([an_engagement(20, 1, "like", at_ms=NOW_MS + 10**9)], appended_ms=NOW_MS)
    live.store.apply(batch)
    assert live.store.histories.history(user(20)).times_ms.tolist() == [NOW_MS]


def test_reading_nothing_answers_nothing() -> None:
    live = Live()
    none = np.zeros(0, dtype=np.int64)
    assert live.store.counters.post_counts(none, NOW_MS).shape == (0, 2, IMPRESSION + 1)
    assert live.store.counters.observed_counts(none).shape == (0, IMPRESSION + 1)
    assert live.store.counters.popular(NOW_MS, 5)[0].shape == (0,)
    assert live.store.histories.author_affinity(1, none, NOW_MS).shape == (0,)
    assert live.store.histories.most_active(3).shape == (0,)
    found = live.store.index.second_degree(none, since_ms=0, max_per_seed=5, exclude_user=0, max_posts=5)
    assert found.proof_user_ids.shape == (0, 3)


def test_settings_that_name_unknown_actions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"heat_weights 'lick'.*not a known action"):
        Live(EngagementConfig(heat_weights={"lick": 1.0}))
    with pytest.raises(ConfigError, match="not in order"):
        Live(EngagementConfig(dwell=DwellThresholds(short_ms=9_000)))


def test_a_seed_given_twice_is_one_proof() -> None:
    live = Live().apply([an_engagement(20, 1, "like"), an_engagement(21, 1, "like")])
    seeds = np.array([user(20), user(21), user(20)])
    found = live.store.index.second_degree(seeds, since_ms=0, max_per_seed=5, exclude_user=0, max_posts=5)
    assert found.n_proofs.tolist() == [2]


def test_readers_never_write_to_the_arrays() -> None:
    live = Live().apply(
        [
            a_post_created(1, 10),
            a_post_annotated(1, topics=("music",)),
            a_counts_observed(1, like=5),
            an_engagement(20, 1, "like"),
            an_impression(21, 1, dwell_ms=9_000),
        ]
    )
    before = {name: array.copy() for name, array in live.store.arrays().items()}
    store, posts, users = live.store, np.array([post(1), post(2)]), np.array([user(20), user(99)])
    later = NOW_MS + 1_000 * 24 * HOUR_MS
    for answer in (
        store.counters.post_counts(posts, later),
        store.counters.author_counts(users, later),
        store.counters.topic_counts(np.array([1], dtype=np.int32), later),
        store.counters.observed_counts(posts),
        *store.counters.popular(later, 5),
        *store.histories.history(user(20)),
        store.histories.n_actions(users),
        store.histories.most_active(5),
        store.histories.author_affinity(user(20), users, later),
        *store.index.engagers(post(1)),
        *store.index.engaged(user(20)),
        *store.index.second_degree(users, since_ms=0, max_per_seed=5, exclude_user=0, max_posts=5),
    ):
        answer[...] = 1  # callers own what they are given
    for name, array in store.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_a_view_stays_one_view_after_a_business_action_was_appended() -> None:
    before = Live().apply([an_impression(20, 1, dwell_ms=1_000)])
    after = Live(actions=ActionSpace(("purchase",)))
    after.store.load({name: array.copy() for name, array in before.store.arrays().items()})
    after.apply([an_impression(20, 1, dwell_ms=1_000), an_engagement(20, 1, "purchase")])
    counts = counts_of(after, 1)
    assert (counts[len(Action)], counts[after.store.counters.impressions]) == (1.0, 1.0)


def test_hot_posts_come_with_all_they_ever_had() -> None:
    events = [an_engagement(viewer, 1, "like", at_ms=NOW_MS - 12 * HOUR_MS) for viewer in range(8)]
    events += [an_engagement(1, 2, "reply"), an_engagement(2, 2, "click"), an_engagement(1, 3, "like")]
    events += [an_engagement(3, 3, "report")]
    live = Live(EngagementConfig()).apply(events)
    counters = live.store.counters
    hot = counters.hot(NOW_MS, 10)
    found = {p: (h, t) for p, h, t in zip(hot.post_ids.tolist(), hot.heat, hot.totals, strict=True)}
    assert found == {
        post(1): pytest.approx((2.0, 8.0), rel=1e-5),  # two half-lives ago
        post(2): pytest.approx((2.1, 2.1), rel=1e-5),
        post(3): pytest.approx((1.0, 1.0), rel=1e-5),  # a report is no heat
    }
    assert counters.heat_half_life_ms == pytest.approx(6 * HOUR_MS)
    for n in range(4):
        assert sorted(counters.hot(NOW_MS, n).post_ids.tolist()) == sorted(counters.popular(NOW_MS, n)[0].tolist())
    short = Live(EngagementConfig(post_half_lives_ms=(HOUR_MS, 12 * HOUR_MS))).apply(events)
    totals = dict(zip(*(part.tolist() for part in short.store.counters.hot(NOW_MS, 10)[::2]), strict=True))
    assert totals[post(1)] == pytest.approx(4.0, rel=1e-5)  # the longest half-life there is
