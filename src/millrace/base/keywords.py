"""Muted keywords: sequences of tokens, each known by one int64, found in texts without keeping what they say.

A keyword of words is compared by its words and symbols: "new york" is in "New  York!", "東京" in "東京タワー",
and "cat" is not in "category". Punctuation counts only for a keyword that has no word ("???", ":-)", "🔥"): it is
compared by all its tokens, blanks aside.

A hash is the number of tokens in the low 9 bits, in bit 9 whether punctuation counts, above them 54 bits of a
polynomial over the token hashes. So a text is searched by rolling one window for each length that its viewer's
keywords have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, table_get, table_put
from millrace.base.kernels import njit
from millrace.base.tokens import (
    ALONE,
    PUNCTUATION,
    WORD,
    UInt8Array,
    UInt64Array,
    mixed,
    mixed_reference,
    tokenise,
    tokenise_reference,
)

MAX_TOKENS: Final = 511
"""Longer keywords are compared by so many of their first tokens."""

NO_KEYWORD: Final = 0
"""The hash of what has no tokens: blanks mute nothing."""

_LENGTH_BITS: Final = 9
_COUNTS_PUNCTUATION: Final = 1 << _LENGTH_BITS
_LOW_BITS: Final = (1 << (_LENGTH_BITS + 1)) - 1
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_HIGH: Final = np.uint64(~_LOW_BITS & ((1 << 64) - 1))
_MASK: Final = (1 << 64) - 1


def keyword_hash(text: str) -> int:
    """Return the int64 by which a muted keyword is known; `NO_KEYWORD` for one without tokens."""
    tokens = tokenise([text])
    return int(_keyword_hash(tokens.hashes, tokens.kinds))


def find_keywords(texts: Sequence[str], keywords: Int64Array) -> Int32Array:
    """Return for each text which of the keywords is in it.

    Parameters
    ----------
    texts
        As people wrote them.
    keywords
        Shape (m,), int64: hashes from `keyword_hash`.

    Returns
    -------
    Int32Array
        Shape (n,), int32: the place of one keyword of each text, -1 where there is none.
    """
    if not len(keywords) or not texts:
        return np.full(len(texts), -1, dtype=np.int32)
    tokens = tokenise(texts)
    hashes = np.array(keywords, dtype=np.int64)
    forms = np.unique(hashes[hashes != NO_KEYWORD] & _LOW_BITS)
    return _find(tokens.hashes, tokens.kinds, tokens.offsets, hashes, forms)


def has_keyword_reference(text: str, keyword: str) -> bool:
    """Return whether a text has a keyword, by comparing tokens one by one in plain Python."""
    wanted = [(kind, characters) for _, kind, characters in tokenise_reference(keyword)]
    found = [(kind, characters) for _, kind, characters in tokenise_reference(text)]
    if any(kind in (WORD, ALONE) for kind, _ in wanted):
        wanted = [token for token in wanted if token[0] != PUNCTUATION]
        found = [token for token in found if token[0] != PUNCTUATION]
    words = [characters for _, characters in wanted[:MAX_TOKENS]]
    run = [characters for _, characters in found]
    return bool(words) and any(run[i : i + len(words)] == words for i in range(len(run)))


def keyword_hash_reference(text: str) -> int:
    """Return what `keyword_hash` returns, in plain Python."""
    tokens = tokenise_reference(text)
    has_words = any(kind in (WORD, ALONE) for _, kind, _ in tokens)
    hashes = [word for word, kind, _ in tokens if not has_words or kind != PUNCTUATION][:MAX_TOKENS]
    if not hashes:
        return NO_KEYWORD
    word = 0
    for token in hashes:
        word = (word * int(_BASE) + token) & _MASK
    form = len(hashes) | (0 if has_words else _COUNTS_PUNCTUATION)
    word = (mixed_reference(word) & ~_LOW_BITS) | form
    return word - (1 << 64) if word >> 63 else word


@njit(cache=True)
def _sequence_hash(word: np.uint64, form: int) -> np.int64:
    return np.int64((mixed(word) & _HIGH) | np.uint64(form))


@njit(cache=True)
def _keyword_hash(hashes: UInt64Array, kinds: UInt8Array) -> np.int64:
    has_words = False
    for kind in kinds:
        has_words = has_words or kind in (WORD, ALONE)
    word = np.uint64(0)
    n = 0
    for i in range(len(hashes)):
        if n < MAX_TOKENS and (kinds[i] != PUNCTUATION or not has_words):
            word = word * _BASE + hashes[i]
            n += 1
    if n == 0:
        return np.int64(NO_KEYWORD)
    return _sequence_hash(word, n if has_words else n | _COUNTS_PUNCTUATION)


@njit(cache=True)
def _find(
    hashes: UInt64Array, kinds: UInt8Array, offsets: Int64Array, keywords: Int64Array, forms: Int64Array
) -> Int32Array:
    size = 16
    while size < 4 * len(keywords):
        size *= 2
    keys, places = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int32)
    for place in range(len(keywords)):
        if keywords[place] != NO_KEYWORD:
            table_put(keys, places, keywords[place], np.int64(place))
    found = np.full(len(offsets) - 1, -1, dtype=np.int32)
    run = np.empty(len(hashes), dtype=np.uint64)
    for text in range(len(found)):
        for form in forms:
            n = 0
            for i in range(offsets[text], offsets[text + 1]):
                if kinds[i] != PUNCTUATION or form & _COUNTS_PUNCTUATION:
                    run[n] = hashes[i]
                    n += 1
            found[text] = _find_in_run(run[:n], form, keys, places)
            if found[text] >= 0:
                break
    return found


@njit(cache=True)
def _find_in_run(run: UInt64Array, form: int, keys: Int64Array, places: Int32Array) -> np.int64:
    length = form & MAX_TOKENS
    power = np.uint64(1)
    for _ in range(length):
        power *= _BASE
    word = np.uint64(0)
    for i in range(len(run)):
        word = word * _BASE + run[i]
        if i >= length:
            word -= run[i - length] * power
        if i >= length - 1:
            place = table_get(keys, places, _sequence_hash(word, form))
            if place >= 0:
                return place
    return np.int64(-1)
