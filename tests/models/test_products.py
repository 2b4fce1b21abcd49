"""Products of bytes: near those of float32, and each row by itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

import onnxruntime

from millrace.features.encoding.buckets import SCALE
from millrace.models.onnx_graph import GraphBuilder
from millrace.models.products import MAX_WEIGHT, TAP, ByteProducts, FloatProducts, quantised_weight, ranges_of

RNG = np.random.default_rng(2)
N, D, WIDE = 40, 32, 48


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


X, SQUARE, UP, DOWN = normal(N, D), normal(D, D), normal(WIDE, D), normal(D, WIDE)
BIAS, HEADS = normal(WIDE), normal(4, D, 8)
RANGES = {"a": 4.0, "up": 4.0, "down": 30.0, "b": 30.0}


def run(make: object, x: np.ndarray, ranges: dict[str, float] | None) -> np.ndarray:
    g = GraphBuilder("products")
    given = g.input("x", ["n", x.shape[1]])
    products = FloatProducts(g) if ranges is None else ByteProducts(g, ranges)
    g.output(make(g, products, given), "y", [])  # type: ignore[operator]
    model = g.model({})
    model.graph.output[0].type.tensor_type.ClearField("shape")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def by_head(g: GraphBuilder, products: FloatProducts, x: str) -> str:
    (y,) = products.by_head("a", x, g.ints(2, N // 2, D), [HEADS])
    return y


MAKES = {
    "linear": lambda _, products, x: products.linear("a", x, SQUARE),
    "by head": by_head,
    "squared": lambda _, products, x: products.squared(("up", "down"), x, UP, DOWN),
    "positive": lambda _, products, x: products.linear_of_positive("b", products.positive("a", x, UP, BIAS), DOWN),
}


@pytest.mark.parametrize("name", MAKES)
def test_bytes_come_near_float32_and_rows_stand_alone(name: str) -> None:
    exact, near = run(MAKES[name], X, None), run(MAKES[name], X, RANGES)
    assert near.shape == exact.shape
    assert np.abs(near - exact).std() < 0.03 * exact.std()
    if name != "by head":
        wild = X.copy()
        wild[1:] *= 1_000.0
        np.testing.assert_array_equal(run(MAKES[name], wild, RANGES)[0], near[0])


def test_float32_products_are_those_of_numpy() -> None:
    np.testing.assert_allclose(run(MAKES["linear"], X, None), X @ SQUARE.T, rtol=0, atol=1e-4)
    squared = np.maximum(X @ UP.T, 0.0) ** 2 @ DOWN.T
    np.testing.assert_allclose(run(MAKES["squared"], X, None), squared, rtol=1e-4, atol=1e-2)
    heads = np.stack([rows[None] @ HEADS for rows in X.reshape(2, N // 2, D)])
    np.testing.assert_allclose(run(by_head, X, None), heads, rtol=0, atol=1e-4)


def test_nothing_is_lost_of_dense_fields() -> None:
    dense = RNG.integers(0, 256, (N, D)).astype(np.float32) * np.float32(SCALE)
    weight = np.diag(np.arange(1, D + 1)).astype(np.float32)
    found = run(lambda _, products, x: products.positive("dense_in.0", x, weight, normal(D) * 0), dense, {})
    np.testing.assert_allclose(found, dense @ weight.T, rtol=1e-6)


@pytest.mark.parametrize("shape", [(D, WIDE), (4, D, 8)])
def test_weights_are_seven_bits_with_a_scale_for_each_output(shape: tuple[int, ...]) -> None:
    weight = normal(*shape)
    codes, scales = quantised_weight(weight)
    assert codes.dtype == np.int8
    assert np.abs(codes).max(axis=-2).min() == np.abs(codes).max() == MAX_WEIGHT
    assert np.abs(codes * scales - weight).max() <= scales.max() / 2 + 1e-6
    assert scales.shape == (shape[-1:] if len(shape) == 2 else (4, 1, 8))


def test_an_output_of_zeros_stays_zero() -> None:
    codes, _ = quantised_weight(np.zeros((D, 2), dtype=np.float32))
    assert not codes.any()


def test_a_range_is_the_largest_magnitude_unless_it_is_one_of_a_kind() -> None:
    even = RNG.uniform(-2.0, 2.0, (1_000, 4)).astype(np.float32)
    assert ranges_of([{"a": even}, {"a": even * np.float32(0.5)}])["a"] == pytest.approx(2.0, abs=0.01)
    odd = normal(100_000, 1) * np.float32(0.1)
    odd[0] = 2.0
    assert ranges_of([{"a": odd}])["a"] < 1.9


def test_taps_are_what_products_read() -> None:
    g = GraphBuilder("tapped")
    products = FloatProducts(g, is_tapped=True)
    g.output(products.squared(("up", "down"), g.input("x", ["n", D]), UP, DOWN), "y", ["n", D])
    session = onnxruntime.InferenceSession(g.model({}).SerializeToString(), providers=["CPUExecutionProvider"])
    up, down = session.run([TAP + "up", TAP + "down"], {"x": X})
    np.testing.assert_array_equal(up, X)
    np.testing.assert_allclose(down, np.maximum(X @ UP.T, 0.0), rtol=0, atol=1e-4)
