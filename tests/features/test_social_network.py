"""The social encoder in NumPy: what it reads, and means over lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import SchemaError
from millrace.features.social_network import (
    Degrees,
    SocialNetwork,
    SocialShape,
    UserContent,
    neighbour_means,
    neighbour_means_reference,
    signatures,
    user_inputs,
)
from millrace.pipeline.ragged import Ragged

SMALL = SocialShape(n_layers=1, dim=2, hidden=2, n_signature=64)


def test_degrees_are_read_as_log2_buckets_and_as_a_number() -> None:
    degrees = np.array([0, 1, 2, 3, 4, 10**9])
    inputs = user_inputs(np.arange(6), Degrees(degrees, degrees[::-1]), UserContent(), SMALL)
    assert inputs.shape == (6, SMALL.n_inputs)
    assert inputs[:, :16].argmax(axis=1).tolist() == [0, 1, 2, 2, 3, 15]
    assert inputs[:, 17:33].argmax(axis=1).tolist() == [15, 3, 2, 2, 1, 0]
    assert inputs[:, 16] == pytest.approx(np.log1p(degrees) / 10)


def test_content_and_languages_are_read_as_they_are_and_must_fit() -> None:
    shape = SocialShape(n_languages=2)
    degrees = Degrees(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64))
    content = np.zeros((2, 64), dtype=np.float32)
    content[1, 5] = 0.5
    languages = np.array([[0, 1], [1, 1]], dtype=np.float32)
    inputs = user_inputs(np.array([1, 2]), degrees, UserContent(content, languages), shape)
    assert inputs[:, 34 : 34 + 65].tolist() == [[0.0] * 65, [0.0] * 5 + [0.5] + [0.0] * 58 + [1.0]]
    assert inputs[:, -2:].tolist() == languages.tolist()
    with pytest.raises(SchemaError, match=r"languages of users \(2, 2\): not of shape \(2, 0\)"):
        user_inputs(np.array([1, 2]), degrees, UserContent(content, languages), SMALL)


def test_signatures_are_of_the_id_alone_and_nearly_at_right_angles() -> None:
    many = signatures(np.arange(1, 301), 128)
    assert many[41].tolist() == signatures(np.array([42]), 128)[0].tolist()
    products = (many @ many.T).astype(np.float64)
    assert np.diag(products) == pytest.approx(1.0)
    assert abs(products[np.triu_indices(300, 1)].mean()) < 0.005
    assert products[np.triu_indices(300, 1)].std() == pytest.approx(128**-0.5, rel=0.05)
    assert signatures(np.array([1]), 0).shape == (1, 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=9))
def test_means_over_lists_are_those_of_each_list(lists: list[list[int]]) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    neighbours = Ragged.from_rows(lists, np.dtype(np.int64))
    means = neighbour_means(values, neighbours)
    assert np.allclose(means, neighbour_means_reference(values, neighbours), atol=1e-6)
    wanted = [values[rows].mean(axis=0) if rows else np.zeros(3) for rows in lists]
    assert np.allclose(means, np.reshape(wanted, (-1, 3)), atol=1e-6)


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in SMALL.weight_shapes().items()}
    SocialNetwork(SMALL, weights)
    with pytest.raises(SchemaError, match=r"weight layers.0.bias \(5,\): missing or not finite"):
        SocialNetwork(SMALL, {**weights, "layers.0.bias": np.zeros(5, dtype=np.float32)})
    with pytest.raises(SchemaError, match=r"weight inputs\.bias: missing"):
        SocialNetwork(SMALL, {name: weight for name, weight in weights.items() if name != "inputs.bias"})
