"""The follow graph as rows: the same edges, in an order that depends on nothing."""

import numpy as np

from millrace.base.ids import IdHasher
from millrace.features.follow_edges import FollowEdges, edges_of
from millrace.stores.follow_graph import FollowGraph


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def pairs(edges: FollowEdges) -> list[tuple[int, int]]:
    rows = zip(edges.followers.tolist(), edges.followees.tolist(), strict=True)
    return [(int(edges.user_ids[a]), int(edges.user_ids[b])) for a, b in rows]


def test_edges_are_sorted_and_none_is_there_twice_or_of_oneself() -> None:
    edges = FollowEdges.of(ids(9, -5, 9, 4, 9), ids(4, 9, 4, 4, -5), more_user_ids=ids(7))
    assert edges.user_ids.tolist() == [-5, 4, 7, 9]
    assert pairs(edges) == [(-5, 9), (9, -5), (9, 4)]
    assert edges.n_following.tolist() == [1, 0, 0, 2]
    assert edges.n_followers.tolist() == [1, 1, 0, 1]
    assert [edges.following().row(i).tolist() for i in range(4)] == [[3], [], [], [0, 1]]
    followers, edge = edges.followed_by()
    assert [followers.row(i).tolist() for i in range(4)] == [[3], [3], [], [0]]
    assert edges.followees[edge].tolist() == [0, 1, 3]
    assert edges.rows_of(ids(4, 5, 9, 10)).tolist() == [1, -1, 3, -1]
    assert pairs(edges.only(np.array([True, False, True]))) == [(-5, 9), (9, 4)]


def test_a_graph_without_edges_has_none() -> None:
    edges = FollowEdges.of(ids(), ids())
    assert (edges.n_users, edges.n_edges, len(edges.following())) == (0, 0, 0)
    assert edges.rows_of(ids(3)).tolist() == [-1]


def test_the_edges_of_the_fold_are_those_that_it_lists() -> None:
    rng = np.random.default_rng(4)
    graph = FollowGraph(IdHasher())
    graph.ingest(rng.integers(1, 60, size=400), rng.integers(1, 60, size=400))
    edges = edges_of(graph)
    assert edges.n_edges == graph.n_edges
    for row, user in enumerate(edges.user_ids.tolist()):
        assert edges.user_ids[edges.following().row(row)].tolist() == sorted(graph.following(user).tolist())
