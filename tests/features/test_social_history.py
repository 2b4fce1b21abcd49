"""`SocialHistory`: nobody's vector is of a later time than whoever reads it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import SchemaError, StoreError
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.features.encoding.vector_sources import VectorSources
from millrace.features.follow_edges import FollowEdges
from millrace.features.social_graph import SocialGraph
from millrace.features.social_history import FILE_NAME, SocialHistory
from millrace.features.social_network import SocialNetwork, SocialShape, UserContent
from millrace.features.social_vectors import SocialVectors

SHAPE = SocialShape(n_layers=2, dim=4, hidden=6, n_signature=64)


def network(seed: int = 0) -> SocialNetwork:
    rng = np.random.default_rng(seed)
    return SocialNetwork(
        SHAPE, {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPE.weight_shapes().items()}
    )


def a_graph(*edges: tuple[int, int]) -> SocialGraph:
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return SocialGraph(FollowEdges.of(pairs[:, 0], pairs[:, 1]), UserContent())


@cache
def a_history(seed: int = 0) -> SocialHistory:
    """Nobody at 100; users 1 and 2 at 200; 1, 2 and 3 at 300."""
    return SocialHistory.of(
        network(seed), 250, [(100, a_graph()), (200, a_graph((1, 2))), (300, a_graph((1, 2), (3, 2), (2, 3)))]
    )


def test_a_vector_is_that_of_the_newest_moment_not_after_the_time() -> None:
    history = a_history()
    vectors, has_vector = history.vectors(np.array([1, 1, 1, 1, 3, 3, 9]), np.array([99, 150, 200, 300, 299, 900, 900]))
    assert has_vector.tolist() == [False, False, True, True, False, True, False]
    assert not vectors[~has_vector].any()
    now = SocialVectors(network())
    now.refresh(a_graph((1, 2), (3, 2), (2, 3)).edges)
    assert np.array_equal(vectors[[3, 5]], now.vectors(np.array([1, 3]))[0])
    assert (vectors[2] != vectors[3]).any()
    assert history.vectors(np.array([], dtype=np.int64), np.array([], dtype=np.int64))[0].shape == (0, 4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), max_size=20))
def test_it_finds_what_a_search_row_by_row_does(wanted: list[tuple[int, int]]) -> None:
    history = a_history()
    users, times = np.array(wanted, dtype=np.int64).reshape(-1, 2).T
    vectors, has_vector = history.vectors(users, times)
    for row, (user, time_ms) in enumerate(wanted):
        moment = sum(as_of_ms <= time_ms for as_of_ms in history.as_of_ms.tolist()) - 1
        there = slice(*history.starts[max(moment, 0) : max(moment, 0) + 2].tolist())
        at = np.flatnonzero(history.user_ids[there] == user)
        assert has_vector[row] == (moment >= 0 and len(at) == 1)
        if has_vector[row]:
            assert np.array_equal(vectors[row], history.values[there][at[0]])


def test_what_is_saved_is_loaded_and_damage_is_named(tmp_path: Path) -> None:
    history = a_history()
    history.save(tmp_path)
    loaded = SocialHistory.load(tmp_path)
    assert (loaded.encoder, loaded.learned_until_ms) == (network().digest(), 250)
    for name in ("as_of_ms", "starts", "user_ids", "values"):
        assert np.array_equal(getattr(loaded, name), getattr(history, name))
    (tmp_path / FILE_NAME).write_bytes(b"")
    with pytest.raises(StoreError, match="train social"):
        SocialHistory.load(tmp_path)


def test_sources_are_kept_whole_and_an_encoder_without_its_history_is_refused(tmp_path: Path) -> None:
    books = Codebooks(SemanticIdSettings(n_levels=1, n_codes=2, n_dims=3), np.ones((1, 2, 3), dtype=np.float32))
    sources = VectorSources(books, SocialVectors(network()), a_history())
    sources.save(tmp_path)
    loaded = VectorSources.load(tmp_path)
    assert loaded.semantic_ids_digest == books.digest() != ""
    assert loaded.social_digest == network().digest() != network(1).digest()
    assert loaded.social_width == 4
    with pytest.raises(SchemaError, match="not of the encoder"):
        VectorSources(social=SocialVectors(network(1)), social_history=a_history())
    with pytest.raises(SchemaError, match="not of the encoder"):
        VectorSources(social=SocialVectors(network()))
    VectorSources().save(tmp_path)  # a later training of the same folder that reads none
    assert not any(tmp_path.iterdir())
    nothing = VectorSources.load(tmp_path)
    assert (nothing.codebooks, nothing.social, nothing.social_width, nothing.social_digest) == (None, None, 0, "")
