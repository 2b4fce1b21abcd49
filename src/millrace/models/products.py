"""Matrix products of the score graph in one precision or another: float32, or 8 bits with static scales.

In 8 bits every activation is divided by a scale that calibration has fixed (`ranges_of`), so that a number depends on
its own row alone, and no candidate or viewer of a batch changes another's score. Activations are unsigned, around 128
where they have a sign: ONNX Runtime's signed form is several times slower. Weights have a scale for each output, and
seven bits: processors without VNNI add pairs of products in 16 bits, which eight would overflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from millrace.features.encoding.buckets import SCALE
from millrace.models.onnx_graph import CONTRIB, Float32Array, GraphBuilder

Ranges = Mapping[str, float]
"""The magnitude that the input of a product is given room for, by the product's name."""

TAP: Final = "input of "
MAX_WEIGHT: Final = 63

_DENSE: Final = "dense_in.0"  # bytes times `SCALE`: nothing is lost of them
_MAX_BYTE: Final = 255
_ZERO: Final = 128
_SHARES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


class FloatProducts:
    """Products in float32.

    Parameters
    ----------
    g
        Where nodes are added.
    is_tapped
        Whether what products read becomes outputs of the graph, to be calibrated by.
    """

    def __init__(self, g: GraphBuilder, *, is_tapped: bool = False) -> None:
        self._g = g
        self._is_tapped = is_tapped

    def linear(self, name: str, x: str, weight: Float32Array) -> str:
        """Return ``x @ weight.T``; x has two axes."""
        self._tap(name, x)
        return self._g.gemm(x, weight)

    def positive(self, name: str, x: str, weight: Float32Array, bias: Float32Array) -> str:
        """Return ``relu(x @ weight.T + bias)``, to be read by `linear_of_positive` alone."""
        self._tap(name, x)
        return self._g.gemm(x, weight, bias, is_relu=True)

    def linear_of_positive(self, name: str, x: str, weight: Float32Array) -> str:
        """Return ``x @ weight.T`` of what is not negative."""
        return self.linear(name, x, weight)

    def squared(self, names: tuple[str, str], x: str, first: Float32Array, second: Float32Array) -> str:
        """Return ``relu(x @ first.T) ** 2 @ second.T``."""
        self._tap(names[0], x)
        wide = self._g.gemm(x, first, is_relu=True)
        self._tap(names[1], wide)
        return self._g.gemm(self._g.op("Mul", wide, wide), second)

    def by_head(self, name: str, x: str, by_viewer: str, weights: Sequence[Float32Array]) -> tuple[str, ...]:
        """Return projections with a weight for each head: what comes out lies head by head, nothing is transposed.

        Parameters
        ----------
        name
            Of the product.
        x
            Shape (batch * n, d).
        by_viewer
            A value, the shape (batch, n, d).
        weights
            Shape (n_heads, d, d_head) each.

        Returns
        -------
        tuple
            Shape (batch, n_heads, n, d_head) each.
        """
        self._tap(name, x)
        rows = self._viewers(x, by_viewer)
        return tuple(self._g.op("MatMul", rows, self._g.constant(weight)) for weight in weights)

    def _viewers(self, x: str, by_viewer: str) -> str:
        return self._g.op("Unsqueeze", self._g.op("Reshape", x, by_viewer, allowzero=1), self._g.ints(1))

    def _tap(self, name: str, x: str) -> None:
        if self._is_tapped:
            self._g.output(x, TAP + name, ["rows", f"width of {name}"])


class ByteProducts(FloatProducts):
    """Products of unsigned bytes and weights of seven bits, in `FloatProducts`' form.

    Parameters
    ----------
    g
        Where nodes are added.
    ranges
        Found by `ranges_of`.
    """

    def __init__(self, g: GraphBuilder, ranges: Ranges) -> None:
        super().__init__(g)
        self._ranges = ranges

    def linear(self, name: str, x: str, weight: Float32Array) -> str:
        """Return ``x @ weight.T``; x has two axes."""
        scale, zero = self._signed(name)
        return self._product(self._bytes(x, scale, zero), scale, zero, weight.T)

    def positive(self, name: str, x: str, weight: Float32Array, bias: Float32Array) -> str:
        """Return ``x @ weight.T + bias``: what is negative becomes 0 as bytes."""
        scale, zero = (SCALE, 0) if name == _DENSE else self._signed(name)
        return self._product(self._bytes(x, scale, zero), scale, zero, weight.T, bias)

    def linear_of_positive(self, name: str, x: str, weight: Float32Array) -> str:
        """Return ``relu(x) @ weight.T``."""
        scale = self._ranges[name] / _MAX_BYTE
        return self._product(self._bytes(x, scale, 0), scale, 0, weight.T)

    def squared(self, names: tuple[str, str], x: str, first: Float32Array, second: Float32Array) -> str:
        """Return ``relu(x @ first.T) ** 2 @ second.T``; what is in between stays bytes."""
        g = self._g
        scale, zero = self._signed(names[0])
        most = self._ranges[names[1]]
        codes, scales = quantised_weight(first.T)
        given = (self._scale(scale), self._zero(zero))
        wide, none = (self._scale(most / _MAX_BYTE), self._zero(0)), g.constant(np.zeros(codes.shape[1]), np.int8)
        rows = self._bytes(x, scale, zero)
        # No bytes are left for what is negative.
        relu = g.op("QLinearMatMul", rows, *given, g.constant(codes, np.int8), g.constant(scales), none, *wide)
        scale = most * most / _MAX_BYTE
        square = g.op("QLinearMul", relu, *wide, relu, *wide, self._scale(scale), self._zero(0), domain=CONTRIB)
        return self._product(square, scale, 0, second.T)

    def by_head(self, name: str, x: str, by_viewer: str, weights: Sequence[Float32Array]) -> tuple[str, ...]:
        """Return projections with a weight for each head."""
        scale, zero = self._signed(name)
        rows = self._viewers(self._bytes(x, scale, zero), by_viewer)
        return tuple(self._product(rows, scale, zero, weight) for weight in weights)

    def _product(self, x: str, scale: float, zero: int, weight: Float32Array, bias: Float32Array | None = None) -> str:
        codes, scales = quantised_weight(weight)
        g = self._g
        inputs = [x, g.constant(codes, np.int8), self._scale(scale), g.constant(scales), self._zero(zero)]
        if bias is not None:
            inputs += ["", g.constant(bias)]
        return g.op("MatMulIntegerToFloat", *inputs, domain=CONTRIB)

    def _bytes(self, x: str, scale: float, zero: int) -> str:
        return self._g.op("QuantizeLinear", x, self._scale(scale), self._zero(zero))

    def _signed(self, name: str) -> tuple[float, int]:
        return self._ranges[name] / (_ZERO - 1), _ZERO

    def _scale(self, scale: float) -> str:
        return self._g.constant(max(scale, 1e-12))

    def _zero(self, zero: int) -> str:
        return self._g.constant(zero, np.uint8)


def quantised_weight(weight: Float32Array) -> tuple[np.ndarray, Float32Array]:
    """Return a weight, shape (..., in, out), as codes of seven bits, and their scales.

    Returns
    -------
    codes
        Same shape, int8, -63 to 63.
    scales
        Shape (out,), or (..., 1, out) where there are more than two axes; float32.
    """
    largest = np.abs(weight).max(axis=-2, keepdims=True)
    scales = np.maximum(largest / MAX_WEIGHT, 1e-12).astype(np.float32)
    codes = np.rint(weight / scales).astype(np.int8)
    return codes, scales if weight.ndim > 2 else scales[0]


def ranges_of(inputs: Iterable[Mapping[str, Float32Array]]) -> dict[str, float]:
    """Return the range of each product's input by what it was in some runs of a tapped graph.

    The largest magnitude, or the share of it that makes the mean squared error of bytes least: one odd number must not
    take the steps away from all others.

    Parameters
    ----------
    inputs
        Run by run: arrays by product.
    """
    largest: dict[str, float] = {}
    errors: dict[str, np.ndarray] = {}
    runs = list(inputs)
    for run in runs:
        for name, x in run.items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(x).max(initial=0.0)))
    for run in runs:
        for name, x in run.items():
            of_shares = [_squared_error(x, share * largest[name]) for share in _SHARES]
            errors[name] = errors.get(name, 0.0) + np.array(of_shares)
    return {name: _SHARES[int(np.argmin(errors[name]))] * largest[name] for name in largest}


def _squared_error(x: Float32Array, most: float) -> float:
    is_signed = bool((x < 0).any())
    step = max(most, 1e-12) / (_ZERO - 1 if is_signed else _MAX_BYTE)
    rounded = np.clip(np.rint(x / step), -_ZERO if is_signed else 0, _ZERO - 1 if is_signed else _MAX_BYTE) * step
    return float(np.square(rounded - x, dtype=np.float64).sum())
