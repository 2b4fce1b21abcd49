from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from millrace.events.content_events import PostCreated
from millrace.events.feed_events import Engagement, Impression
from millrace.simulator.encounters import Looks, Slates
from millrace.simulator.loop import MAX_PAGES, SliceDone
from millrace.simulator.mechanisms.situation import N_FRIENDLY
from millrace.simulator.policies import Harm, Policy
from millrace.simulator.visits import Sessions
from millrace.simulator.world import World
from millrace.testing.small_worlds import HOME, NOW_MS, SmallWorld, a_small_world, a_world_config

N_SLICES = 12
CLEAN = {"late_frac": 0.0, "twice_frac": 0.0, "lost_frac": 0.0}


@pytest.fixture(scope="module")
def half_a_day() -> tuple[SmallWorld, list[SliceDone]]:
    small = a_small_world(n_users=120, limit=5, **CLEAN)
    return small, small.run(N_SLICES)


def test_nobody_has_two_sessions_in_a_slice_and_each_has_its_first_page(
    half_a_day: tuple[SmallWorld, list[SliceDone]],
) -> None:
    for done in half_a_day[1]:
        n = len(done.sessions.viewer)
        assert len(set(done.sessions.viewer.tolist())) == n
        if n:
            assert done.rounds[0].session.tolist() == list(range(n))
        assert all(round_.page_no == number for number, round_ in enumerate(done.rounds))
        assert len(done.rounds) <= MAX_PAGES


def test_only_who_saw_a_page_to_its_end_fetches_the_next_one_and_begins_it_later(
    half_a_day: tuple[SmallWorld, list[SliceDone]],
) -> None:
    n_further = 0
    for done in half_a_day[1]:
        for before, after in zip(done.rounds, done.rounds[1:], strict=False):
            assert set(after.session.tolist()) <= set(before.session.tolist())
            for index, session in enumerate(after.session.tolist()):
                page = before.session.tolist().index(session)
                looks = before.looks
                items = np.flatnonzero(looks.slates.page == page)
                assert looks.is_examined[items[-1]]
                assert after.requests[index].cursor == before.pages[page].cursor is not None
                assert after.requests[index].now_ms == looks.left_ms[items].max() + 500
                n_further += 1
    assert n_further > 20


def test_who_is_pleased_goes_on_more_often(half_a_day: tuple[SmallWorld, list[SliceDone]]) -> None:
    small, slices = half_a_day
    tolerance = small.world.people.tolerance
    goes_on: dict[bool, list[bool]] = {True: [], False: []}
    for done in slices:
        for before, after in zip(done.rounds, done.rounds[1:], strict=False):
            realised = small.world.encounters.realised(before.looks).satisfaction
            n = len(before.pages)
            per_look = before.looks.page_sum(realised, n) / before.looks.page_sum(before.looks.is_examined * 1.0, n)
            viewer = done.sessions.viewer[before.session]
            for page, session in enumerate(before.session.tolist()):
                last = np.flatnonzero(before.looks.slates.page == page)[-1]
                if before.looks.is_examined[last] and before.pages[page].cursor:
                    goes_on[bool(per_look[page] > tolerance[viewer[page]])].append(session in after.session)
    assert np.mean(goes_on[True]) > np.mean(goes_on[False])


def test_a_feed_that_ends_is_not_asked_again() -> None:
    small = a_small_world(max_posts=8, limit=5, patience=200.0)
    rounds = [round_ for done in small.run(8) for round_ in done.rounds]
    assert max(round_.page_no for round_ in rounds) == 1


def test_looks_go_down_a_page_without_gaps_and_time_goes_on(half_a_day: tuple[SmallWorld, list[SliceDone]]) -> None:
    for done in half_a_day[1]:
        for round_ in done.rounds:
            looks, slates = round_.looks, round_.looks.slates
            for page in np.unique(slates.page):
                at = np.flatnonzero(slates.page == page)
                assert slates.position[at].tolist() == list(range(len(at)))
                assert (np.diff(looks.is_examined[at].astype(int)) <= 0).all()
                assert (np.diff(looks.left_ms[at]) >= 0).all()
                assert not looks.did[at][~looks.is_examined[at]].any()
                assert not looks.dwell_ms[at][~looks.is_examined[at]].any()


def test_what_is_sent_is_what_was_seen_and_done_of_the_request_that_served_it(
    half_a_day: tuple[SmallWorld, list[SliceDone]],
) -> None:
    small, slices = half_a_day
    served = {}
    for done in slices:
        for round_ in done.rounds:
            for request, page in zip(round_.requests, round_.pages, strict=True):
                served.update({(request.request_id, p): i for i, p in enumerate(page.post_ids)})
    seen = [event.payload for event in small.client.sent if isinstance(event.payload, Impression)]
    done_ = [event.payload for event in small.client.sent if isinstance(event.payload, Engagement)]
    n_looks = sum(int(round_.looks.is_examined.sum()) for done in slices for round_ in done.rounds)
    assert 0.97 * n_looks < len(seen) <= n_looks  # the last ones end after the last slice
    assert all(served[i.request_id, i.post_id] == i.position for i in seen)
    assert all((e.request_id, e.post_id) in served for e in done_ if e.action not in {"reply", "repost", "quote"})
    assert len({event.event_id for event in small.client.sent}) == len(small.client.sent)


def test_events_are_sent_in_the_slice_in_which_they_happen(half_a_day: tuple[SmallWorld, list[SliceDone]]) -> None:
    small, slices = half_a_day
    sent, first = small.client.sent, 0
    for done in slices:
        times = [event.event_time_ms for event in sent[first : first + done.n_events]]
        assert times == sorted(times)
        assert not times or done.start_ms - 3_600_000 < times[0] <= times[-1] < done.stop_ms
        first += done.n_events
    assert first == len(sent)


def test_no_page_shows_what_is_written_within_its_slice(half_a_day: tuple[SmallWorld, list[SliceDone]]) -> None:
    small, slices = half_a_day
    created = {e.payload.post_id: e.event_time_ms for e in small.client.sent if isinstance(e.payload, PostCreated)}
    assert len(created) > 20
    for done in slices:
        shown = {p for round_ in done.rounds for page in round_.pages for p in page.post_ids}
        assert all(created.get(p, 0) < done.start_ms for p in shown)


def test_listening_changes_nothing_and_comes_before_the_world_remembers() -> None:
    heard: Counter[int] = Counter()

    def listen(round_: object, arm: np.ndarray) -> None:
        heard["rounds"] += 1  # type: ignore[index]
        heard["met"] += len(small.world.memory.meetings)  # type: ignore[index]

    small, alone = a_small_world(listen=listen), a_small_world()
    first = len(small.world.memory.meetings)
    done = small.run(2)
    assert [e.event_id for e in small.client.sent] == [e.event_id for e in (alone.run(2), alone.client.sent)[1]]
    assert heard["rounds"] == sum(len(d.rounds) for d in done)  # type: ignore[index]
    assert len(small.world.memory.meetings) > first


def test_arms_are_for_good_about_even_and_one_policy_is_for_all() -> None:
    policies = (HOME, Policy(name="b"), Policy(name="c"))
    first, again = (a_small_world(policies=policies, n_users=900, history_ms=3_600_000) for _ in range(2))
    np.testing.assert_array_equal(first.loop.arm_of_user, again.loop.arm_of_user)
    np.testing.assert_allclose(np.bincount(first.loop.arm_of_user) / first.world.people.n_users, 1 / 3, atol=0.05)
    assert set(a_small_world(history_ms=3_600_000).loop.arm_of_user.tolist()) == {0}


def test_each_viewer_is_served_by_their_own_arm() -> None:
    small = a_small_world(policies=(HOME, Policy(name="b")))
    slices = small.run(6)
    arms = defaultdict(set)
    for request in small.client.requests:
        arms[int(request.viewer_id[1:])].add(request.arm)
    assert all(chosen == {int(small.loop.arm_of_user[viewer])} for viewer, chosen in arms.items())
    assert {len(chosen) for chosen in arms.values()} == {1}
    assert all((done.arm == small.loop.arm_of_user[done.sessions.viewer]).all() for done in slices)


def readiness_of(small: SmallWorld) -> np.ndarray:
    """Return the readiness with which each viewer that came looks at each post."""
    by_viewer = np.full(small.world.people.n_users, np.nan)
    for done in small.run(8):
        for round_ in done.rounds:
            slates: Slates = round_.looks.slates
            by_viewer[slates.viewer] = 1.0 if slates.readiness is None else slates.readiness
    return by_viewer


def test_planted_readiness_is_the_arms_and_a_harm_is_one_languages() -> None:
    harmed = Policy(name="b", readiness=1.02, harm=Harm(language="en", readiness=0.8))
    small = a_small_world(policies=(HOME, harmed))
    ready, arm = readiness_of(small), small.loop.arm_of_user
    came = ~np.isnan(ready)
    speaks = small.world.people.language == small.world.vocabulary.languages.index("en")
    expected = np.where(arm == 0, 1.0, np.where(speaks, 0.8, 1.02))
    np.testing.assert_array_equal(ready[came], expected[came])
    assert set(expected[came].tolist()) == {1.0, 0.8, 1.02}


def looks_at(small: SmallWorld, readiness: float | None, n_viewers: int = 50) -> Looks:
    """Return what comes of ten posts before each viewer."""
    n = 10 * n_viewers
    viewer = np.repeat(np.arange(n_viewers), 10)
    planted = None if readiness is None else np.full(n, readiness)
    row, position = np.arange(n) % small.world.posts.n_posts, np.tile(np.arange(10), n_viewers)
    began_ms, occasion = np.full(n, small.now_ms), np.arange(n_viewers)
    return small.world.encounters.look(Slates(viewer, row, viewer, position, began_ms, occasion, planted))


def test_planted_readiness_multiplies_the_true_value_of_every_look() -> None:
    small = a_small_world()
    small.run(1)
    usual, planted = looks_at(small, None), looks_at(small, 1.02)
    np.testing.assert_allclose(planted.response.probs, 1.02 * usual.response.probs)
    expected = small.world.encounters.expected
    for plain, more in zip(expected(usual), expected(planted), strict=True):
        np.testing.assert_allclose(more, 1.02 * plain, rtol=1e-12)
    # Common random numbers: nothing friendly is undone, but where somebody is annoyed who was not before.
    calm = ~planted.did[:, N_FRIENDLY:].any(axis=1)
    assert (planted.did >= usual.did)[calm].all()


def test_what_is_realised_under_planted_readiness_is_what_was_expected() -> None:
    small = a_small_world()
    small.run(1)
    encounters, error = small.world.encounters, []
    for _ in range(60):
        looks = looks_at(small, 1.5)
        expected, realised = encounters.expected(looks), encounters.realised(looks)
        error.append(np.stack([r - e for e, r in zip(expected, realised, strict=True)])[:, looks.is_examined])
        small.world.memory.meet(looks.slates.viewer, looks.slates.row)  # the next occasion has draws of its own
    both = np.concatenate(error, axis=1)
    assert (np.abs(both.mean(axis=1)) < 3.5 * both.std(axis=1) / np.sqrt(both.shape[1])).all()


def test_bored_people_stay_away_and_pleased_ones_do_not() -> None:
    for pull, stays in ((1.2, True), (0.0, False)):
        world = World(a_world_config(n_users=400, mood_pull=pull), NOW_MS)
        everybody = np.arange(world.people.n_users)
        sessions = Sessions(everybody, np.full(len(everybody), NOW_MS))
        is_bored = everybody % 2 == 0
        n_looks = np.full(len(everybody), 10.0)
        per_look = world.felt(sessions, np.where(is_bored, -5.0, 5.0), n_looks)
        assert set(per_look.tolist()) == {-0.5, 0.5}
        away_ms = world.memory.away_until_ms - NOW_MS
        assert (away_ms[~is_bored] == 0).all()
        assert (away_ms[is_bored] > 0).any() == stays
        if stays:
            usual_ms = 86_400_000 / world.people.sessions_per_day[is_bored]
            assert np.mean(away_ms[is_bored] / usual_ms) == pytest.approx(1.5, rel=0.2)
        np.testing.assert_allclose(world.memory.mood, 0.3 * per_look)


def test_who_saw_nothing_is_bored() -> None:
    world = World(a_world_config(), NOW_MS)
    world.felt(Sessions(np.array([3]), np.array([NOW_MS])), np.zeros(1), np.zeros(1))
    assert world.memory.away_until_ms[3] > NOW_MS


def test_a_feed_that_bores_is_left() -> None:
    full, empty = a_small_world(n_users=200), a_small_world(n_users=200, max_posts=0)
    n_full, n_empty = (sum(len(done.sessions.viewer) for done in small.run(16)) for small in (full, empty))
    assert n_empty < 0.9 * n_full


def test_creators_answer_attention_with_posts() -> None:
    small = a_small_world(n_users=300)
    kept = small.world.arrays()
    written = {}
    for reactions in (0.0, 500.0):
        world = World(small.world.config, NOW_MS)
        world.load(kept)
        world.memory.written[:] = 10.0
        world.memory.reactions[:] = reactions
        n_before = world.posts.n_posts
        for hour in range(3):
            list(world.open_slice(NOW_MS + hour * world.slice_ms, NOW_MS + (hour + 1) * world.slice_ms))
        written[reactions] = world.posts.n_posts - n_before
    assert written[500.0] > 3 * written[0.0] > 0


def test_likes_replies_and_reposts_are_the_attention_that_creators_get(
    half_a_day: tuple[SmallWorld, list[SliceDone]],
) -> None:
    memory = half_a_day[0].world.memory
    assert memory.reactions.sum() > 0
    assert memory.written.sum() > 0
