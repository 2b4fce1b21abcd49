"""Social vectors as served: refreshed, aggregated for newcomers, saved."""

from pathlib import Path

import numpy as np
import pytest

from millrace.base.errors import SchemaError, StoreError
from millrace.features.follow_edges import FollowEdges
from millrace.features.social_network import Float32Array, SocialNetwork, SocialShape, UserContent
from millrace.features.social_vectors import FILE_NAME, SocialVectors
from millrace.pipeline.ragged import Ragged

SHAPE = SocialShape(dim=8, hidden=16, n_signature=64)


def network(seed: int = 0) -> SocialNetwork:
    rng = np.random.default_rng(seed)
    return SocialNetwork(
        SHAPE, {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPE.weight_shapes().items()}
    )


def graph(n_users: int = 50, n_edges: int = 300) -> tuple[FollowEdges, UserContent]:
    rng = np.random.default_rng(1)
    edges = FollowEdges.of(rng.integers(1, n_users, size=n_edges), rng.integers(1, n_users, size=n_edges))
    content = rng.normal(size=(edges.n_users, 64)).astype(np.float32)
    content[::3] = 0.0
    return edges, UserContent(content)


def by_hand(edges: FollowEdges, inputs_of_first: Float32Array, net: SocialNetwork) -> Float32Array:
    """The encoder user by user, in float64."""
    values = inputs_of_first.astype(np.float64)
    follows = {(a, b) for a, b in zip(edges.followers.tolist(), edges.followees.tolist(), strict=True)}
    for layer in range(SHAPE.n_layers):
        weight, bias = net.weights[f"layers.{layer}.weight"], net.weights[f"layers.{layer}.bias"]
        given = []
        for user in range(edges.n_users):
            out = [values[b] for a, b in follows if a == user] or [np.zeros(values.shape[1])]
            came = [values[a] for a, b in follows if b == user] or [np.zeros(values.shape[1])]
            one = weight @ np.concatenate([values[user], np.mean(out, axis=0), np.mean(came, axis=0)]) + bias
            one = np.maximum(one, 0) if layer < SHAPE.n_layers - 1 else one
            given.append(one / np.linalg.norm(one))
        values = np.array(given)
    return values.astype(np.float32)


def test_a_refresh_is_three_layers_of_means_over_all_neighbours() -> None:
    edges, known = graph(12, 30)
    vectors = SocialVectors(network())
    vectors.refresh(edges, known)
    found, has_vector = vectors.vectors(edges.user_ids)
    assert has_vector.all()
    assert np.allclose(found, by_hand(edges, vectors._table.layers[0], vectors.network), atol=1e-5)


def test_who_is_not_in_the_graph_has_no_vector() -> None:
    vectors = SocialVectors(network())
    found, has_vector = vectors.vectors(np.array([4, 5]))
    assert (found.shape, found.any(), has_vector.tolist()) == ((2, 8), False, [False, False])
    edges, known = graph()
    vectors.refresh(edges, known)
    found, has_vector = vectors.vectors(np.array([10_000, edges.user_ids[3], -1]))
    assert has_vector.tolist() == [False, True, False]
    assert np.linalg.norm(found, axis=1) == pytest.approx([0, 1, 0], abs=1e-6)


def test_a_user_aggregated_with_the_same_neighbours_has_the_vector_of_the_refresh() -> None:
    edges, known = graph()
    vectors = SocialVectors(network())
    vectors.refresh(edges, known)
    rows = np.array([0, 7, 20])
    following, (followers, _) = edges.following(), edges.followed_by()
    out, came = following.take(rows), followers.take(rows)
    found, has_vector = vectors.aggregate_new(
        edges.user_ids[rows],
        Ragged(edges.user_ids[out.values], out.offsets),
        followers=Ragged(edges.user_ids[came.values], came.offsets),
        known=UserContent(known.content[rows]),  # type: ignore[index]
    )
    assert has_vector.all()
    assert np.allclose(found, vectors.vectors(edges.user_ids[rows])[0], atol=1e-6)


def test_followees_who_are_not_known_count_and_say_nothing() -> None:
    vectors = SocialVectors(network())
    vectors.refresh(FollowEdges.of(np.array([1, 2, 3]), np.array([2, 3, 4])))
    lists = Ragged.from_rows([[2, 4], [2, 777, 4], [2, 778, 4]], np.dtype(np.int64))
    found, has_vector = vectors.aggregate_new(np.array([99, 99, 99]), lists)
    assert has_vector.all()
    assert found[1].tolist() == found[2].tolist() != found[0].tolist()


def test_of_whom_nothing_is_known_there_is_no_vector() -> None:
    vectors = SocialVectors(network())
    vectors.refresh(*graph())
    lists = Ragged.from_rows([[], [10_000], []], np.dtype(np.int64))
    content = np.zeros((3, 64), dtype=np.float32)
    content[2] = 1.0
    found, has_vector = vectors.aggregate_new(np.array([801, 802, 803]), lists, known=UserContent(content))
    assert has_vector.tolist() == [False, False, True]
    assert not found[:2].any()
    with pytest.raises(SchemaError, match="followees of new users 3: not 1 lists"):
        vectors.aggregate_new(np.array([801]), lists)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    edges, known = graph()
    vectors = SocialVectors(network())
    vectors.refresh(edges, known)
    vectors.save(tmp_path / "new")
    loaded = SocialVectors.load(tmp_path / "new")
    assert loaded.dim == 8
    assert loaded.vectors(edges.user_ids)[0].tobytes() == vectors.vectors(edges.user_ids)[0].tobytes()
    lists = Ragged.from_rows([[int(edges.user_ids[3])]], np.dtype(np.int64))
    newcomer = np.array([900])
    assert loaded.aggregate_new(newcomer, lists)[0].tolist() == vectors.aggregate_new(newcomer, lists)[0].tolist()


def test_what_cannot_be_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="train the encoder: millrace train social"):
        SocialVectors.load(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"PK half a file")
    with pytest.raises(StoreError, match="cannot be read"):
        SocialVectors.load(tmp_path)
