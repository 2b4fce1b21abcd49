from __future__ import annotations

import numpy as np

from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.memory import Memory
from millrace.simulator.people import make_people
from millrace.simulator.posts import REPLY, REPOST, PostTable
from millrace.simulator.visits import WINDOW_MS, Shelf, draw_sessions, is_among, is_first_meeting

NOW_MS = 100 * HOUR_MS
PEOPLE = make_people(WorldConfig(size="tiny", n_users=2_000), Draws(1))
STAYS = np.zeros(PEOPLE.n_users, dtype=np.int64)


def a_table(**columns: list[object]) -> PostTable:
    table = PostTable()
    n = len(next(iter(columns.values())))
    given_ = {name: np.array(values) for name, values in columns.items()}
    table.append({"author": np.zeros(n, dtype=np.int64), "created_ms": np.full(n, NOW_MS - 1)} | given_)
    return table


def test_a_pair_meets_first_once_and_not_at_all_when_it_has_met_before() -> None:
    memory = Memory(9)
    memory.meet(np.array([1]), np.array([4]))
    viewer, row = np.array([1, 1, 1, 2, 2]), np.array([4, 5, 5, 4, 6])
    assert is_first_meeting(memory, viewer, row).tolist() == [False, True, False, True, True]


def test_the_shelf_leaves_out_old_later_and_deleted_posts() -> None:
    table = a_table(
        created_ms=[NOW_MS - WINDOW_MS - 1, NOW_MS, NOW_MS - 2, NOW_MS - 3],
        deleted_ms=[2 * NOW_MS, 2 * NOW_MS, NOW_MS - 1, 2 * NOW_MS],
    )
    shelf = Shelf(table, NOW_MS, n_users=2, n_languages=1)
    u = np.linspace(0, 0.999, 20)
    assert set(shelf.by_author(np.zeros(20, dtype=np.int64), u).tolist()) == {3}
    assert set(shelf.popular(np.zeros(20, dtype=np.int64), u).tolist()) <= {3}


def test_an_authors_newest_post_comes_up_most() -> None:
    table = a_table(created_ms=[NOW_MS - 100, NOW_MS - 10, NOW_MS - 50])
    shelf = Shelf(table, NOW_MS, n_users=2, n_languages=1)
    rows = shelf.by_author(np.zeros(300, dtype=np.int64), np.linspace(0, 0.999, 300))
    counts = np.bincount(rows, minlength=3)
    assert counts[1] > counts[2] > counts[0] > 0


def test_an_author_without_posts_gives_none() -> None:
    shelf = Shelf(a_table(author=[1]), NOW_MS, n_users=3, n_languages=1)
    assert shelf.by_author(np.array([0, 1, 2, -1]), np.zeros(4)).tolist() == [-1, 0, -1, -1]


def test_heat_decides_what_is_popular_and_replies_and_reposts_are_not() -> None:
    table = a_table(
        kind=[0, 0, REPLY, REPOST], attraction=[1.0, 9.0, 1000.0, 1000.0], language=[0, 0, 0, 0], topic=[2, 3, 2, 2]
    )
    shelf = Shelf(table, NOW_MS, n_users=1, n_languages=2)
    u = np.linspace(0, 0.9999, 1000)
    counts = np.bincount(shelf.popular(np.zeros(1000, dtype=np.int64), u), minlength=4)
    np.testing.assert_allclose(counts, [100, 900, 0, 0], atol=2)
    two = np.zeros(2, dtype=np.int64)
    assert shelf.about(two, np.array([2, 5]), np.array([0.5, 0.5])).tolist() == [0, -1]
    assert shelf.popular(two + 1, np.array([0.1, 0.9])).tolist() == [-1, -1]


def test_an_empty_world_has_an_empty_shelf() -> None:
    shelf = Shelf(PostTable(), NOW_MS, n_users=2, n_languages=1)
    two = np.zeros(2, dtype=np.int64)
    assert shelf.by_author(two, np.zeros(2)).tolist() == [-1, -1]
    assert shelf.popular(two, np.zeros(2)).tolist() == [-1, -1]


def come(readiness: float = 1.0, away_until_ms: np.ndarray = STAYS, start_ms: int = NOW_MS) -> np.ndarray:
    ready = np.full(PEOPLE.n_users, readiness)
    return draw_sessions(Draws(1), PEOPLE, ready, away_until_ms, start_ms, start_ms + HOUR_MS).viewer


def test_nobody_comes_twice_in_a_slice_and_all_come_within_it() -> None:
    sessions = draw_sessions(Draws(1), PEOPLE, np.full(PEOPLE.n_users, 3.0), STAYS, NOW_MS, NOW_MS + HOUR_MS)
    assert (np.diff(sessions.viewer) > 0).all()
    assert ((sessions.started_ms >= NOW_MS) & (sessions.started_ms < NOW_MS + HOUR_MS)).all()


def test_a_day_has_about_as_many_sessions_as_people_are_used_to() -> None:
    n = sum(len(come(start_ms=NOW_MS + hour * HOUR_MS)) for hour in range(24))
    assert 0.75 < n / PEOPLE.sessions_per_day.sum() < 1.0  # at most one in an hour: the eager come less often


def test_who_is_pleased_comes_sooner_and_who_is_away_does_not_come() -> None:
    assert set(come(0.5)) < set(come()) < set(come(2.0))
    assert len(come(0.0)) == 0
    away = np.where(np.arange(PEOPLE.n_users) < 1_000, NOW_MS + 1, NOW_MS)
    assert come(away_until_ms=away).tolist() == [user for user in come().tolist() if user >= 1_000]


def test_is_among_agrees_with_a_set() -> None:
    assert is_among(np.array([5, 1, 9, 0]), np.array([1, 5, 8])).tolist() == [True, True, False, False]
    assert is_among(np.array([5]), np.empty(0, dtype=np.int64)).tolist() == [False]
