"""Kept vectors of posts: what they are made of is what finds them, and nothing of a page depends on the cache."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import MAX_TOKENS, UInt16Array
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.languages import N_LANGUAGE_ROWS
from millrace.inference.assembler import Assembler
from millrace.inference.content_cache import N_WAYS, ContentCache, content_keys, projected
from millrace.inference.tables import EmbeddingTables
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig

D, WIDTH, N_DENSE = 8, 4, 3
CONFIG = RankerConfig(
    trunk=TrunkConfig(d=D, n_heads=2, tables=TableConfig(width=WIDTH, n_token_rows=64, n_post_rows=32)),
    actions=("like",),
    n_dense=N_DENSE,
)
RNG = np.random.default_rng(3)
TABLES = EmbeddingTables(*(RNG.normal(size=(rows, WIDTH)).astype(np.float32) for rows in (64, 32, 32, N_LANGUAGE_ROWS)))
WEIGHT = RNG.normal(size=(D, 5 * WIDTH)).astype(np.float32)


def a_cache(max_bytes: int = 1 << 16) -> ContentCache:
    return ContentCache(Assembler(CONFIG, TABLES), WEIGHT, max_bytes)


def some_inputs(post_ids: list[int], author_ids: list[int] | None = None, language: int = 1) -> CandidateInputs:
    n = len(post_ids)
    return CandidateInputs(
        np.array(post_ids, dtype=np.int64),
        np.array(author_ids or [9] * n, dtype=np.int64),
        np.full(n, language, dtype=np.uint8),
        np.arange(n * N_DENSE, dtype=np.uint8).reshape(n, N_DENSE),
    )


def tokens_of(post_ids: Int64Array, shift: int = 0) -> UInt16Array:
    """Return texts of as many tokens as the post's id says, at most ten."""
    column = np.arange(MAX_TOKENS)
    tokens = np.where(column < post_ids[:, None] % 11, (post_ids[:, None] + column + shift) % 63 + 1, 0)
    return tokens.astype(np.uint16)


def test_a_candidate_is_its_projected_content_and_its_dense_fields() -> None:
    inputs = some_inputs([3, 4, 5])
    floats = a_cache().candidates(inputs, tokens_of)
    assert floats.shape == (1, 3, CONFIG.scored_width)
    sparse = Assembler(CONFIG, TABLES).posts(inputs, tokens_of(inputs.post_ids))
    np.testing.assert_allclose(floats[0, :, :D], sparse @ WEIGHT.T, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(floats[0, :, D:], inputs.dense * np.float32(SCALE))


def test_what_was_made_once_is_found_and_is_the_same_to_the_bit() -> None:
    cache = a_cache()
    first = cache.candidates(some_inputs([3, 4, 5]), tokens_of)
    again = cache.candidates(some_inputs([5, 3]), tokens_of)
    np.testing.assert_array_equal(again[0, :, :D], first[0, [2, 0], :D])
    assert cache.counts[:2] == (2, 3)
    assert cache.counts.n_bytes == 3 * (4 * D + 24) <= cache.counts.max_bytes


@pytest.mark.parametrize(
    ("changed", "shift"),
    [(some_inputs([3], [10]), 0), (some_inputs([3], language=2), 0), (some_inputs([3]), 1)],
    ids=["reposted by another", "in another language", "edited"],
)
def test_what_a_vector_is_made_of_is_what_finds_it(changed: CandidateInputs, shift: int) -> None:
    cache = a_cache()
    before = cache.candidates(some_inputs([3]), tokens_of)
    after = cache.candidates(changed, lambda ids: tokens_of(ids, shift))
    assert cache.counts.n_hits == 0
    assert np.abs(after - before)[0, :, :D].max() > 1e-3
    np.testing.assert_array_equal(after, a_cache().candidates(changed, lambda ids: tokens_of(ids, shift)))


def test_a_full_cache_gives_up_what_was_not_asked_for_longest() -> None:
    cache = a_cache(0)
    ids = list(range(1, N_WAYS + 1))
    for one in ids:
        cache.candidates(some_inputs([one]), tokens_of)
    cache.candidates(some_inputs([1]), tokens_of)
    cache.candidates(some_inputs([100]), tokens_of)
    n_hits = cache.counts.n_hits
    cache.candidates(some_inputs([1, 100, *ids[2:]]), tokens_of)
    assert cache.counts.n_hits == n_hits + N_WAYS
    cache.candidates(some_inputs([2]), tokens_of)
    assert cache.counts.n_hits == n_hits + N_WAYS


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), max_size=30), max_size=6))
def test_pages_do_not_depend_on_the_cache(pages: list[list[int]]) -> None:
    small = a_cache(0)
    for page in pages:
        inputs = some_inputs(page)
        np.testing.assert_array_equal(small.candidates(inputs, tokens_of), a_cache().candidates(inputs, tokens_of))


def test_keys_tell_all_parts_apart_and_are_never_zero() -> None:
    ids = np.arange(1, 2001, dtype=np.int64)
    none = np.zeros(2000, dtype=np.uint8)
    keys = [
        content_keys(ids, ids, none, tokens_of(ids)),
        content_keys(ids, ids + 1, none, tokens_of(ids)),
        content_keys(ids, ids, none + np.uint8(1), tokens_of(ids)),
        content_keys(ids, ids, none, tokens_of(ids, 1)[:, ::-1].copy()),
    ]
    assert len(np.unique(np.concatenate(keys[:3]))) == 6000
    assert len(np.unique(np.concatenate([keys[0], keys[3]]))) > 3600  # posts without tokens stay as they are
    assert np.concatenate(keys).all()


def test_rows_are_projected_alike_alone_and_together() -> None:
    rng = np.random.default_rng(1)
    sparse, weight = rng.normal(size=(7, 20)).astype(np.float32), rng.normal(size=(20, 8)).astype(np.float32)
    together = projected(sparse, weight)
    np.testing.assert_allclose(together, sparse @ weight, rtol=0, atol=1e-5)
    for i in range(7):
        np.testing.assert_array_equal(projected(sparse[i : i + 1], weight)[0], together[i])


def test_a_projection_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="projection"):
        ContentCache(Assembler(CONFIG, TABLES), WEIGHT[:, 1:], 1 << 16)
