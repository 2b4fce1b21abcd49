"""`SocialLookup` and `SocialGraph`: vectors of the last refresh, and of whoever came after it."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import IdHasher, IdKind
from millrace.content.config import ContentConfig
from millrace.content.text_index import TextIndex
from millrace.content.vectors import text_vectors
from millrace.features.follow_edges import edges_of
from millrace.features.social_graph import SocialGraph
from millrace.features.social_lookup import SocialLookup
from millrace.features.social_network import SocialNetwork, SocialShape
from millrace.features.social_vectors import SocialVectors
from millrace.pipeline.ragged import Ragged
from millrace.stores.follow_graph import FollowGraph
from millrace.testing.builders import a_batch_of, a_post_created, a_post_deleted

SHAPE = SocialShape(n_layers=2, dim=4, hidden=6, n_signature=64)
HASHER = IdHasher()


def network() -> SocialNetwork:
    rng = np.random.default_rng(0)
    return SocialNetwork(
        SHAPE, {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPE.weight_shapes().items()}
    )


def a_follow_graph(*edges: tuple[int, int]) -> FollowGraph:
    graph = FollowGraph(HASHER)
    pairs = np.array(edges, dtype=np.int64)
    graph.ingest(pairs[:, 0].copy(), pairs[:, 1].copy())
    return graph


def refreshed(graph: FollowGraph) -> SocialVectors:
    vectors = SocialVectors(network())
    vectors.refresh(edges_of(graph))
    return vectors


def test_known_users_have_the_vectors_of_the_refresh_and_strangers_none() -> None:
    graph = a_follow_graph((1, 2), (2, 3), (3, 1))
    lookup = SocialLookup(refreshed(graph), graph)
    found, has_vector = lookup.vectors(np.array([3, 99, 1, 0]))
    assert has_vector.tolist() == [True, False, True, False]
    assert np.array_equal(found[[0, 2]], refreshed(graph).vectors(np.array([3, 1]))[0])
    assert not found[[1, 3]].any()
    assert lookup.dim == 4


def test_who_came_after_the_refresh_is_made_of_whom_they_follow_and_who_follows_them() -> None:
    graph = a_follow_graph((1, 2), (2, 3), (3, 1))
    old = refreshed(graph)
    lookup = SocialLookup(old, graph)
    graph.ingest(np.array([4, 1, 5]), np.array([2, 4, 6]))
    found, has_vector = lookup.vectors(np.array([4, 1, 5]))
    assert has_vector.tolist() == [True, True, False]  # 5 follows somebody of whom nothing is known either
    following, followers = (Ragged.from_rows([row], np.dtype(np.int64)) for row in ([2], [1]))
    expected, _ = old.aggregate_new(np.array([4]), following, followers=followers)
    assert np.abs(found[0] - expected[0]).max() < 1e-6
    assert np.array_equal(found[1], old.vectors(np.array([1]))[0][0])
    assert not found[2].any()


def test_a_refresh_takes_the_place_of_the_last_and_changes_the_version() -> None:
    graph = a_follow_graph((1, 2), (2, 3), (3, 1))
    lookup = SocialLookup(refreshed(graph), graph)
    before, version = lookup.vectors(np.array([1]))[0], lookup.version()
    graph.ingest(np.array([4, 1]), np.array([1, 3]))
    assert lookup.version() == version
    lookup.replace(refreshed(graph))
    assert lookup.version() != version
    assert (lookup.vectors(np.array([1]))[0] != before).any()


def test_a_graph_has_those_who_wrote_and_the_direction_of_what_they_wrote() -> None:
    texts = TextIndex(ContentConfig(max_posts=10), HASHER)
    words = ("an old mill on a stream", "election results tonight")
    posts = [a_post_created(str(i), "ann", text=text) for i, text in enumerate(words)]
    gone = [a_post_created("9", "bob", text="soon gone"), a_post_deleted("9")]
    texts.apply(a_batch_of([*posts, *gone]))
    found = SocialGraph.of(a_follow_graph((1, 2)), texts)
    ann, bob = (HASHER.one(IdKind.USER, name) for name in ("ann", "bob"))
    assert sorted([1, 2, ann]) == found.edges.user_ids.tolist()
    assert bob not in found.edges.user_ids
    assert found.edges.n_edges == 1
    mean = text_vectors(words).astype(np.float64).sum(axis=0)
    assert found.known.content is not None
    row = int(np.searchsorted(found.edges.user_ids, ann))
    assert np.abs(found.known.content[row] - mean / np.linalg.norm(mean)).max() < 1e-6
    assert not np.delete(found.known.content, row, axis=0).any()
