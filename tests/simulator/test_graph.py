from __future__ import annotations

import numpy as np

from millrace.simulator.config import WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.graph import make_graph
from millrace.simulator.people import make_people

CONFIG = WorldConfig(n_users=1_500)
DRAWS = Draws(CONFIG.seed)
PEOPLE = make_people(CONFIG, DRAWS)
GRAPH = make_graph(CONFIG, DRAWS, PEOPLE)


def test_nobody_follows_themselves_or_anybody_twice() -> None:
    assert (GRAPH.followers != GRAPH.followees).all()
    assert len(np.unique(GRAPH.keys)) == GRAPH.n_edges


def test_rows_agree_with_edges() -> None:
    assert GRAPH.n_following(np.arange(PEOPLE.n_users)).sum() == GRAPH.n_edges
    mine = GRAPH.followees[GRAPH.starts[7] : GRAPH.starts[8]]
    assert sorted(mine.tolist()) == sorted(GRAPH.followees[GRAPH.followers == 7].tolist())


def test_is_following_agrees_with_a_set() -> None:
    edges = set(zip(GRAPH.followers.tolist(), GRAPH.followees.tolist(), strict=True))
    who, whom = (grid.ravel() for grid in np.meshgrid(np.arange(60), np.arange(60)))
    expected = [pair in edges for pair in zip(who.tolist(), whom.tolist(), strict=True)]
    assert GRAPH.is_following(who, whom).tolist() == expected


def test_picked_followees_are_followed() -> None:
    users = np.arange(PEOPLE.n_users)
    picked = GRAPH.pick_followee(users, np.linspace(0, 0.9999, PEOPLE.n_users))
    has = GRAPH.n_following(users) > 0
    assert GRAPH.is_following(users[has], picked[has]).all()
    assert (picked[~has] == -1).all()


def test_few_are_followed_by_many() -> None:
    in_degree = np.sort(np.bincount(GRAPH.followees, minlength=PEOPLE.n_users))[::-1]
    assert in_degree[:15].sum() > 0.1 * GRAPH.n_edges
    assert in_degree[0] > 10 * np.median(in_degree)


def test_people_follow_mostly_what_they_can_read_and_care_about() -> None:
    language = PEOPLE.language[GRAPH.followees]
    reads = (language == PEOPLE.language[GRAPH.followers]) | (language == PEOPLE.second_language[GRAPH.followers])
    assert reads.mean() > 0.7
    shared = np.minimum(PEOPLE.interests[GRAPH.followers], PEOPLE.interests[GRAPH.followees]).sum(axis=1)
    everybody = np.minimum(PEOPLE.interests[:-1], PEOPLE.interests[1:]).sum(axis=1)
    assert shared.mean() > 1.3 * everybody.mean()


def test_friends_of_friends_are_followed_more_often_than_chance() -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(0, PEOPLE.n_users, 4_000)
    friend = GRAPH.pick_followee(users, rng.random(4_000))
    users, friend = users[friend >= 0], friend[friend >= 0]  # some follow nobody
    theirs = GRAPH.pick_followee(friend, rng.random(len(friend)))
    closed = GRAPH.is_following(users, theirs).mean()
    density = GRAPH.n_edges / PEOPLE.n_users**2
    assert closed > 3 * density
