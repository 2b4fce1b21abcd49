from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.simulator.config import HOUR_MS
from millrace.simulator.posts import REPLY, REPOST, PostTable
from millrace.simulator.visits import WINDOW_MS, Seen, Shelf

NOW_MS = 100 * HOUR_MS
pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30)


def a_table(**columns: list[object]) -> PostTable:
    table = PostTable()
    n = len(next(iter(columns.values())))
    given_ = {name: np.array(values) for name, values in columns.items()}
    table.append({"author": np.zeros(n, dtype=np.int64), "created_ms": np.full(n, NOW_MS - 1)} | given_)
    return table


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(pairs, max_size=4))
def test_a_pair_is_new_exactly_once(batches: list[list[tuple[int, int]]]) -> None:
    seen = Seen()
    model: set[tuple[int, int]] = set()
    for batch in batches:
        viewer = np.array([pair[0] for pair in batch], dtype=np.int64)
        row = np.array([pair[1] for pair in batch], dtype=np.int64)
        expected = []
        for pair in batch:
            expected.append(pair not in model)
            model.add(pair)
        assert seen.add_new(viewer, row).tolist() == expected


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
