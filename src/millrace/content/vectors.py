"""Text vectors from hashed n-grams: no model, no vocabulary, any script, the same bytes on every machine.

Features of a text are its words and symbols, the character 3-grams of its words (so that forms of one word are alike),
and, in scripts without spaces, characters and pairs of them. Each feature adds or takes away, in one of 64 places that
its hash decides, a weight times the root of how often it occurs: repeating a word does not buy likeness. Short words
weigh less: in every language the commonest words are short, and they say least about what a text is about.

All sums are of whole numbers, so their order and the machine do not matter; the last step alone divides.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.tokens import (
    ALONE,
    PUNCTUATION,
    SYMBOL,
    WORD,
    Tokens,
    UInt8Array,
    UInt32Array,
    UInt64Array,
    mixed,
    mixed_reference,
    tokenise,
)

Int8Array = npt.NDArray[np.int8]

N_DIMS: Final = 64
SCALE: Final = 127
"""A vector of length 1 is kept as whole numbers of length about 127."""

_N_WORD_LENGTHS: Final = 8
_WORD_WEIGHTS: Final = (0, 0, 1, 4, 8, 12, 14, 16, 16)
"""Weight of a word by its length in characters; longer ones weigh as the last."""
_GRAM_WEIGHT: Final = 12
_CHARACTER_WEIGHT: Final = 4
_PAIR_WEIGHT: Final = 12
_SYMBOL_WEIGHT: Final = 12

_ROOTS: Final = np.array([math.isqrt(n << 16) for n in range(256)], dtype=np.int64)
"""The root of how often, times 256."""

_EDGE: Final = 0x1FFFFF  # beside a word's first and last character in its 3-grams; no code point
_GRAM_SALT: Final = np.uint64(0x8D3C1A5F72E94B61)
_PAIR_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_SIGN: Final = np.uint64(N_DIMS)
_DIM_MASK: Final = np.uint64(N_DIMS - 1)
_MASK: Final = (1 << 64) - 1


def text_vectors(texts: Sequence[str]) -> Int8Array:
    """Return the vectors of many texts, shape (n, 64), int8; zeros for a text of which nothing can be said."""
    tokens = tokenise(texts)
    return _vectors(tokens.hashes, tokens.kinds, tokens.starts, tokens.ends, tokens.offsets, tokens.points)


def quantised(vectors: npt.NDArray[np.floating]) -> Int8Array:
    """Return vectors of any length as int8 of length about 127, shape (n, 64); zeros where there is no direction."""
    plain = np.asarray(vectors, dtype=np.float64).reshape(-1, N_DIMS)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # Scaled by the largest first: squares of very large and very small numbers leave the range.
        plain = plain / np.abs(plain).max(axis=1, keepdims=True, initial=0.0)
        unit = plain / np.sqrt(np.square(plain).sum(axis=1, keepdims=True))
    whole: Int8Array = np.rint(np.where(np.isfinite(unit).all(axis=1, keepdims=True), unit, 0.0) * SCALE).astype(
        np.int8
    )
    return whole


def text_vector_reference(text: str) -> Int8Array:
    """Return what `text_vectors` returns for one text, shape (64,), in plain Python."""
    sums = [0] * N_DIMS
    features = list(_features_reference(tokenise([text])))
    weights = dict(features)
    for feature, n in Counter(feature for feature, _ in features).items():
        amount = weights[feature] * math.isqrt(min(n, 255) << 16)
        sums[feature % N_DIMS] += -amount if feature & N_DIMS else amount
    length = math.sqrt(sum(amount * amount for amount in sums))
    return np.array([round(amount * SCALE / length) if length else 0 for amount in sums], dtype=np.int8)


def _features_reference(tokens: Tokens) -> Iterator[tuple[int, int]]:
    for i, kind in enumerate(tokens.kinds.tolist()):
        word = int(tokens.hashes[i])
        points = tokens.points[tokens.starts[i] : tokens.ends[i]].tolist()
        if kind == WORD:
            yield word, _WORD_WEIGHTS[min(len(points), _N_WORD_LENGTHS)]
            padded = [_EDGE, *points, _EDGE]
            for a, b, c in zip(padded, padded[1:], padded[2:], strict=False):
                yield mixed_reference((a << 42 | b << 21 | c) ^ int(_GRAM_SALT)), _GRAM_WEIGHT
        elif kind == ALONE:
            yield word, _CHARACTER_WEIGHT
            if i > 0 and tokens.kinds[i - 1] == ALONE and tokens.ends[i - 1] == tokens.starts[i]:
                yield mixed_reference((int(tokens.hashes[i - 1]) * int(_PAIR_BASE) + word) & _MASK), _PAIR_WEIGHT
        elif kind != PUNCTUATION:
            yield word, _SYMBOL_WEIGHT


@njit(cache=True, inline="always")
def _count(keys: UInt64Array, counts: Int64Array, weights: Int64Array, feature: np.uint64, weight: int) -> None:
    """Count a feature in the text's table; a table is kept at most half full by its size."""
    mask = np.uint64(len(keys) - 1)
    slot = (feature >> np.uint64(7)) & mask
    while counts[slot] != 0 and keys[slot] != feature:
        slot = (slot + np.uint64(1)) & mask
    keys[slot] = feature
    counts[slot] += 1
    weights[slot] = weight


@njit(cache=True)
def _vectors(
    hashes: UInt64Array,
    kinds: UInt8Array,
    starts: Int64Array,
    ends: Int64Array,
    offsets: Int64Array,
    points: UInt32Array,
) -> Int8Array:
    vectors = np.zeros((len(offsets) - 1, N_DIMS), dtype=np.int8)
    size = 64
    keys = np.empty(size, dtype=np.uint64)
    counts, weights = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    for text in range(len(vectors)):
        first, end = offsets[text], offsets[text + 1]
        if first == end:
            continue
        # At most one feature a token, and one more a character.
        size = 64
        while size < 2 * (end - first + ends[end - 1] - starts[first]):
            size *= 2
        if size > len(keys):
            keys = np.empty(size, dtype=np.uint64)
            counts, weights = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
        counts[:size] = 0
        _count_features(hashes, kinds, starts, ends, points, first, end, keys[:size], counts, weights)
        _write_sums(vectors[text], keys[:size], counts, weights)
    return vectors


@njit(cache=True)
def _count_features(
    hashes: UInt64Array,
    kinds: UInt8Array,
    starts: Int64Array,
    ends: Int64Array,
    points: UInt32Array,
    first: int,
    end: int,
    keys: UInt64Array,
    counts: Int64Array,
    weights: Int64Array,
) -> None:
    for i in range(first, end):
        if kinds[i] == WORD:
            length = ends[i] - starts[i]
            _count(keys, counts, weights, hashes[i], _WORD_WEIGHTS[min(length, _N_WORD_LENGTHS)])
            a, b = np.uint64(_EDGE), np.uint64(points[starts[i]])
            for k in range(starts[i] + 1, ends[i] + 1):
                c = np.uint64(points[k]) if k < ends[i] else np.uint64(_EDGE)
                gram = (a << np.uint64(42)) | (b << np.uint64(21)) | c
                _count(keys, counts, weights, mixed(gram ^ _GRAM_SALT), _GRAM_WEIGHT)
                a, b = b, c
        elif kinds[i] == ALONE:
            _count(keys, counts, weights, hashes[i], _CHARACTER_WEIGHT)
            if i > first and kinds[i - 1] == ALONE and ends[i - 1] == starts[i]:
                _count(keys, counts, weights, mixed(hashes[i - 1] * _PAIR_BASE + hashes[i]), _PAIR_WEIGHT)
        elif kinds[i] == SYMBOL:
            _count(keys, counts, weights, hashes[i], _SYMBOL_WEIGHT)


@njit(cache=True)
def _write_sums(vector: Int8Array, keys: UInt64Array, counts: Int64Array, weights: Int64Array) -> None:
    sums = np.zeros(N_DIMS, dtype=np.int64)
    for slot in range(len(keys)):
        if counts[slot] != 0:
            amount = weights[slot] * _ROOTS[min(counts[slot], 255)]
            sums[np.int64(keys[slot] & _DIM_MASK)] += -amount if keys[slot] & _SIGN else amount
    square = 0.0
    for dim in range(N_DIMS):
        square += float(sums[dim]) * float(sums[dim])
    if square > 0.0:
        length = math.sqrt(square)
        for dim in range(N_DIMS):
            vector[dim] = np.int8(np.rint(sums[dim] * SCALE / length))
