"""Muted keywords: sequences of tokens, each known by one int64, found in texts without keeping what they say.

A keyword of words is compared by its words and symbols: "new york" is in "New  York!", "東京" in "東京タワー",
and "cat" is not in "category". Punctuation counts only for a keyword that has no word ("???", ":-)", "🔥"): it is
compared by all its tokens, blanks aside.

People write one word in several ways, which are one here: Arabic and Hebrew with and without vowel marks, tatweel or
not, İ with and without its dot. In Korean particles follow a word without a blank, so a word in Hangul is compared
character by character from its beginning: "서울" is in "서울에서", and "울에" is not. Text
vectors know nothing of this.

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
    MARK,
    PUNCTUATION,
    WORD,
    Tokens,
    UInt8Array,
    UInt32Array,
    UInt64Array,
    character_classes,
    class_of,
    hash_reference,
    mixed,
    mixed_reference,
    points_hash,
    tokenise,
    tokenise_reference,
)

MAX_TOKENS: Final = 511
"""Longer keywords are compared by so many of their first tokens."""

NO_KEYWORD: Final = 0
"""The hash of what has no tokens: blanks mute nothing."""

_DOT_ABOVE: Final = 0x0307
_SMALL_I: Final = 0x69
_TATWEEL: Final = 0x0640
_LENGTH_BITS: Final = 9
_COUNTS_PUNCTUATION: Final = 1 << _LENGTH_BITS
_LOW_BITS: Final = (1 << (_LENGTH_BITS + 1)) - 1
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_HIGH: Final = np.uint64(~_LOW_BITS & ((1 << 64) - 1))
_MASK: Final = (1 << 64) - 1


def keyword_hash(text: str) -> int:
    """Return the int64 by which a muted keyword is known; `NO_KEYWORD` for one without tokens."""
    hashes, kinds, _ = _compared(tokenise([text]))
    return int(_keyword_hash(hashes, kinds))


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
    wanted = np.array(keywords, dtype=np.int64)
    forms = np.unique(wanted[wanted != NO_KEYWORD] & _LOW_BITS)
    return _find(*_compared(tokenise(texts)), wanted, forms)


def has_keyword_reference(text: str, keyword: str) -> bool:
    """Return whether a text has a keyword, by comparing tokens one by one in plain Python."""
    wanted = [(kind, characters) for _, kind, characters in compared_reference(keyword)]
    found = [(kind, characters) for _, kind, characters in compared_reference(text)]
    if any(kind in (WORD, ALONE) for kind, _ in wanted):
        wanted = [token for token in wanted if token[0] != PUNCTUATION]
        found = [token for token in found if token[0] != PUNCTUATION]
    words = [characters for _, characters in wanted[:MAX_TOKENS]]
    run = [characters for _, characters in found]
    return bool(words) and any(run[i : i + len(words)] == words for i in range(len(run)))


def keyword_hash_reference(text: str) -> int:
    """Return what `keyword_hash` returns, in plain Python."""
    tokens = compared_reference(text)
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


def compared_reference(text: str) -> list[tuple[int, int, str]]:
    """Return the tokens that are compared, as `tokenise_reference` has them, in plain Python."""
    classes = character_classes()
    found: list[tuple[int, str]] = []
    for _, kind, characters in tokenise_reference(text):
        if kind != WORD:
            found.append((kind, characters))
            continue
        parts: list[str] = []
        last, is_open = "", False
        for character in characters:
            point = ord(character)
            kind = class_of(point, classes)
            if not _is_ornament(point, ord(last) if last else 0, kind):
                if _is_hangul(point):
                    parts += [character] if parts else ["", character]
                    is_open = False
                elif parts and (kind == MARK or is_open):
                    parts[-1] += character
                else:
                    parts.append(character)
                    is_open = True
            last = character
        found += [(WORD, part) for part in parts]
    return [(hash_reference(characters), kind, characters) for kind, characters in found]


@njit(cache=True, inline="always")
def _is_ornament(point: int, last: int, kind: int) -> bool:
    """Whether a character within a word may as well be left out: it only shows how to speak or stretch it."""
    if point < _DOT_ABOVE:
        return False
    if point == _DOT_ABOVE:
        return last == _SMALL_I  # what folding makes of İ
    return point == _TATWEEL or (kind == MARK and (0x0591 <= point < 0x0700 or 0x08CA <= point < 0x0900))


@njit(cache=True, inline="always")
def _is_hangul(point: int) -> bool:
    """Whether a character is a syllable or a letter of Hangul, as folded text has them."""
    return 0x1100 <= point < 0x1200 or 0xAC00 <= point < 0xD800 or 0xA960 <= point < 0xA980


def _compared(tokens: Tokens) -> tuple[UInt64Array, UInt8Array, Int64Array]:
    """Return hashes, kinds and offsets of the tokens that are compared."""
    return _compared_kernel(*tokens, character_classes())


@njit(cache=True)
def _compared_kernel(
    hashes: UInt64Array,
    kinds: UInt8Array,
    starts: Int64Array,
    ends: Int64Array,
    offsets: Int64Array,
    points: UInt32Array,
    classes: UInt8Array,
) -> tuple[UInt64Array, UInt8Array, Int64Array]:
    most = len(points) + len(hashes)  # a word may be split in all its characters, after the mark of its beginning
    out, out_kinds = np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.uint8)
    out_offsets = np.zeros(len(offsets), dtype=np.int64)
    word = np.empty(len(points), dtype=np.uint32)
    beginning = points_hash(word, 0, 0)
    n = 0
    for text in range(len(offsets) - 1):
        for token in range(offsets[text], offsets[text + 1]):
            if kinds[token] != WORD or not _is_special(points, starts[token], ends[token]):
                out[n], out_kinds[n] = hashes[token], kinds[token]
                n += 1
                continue
            n_points, start, last = 0, 0, 0
            first, is_open = n, False
            for place in range(starts[token], ends[token]):
                point = points[place]
                kind = class_of(point, classes)
                is_mark, is_left_out = kind == MARK, _is_ornament(point, last, kind)
                last = point
                if is_left_out:
                    continue
                is_hangul = _is_hangul(point)
                if is_hangul and n == first and n_points == 0:
                    out[n], out_kinds[n] = beginning, WORD
                    n += 1
                elif n_points > start and (is_hangul or not (is_mark or is_open)):
                    out[n], out_kinds[n] = points_hash(word, start, n_points), WORD
                    n += 1
                    start = n_points
                is_open = not is_hangul and (is_open or n_points == start or not is_mark)
                word[n_points] = point
                n_points += 1
            if n_points > start:
                out[n], out_kinds[n] = points_hash(word, start, n_points), WORD
                n += 1
        out_offsets[text + 1] = n
    return out[:n].copy(), out_kinds[:n].copy(), out_offsets


@njit(cache=True)
def _is_special(points: UInt32Array, start: int, end: int) -> bool:
    for place in range(start, end):
        point = points[place]
        if point == _DOT_ABOVE or 0x0591 <= point < 0x0900 or _is_hangul(point):
            return True
    return False


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
