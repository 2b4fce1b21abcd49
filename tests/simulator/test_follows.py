from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.follows import Edges, Follows, make_schedule
from millrace.simulator.graph import make_graph
from millrace.simulator.people import make_people

CONFIG = WorldConfig(size="tiny", n_users=300, joins_per_day_frac=0.1, unfollow_frac=0.05)
DRAWS = Draws(CONFIG.seed)
PEOPLE = make_people(CONFIG, DRAWS)
GRAPH = make_graph(CONFIG, DRAWS, PEOPLE)
HISTORY_MS = 1_000 * HOUR_MS
NOW_MS = HISTORY_MS + CONFIG.history_ms
JOINED_MS = np.full(PEOPLE.n_users, HISTORY_MS - 5 * HOUR_MS)
JOINED_MS[300:] = NOW_MS + np.arange(PEOPLE.n_users - 300) * HOUR_MS
SCHEDULE = make_schedule(CONFIG, DRAWS, GRAPH, JOINED_MS, HISTORY_MS)

changes = st.lists(st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6)))


@settings(max_examples=60, deadline=None)
@given(changes=changes)
def test_follows_are_a_set_of_pairs(changes: list[tuple[bool, list[tuple[int, int]]]]) -> None:
    follows, model = Follows(5), set[tuple[int, int]]()
    for is_following, pairs in changes:
        who, whom = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
        follows.change(who, whom, is_following=is_following)
        model = model | set(pairs) if is_following else model - set(pairs)
    graph = follows.graph()
    assert list(zip(graph.followers.tolist(), graph.followees.tolist(), strict=True)) == sorted(model)
    assert graph.n_following(np.arange(5)).tolist() == [sum(who == user for who, _ in model) for user in range(5)]


def test_a_span_has_its_beginning_and_not_its_end() -> None:
    edges = Edges(np.array([10, 20, 20, 30]), np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8]))
    followers, followees, times = edges.between(20, 30)
    assert (followers.tolist(), followees.tolist(), times.tolist()) == ([2, 3], [6, 7], [20, 20])
    assert edges.between(31, 40)[0].tolist() == []


def test_every_follow_of_the_graph_is_made_once_after_both_have_joined() -> None:
    follows = SCHEDULE.follows
    keys = follows.followers * PEOPLE.n_users + follows.followees
    np.testing.assert_array_equal(np.sort(keys), np.sort(GRAPH.keys))
    assert (np.diff(follows.times_ms) >= 0).all()
    both_ms = np.maximum(JOINED_MS[follows.followers], JOINED_MS[follows.followees])
    assert (follows.times_ms > both_ms).all()


def test_founders_follow_before_the_history_but_for_a_few_and_newcomers_within_two_days() -> None:
    follows = SCHEDULE.follows
    is_founding = (follows.followers < 300) & (follows.followees < 300)
    is_late = follows.times_ms >= HISTORY_MS
    assert 0.02 < is_late[is_founding].mean() < 0.07
    assert (follows.times_ms[is_founding] < NOW_MS).all()
    joined_ms = np.maximum(JOINED_MS[follows.followers], JOINED_MS[follows.followees])[~is_founding]
    wait_ms = follows.times_ms[~is_founding] - joined_ms
    assert wait_ms.max() <= 48 * HOUR_MS + 60_000
    assert 0.3 < (wait_ms <= HOUR_MS + 60_000).mean() < 0.5


def test_some_follows_are_taken_back_after_they_were_made_and_go_on_being_when_the_history_is_over() -> None:
    made = {(a, b): t for t, a, b in zip(*(column.tolist() for column in _columns(SCHEDULE.follows)), strict=True)}
    times, followers, followees = _columns(SCHEDULE.unfollows)
    assert all(made[a, b] < t for t, a, b in zip(times.tolist(), followers.tolist(), followees.tolist(), strict=True))
    within = (times < NOW_MS).sum()
    n_founding = ((GRAPH.followers < 300) & (GRAPH.followees < 300)).sum()
    assert 0.03 < within / n_founding < 0.07
    assert 2 * within < (times >= NOW_MS).sum() < 4 * within


def _columns(edges: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return edges.times_ms, edges.followers, edges.followees
