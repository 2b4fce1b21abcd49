"""Rows of an embedding bag for texts: hashed words and character n-grams; no vocabulary, any script.

A text is at most `MAX_TOKENS` rows: first its words (in scripts without spaces its characters) and symbols, in order,
then the 3-grams of its words and the pairs of its characters as far as there is room. Row 0 is padding. The same text
has the same rows on every machine: models that were trained on them are served by them.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment"

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.tokens import (
    ALONE,
    PUNCTUATION,
    WORD,
    UInt8Array,
    UInt32Array,
    UInt64Array,
    mixed,
    mixed_reference,
    tokenise,
)

UInt16Array = npt.NDArray[np.uint16]

N_TOKEN_ROWS: Final = 1 << 16
"""Rows of the table, padding included."""

MAX_TOKENS: Final = 64

_EDGE: Final = 0x1FFFFF  # beside a word's first and last character; no code point
_GRAM_SALT: Final = np.uint64(0x51E2AC7B90F3D64D)
_PAIR_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_N_ROWS: Final = np.uint64(N_TOKEN_ROWS - 1)
_ONE: Final = np.uint64(1)
_MIN_GRAM_WORD: Final = 3
_MASK: Final = (1 << 64) - 1


def token_rows(texts: Sequence[str]) -> UInt16Array:
    """Return the rows of many texts, shape (n, 64), uint16, padded with 0 behind."""
    tokens = tokenise(texts)
    return _rows(tokens.hashes, tokens.kinds, tokens.starts, tokens.ends, tokens.offsets, tokens.points)


def token_rows_reference(text: str) -> UInt16Array:
    """Return what `token_rows` returns for one text, shape (64,), in plain Python."""
    tokens = tokenise([text])
    whole, parts = [], []
    for i, kind in enumerate(tokens.kinds.tolist()):
        if kind == PUNCTUATION:
            continue
        word = int(tokens.hashes[i])
        whole.append(word)
        points = tokens.points[tokens.starts[i] : tokens.ends[i]].tolist()
        if kind == WORD and len(points) >= _MIN_GRAM_WORD:
            padded = [_EDGE, *points, _EDGE]
            for a, b, c in zip(padded, padded[1:], padded[2:], strict=False):
                parts.append(mixed_reference((a << 42 | b << 21 | c) ^ int(_GRAM_SALT)))
        elif kind == ALONE and i > 0 and tokens.kinds[i - 1] == ALONE and tokens.ends[i - 1] == tokens.starts[i]:
            parts.append(mixed_reference((int(tokens.hashes[i - 1]) * int(_PAIR_BASE) + word) & _MASK))
    rows = np.zeros(MAX_TOKENS, dtype=np.uint16)
    found = [1 + feature % int(_N_ROWS) for feature in [*whole, *parts][:MAX_TOKENS]]
    rows[: len(found)] = found
    return rows


@njit(cache=True)
def _rows(
    hashes: UInt64Array,
    kinds: UInt8Array,
    starts: Int64Array,
    ends: Int64Array,
    offsets: Int64Array,
    points: UInt32Array,
) -> UInt16Array:
    rows = np.zeros((len(offsets) - 1, MAX_TOKENS), dtype=np.uint16)
    for text in range(len(rows)):
        n = 0
        for i in range(offsets[text], offsets[text + 1]):
            if n < MAX_TOKENS and kinds[i] != PUNCTUATION:
                rows[text, n] = np.uint16(_ONE + hashes[i] % _N_ROWS)
                n += 1
        for i in range(offsets[text], offsets[text + 1]):
            if n == MAX_TOKENS:
                break
            if kinds[i] == WORD and ends[i] - starts[i] >= _MIN_GRAM_WORD:
                a, b = np.uint64(_EDGE), np.uint64(points[starts[i]])
                for k in range(starts[i] + 1, ends[i] + 1):
                    c = np.uint64(points[k]) if k < ends[i] else np.uint64(_EDGE)
                    gram = (a << np.uint64(42)) | (b << np.uint64(21)) | c
                    if n < MAX_TOKENS:
                        rows[text, n] = np.uint16(_ONE + mixed(gram ^ _GRAM_SALT) % _N_ROWS)
                        n += 1
                    a, b = b, c
            elif kinds[i] == ALONE and i > offsets[text] and kinds[i - 1] == ALONE and ends[i - 1] == starts[i]:
                rows[text, n] = np.uint16(_ONE + mixed(hashes[i - 1] * _PAIR_BASE + hashes[i]) % _N_ROWS)
                n += 1
    return rows
