"""Semantic ids as served: what codes come out, exactly, and what they stand for."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import SchemaError, StoreError
from millrace.base.tokens import mixed_reference
from millrace.content.semantic_ids import FILE_NAME, Codebooks, SemanticIdSettings, hash_level


def books(vectors: list[list[list[float]]]) -> Codebooks:
    array = np.array(vectors, dtype=np.float32)
    n_levels, n_codes, n_dims = array.shape
    return Codebooks(SemanticIdSettings(n_levels=n_levels, n_codes=n_codes, n_dims=n_dims), array)


SMALL = books([[[1, 0], [0, 1]], [[0, 0], [-0.4, 0.8]]])


def test_each_level_takes_the_nearest_to_what_is_left_over() -> None:
    codes = SMALL.encode(np.array([[2.0, 0.0], [0.0, 0.5], [0.6, 0.8]]))
    assert codes.dtype == np.int16
    # (0.6, 0.8) is nearer to (0, 1); (0.6, -0.2) is left, and (0, 0) is nearer to it than (-0.4, 0.8).
    assert codes.tolist() == [[0, 0], [1, 0], [1, 0]]
    assert SMALL.encode(np.array([[0.8, 0.6]])).tolist() == [[0, 1]]
    assert SMALL.decode(np.array([[0, 1]])).tolist() == [pytest.approx([0.6, 0.8])]
    assert SMALL.decode(np.array([[0], [1]])).tolist() == [[1, 0], [0, 1]]


def test_of_equally_near_codes_the_lowest_is_taken() -> None:
    twins = books([[[0, 1], [1, 0], [1, 0], [0, 1]]])
    assert twins.encode(np.array([[1, 0], [0, 1], [1, 1]])).tolist() == [[1], [0], [0]]


def test_a_post_without_a_vector_has_no_codes_at_any_level() -> None:
    vectors = np.array([[0.0, 0.0], [np.nan, 1.0], [1.0, 0.0], [np.inf, 0.0]])
    codes = SMALL.encode_with_hash(vectors, np.array([7, 8, 9, 10]))
    assert (codes[[0, 1, 3]] == -1).all()
    assert codes[2].tolist() == [0, 0, int(hash_level(np.array([9]), 2)[0])]
    assert SMALL.decode(codes[:, :2]).tolist() == [[0, 0], [0, 0], [1, 0], [0, 0]]
    assert SMALL.encode(np.empty((0, 2))).shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_the_kernel_gives_what_numpy_gives_row_by_row(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    codebooks = books(rng.normal(size=(3, 8, 5)).tolist())
    vectors = rng.normal(size=(n, 5))
    codes = codebooks.encode(vectors)
    assert codes.tolist() == codebooks.encode_reference(vectors).tolist()
    assert codes.tolist() == [codebooks.encode(row[None])[0].tolist() for row in vectors]


def test_whole_number_vectors_give_the_codes_of_their_directions() -> None:
    rng = np.random.default_rng(3)
    codebooks = books(rng.normal(size=(2, 8, 4)).tolist())
    whole = rng.integers(-90, 90, size=(50, 4)).astype(np.int8)
    unit = whole / np.linalg.norm(whole.astype(np.float64), axis=1, keepdims=True)
    assert codebooks.encode(whole).tolist() == codebooks.encode(unit).tolist()


def test_the_hash_level_spreads_posts_evenly_and_depends_on_nothing_else() -> None:
    ids = np.arange(1, 6_401, dtype=np.int64)
    codes = hash_level(ids, 64)
    assert np.bincount(codes, minlength=64).min() > 60
    assert hash_level(ids[5:6], 64)[0] == codes[5]
    assert hash_level(np.array([-3]), 64)[0] == mixed_reference((-3 % 2**64) ^ 0x5E3A71C09D4F2B86) % 64


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "new")
    loaded = Codebooks.load(tmp_path / "new")
    assert loaded.settings == SMALL.settings
    assert loaded.vectors.tolist() == SMALL.vectors.tolist()


def test_what_cannot_be_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="train them: millrace train semantic-ids"):
        Codebooks.load(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"half a file")
    with pytest.raises(StoreError, match="cannot be read"):
        Codebooks.load(tmp_path)
    with pytest.raises(SchemaError, match=r"not of shape \(n, 2\)"):
        SMALL.encode(np.zeros((3, 4)))
    with pytest.raises(SchemaError, match="not finite float32"):
        Codebooks(SMALL.settings, np.full((2, 2, 2), np.nan, dtype=np.float32))
