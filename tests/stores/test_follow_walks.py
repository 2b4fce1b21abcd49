import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.follow_walks import friends_of_friends, friends_of_friends_reference

ids = st.integers(1, 9)


def a_graph(edges: list[tuple[int, int]]) -> FollowGraph:
    graph = FollowGraph(IdHasher())
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph.ingest(pairs[:, 0], pairs[:, 1])
    return graph


@settings(max_examples=80, deadline=None)
@given(
    edges=st.lists(st.tuples(ids, ids), max_size=50),
    seeds=st.lists(st.integers(0, 12), max_size=6),
    left_out=st.lists(st.integers(0, 12), max_size=6),
    max_per_seed=st.integers(0, 5),
    min_seeds=st.integers(0, 3),
    max_users=st.integers(0, 6),
)
def test_agrees_with_the_reference(
    edges: list[tuple[int, int]],
    seeds: list[int],
    left_out: list[int],
    max_per_seed: int,
    min_seeds: int,
    max_users: int,
) -> None:
    graph = a_graph(edges)
    limits = {
        "max_per_seed": max_per_seed,
        "min_seeds": min_seeds,
        "max_users": max_users,
        "left_out": np.array(left_out, dtype=np.int64),
    }
    seed_ids = np.array(seeds, dtype=np.int64)
    found = friends_of_friends(graph, seed_ids, **limits)
    wanted = friends_of_friends_reference(graph, seed_ids, **limits)
    assert found.user_ids.tolist() == wanted.user_ids.tolist()
    assert found.n_seeds.tolist() == wanted.n_seeds.tolist()


@pytest.mark.parametrize("max_per_seed", [2, 100])
def test_whom_most_follow_comes_first_and_only_the_newest_follows_count(max_per_seed: int) -> None:
    graph = a_graph([(10, 30), (10, 31), (10, 32), (11, 31), (11, 32), (12, 32)])
    found = friends_of_friends(
        graph,
        np.array([10, 11, 12]),
        max_per_seed=max_per_seed,
        left_out=np.array([], dtype=np.int64),
        min_seeds=1,
        max_users=10,
    )
    assert found.user_ids.tolist() == [32, 31] + ([30] if max_per_seed == 100 else [])
    assert found.n_seeds.tolist()[:2] == [3, 2]
