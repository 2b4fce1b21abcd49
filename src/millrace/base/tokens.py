"""Tokens of text in any script: what muted keywords are compared by, and what text vectors are made of.

Text is folded first (NFKC, case folded). Then a run of letters, digits and marks is one token; in scripts that are
written without spaces between words (Han, kana, Thai, Lao, Khmer, Myanmar, ...) every character with its marks is a
token of its own; so is every symbol (emoji, currency) and every punctuation character. Blanks separate. What no reader
sees (zero-width characters, variation selectors, skin tones) is passed over: it neither separates nor counts.

A token is known by a 64-bit hash of its code points, equal on every machine. Characters that the running Python's
Unicode tables do not know yet are symbols.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit

UInt8Array = npt.NDArray[np.uint8]
UInt32Array = npt.NDArray[np.uint32]
UInt64Array = npt.NDArray[np.uint64]

# Kinds of tokens, and classes of characters: the first four are both.
SPACE: Final = 0
WORD: Final = 1
ALONE: Final = 2
SYMBOL: Final = 3
PUNCTUATION: Final = 4
MARK: Final = 5
HIDDEN: Final = 6

_N_TABLED: Final = 0x20000
_IDEOGRAPHS_END: Final = 0x40000
_TAGS: Final = (0xE0000, 0xE1000)

_CLASS_BY_CATEGORY: Final = {
    **dict.fromkeys(("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No"), WORD),
    **dict.fromkeys(("Mn", "Mc", "Me"), MARK),
    **dict.fromkeys(("Sm", "Sc", "Sk", "So", "Co", "Cn"), SYMBOL),
    **dict.fromkeys(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"), PUNCTUATION),
    **dict.fromkeys(("Zs", "Zl", "Zp", "Cc", "Cs"), SPACE),
    "Cf": HIDDEN,
}
_UNSPACED: Final = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x1950, 0x1AB0),  # Tai scripts, Khmer symbols, Buginese
    (0x1B00, 0x1B80),  # Balinese
    (0x3005, 0x3100),  # ideographic marks, Hiragana, Katakana
    (0x3100, 0x3130),  # Bopomofo
    (0x31A0, 0x31C0),
    (0x31F0, 0x3200),  # Katakana of Ainu
    (0x3400, 0x4DC0),  # Han
    (0x4E00, 0xA4D0),  # Han, Yi
    (0xA980, 0xAA00),  # Javanese, Myanmar
    (0xAA60, 0xAAE0),  # Myanmar, Tai Viet
    (0xF900, 0xFB00),  # Han
    (0x16FE0, 0x1B300),  # Tangut, Khitan, kana, Nushu
)
_UNSEEN: Final = ((0x180B, 0x1810), (0xFE00, 0xFE10), (0x1F3FB, 0x1F400))  # variation selectors, skin tones

_FNV_BASIS: Final = np.uint64(0xCBF29CE484222325)
_FNV_PRIME: Final = np.uint64(0x00000100000001B3)
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_S33: Final = np.uint64(33)
_MASK: Final = (1 << 64) - 1


class Tokens(NamedTuple):
    """The tokens of some texts, one after the other.

    Attributes
    ----------
    hashes
        Shape (n,), uint64.
    kinds
        Shape (n,), uint8: `WORD`, `ALONE`, `SYMBOL` or `PUNCTUATION`.
    starts, ends
        Shape (n,), int64: where each token's code points lie in ``points``.
    offsets
        Shape (n_texts + 1,), int64: text ``i`` has the tokens ``offsets[i]`` to ``offsets[i + 1]``.
    points
        Shape (n_points,), uint32: the folded texts without what is hidden.
    """

    hashes: UInt64Array
    kinds: UInt8Array
    starts: Int64Array
    ends: Int64Array
    offsets: Int64Array
    points: UInt32Array


def fold_text(text: str) -> str:
    """Return text as it is compared: NFKC and case folded."""
    if text.isascii():
        return text.lower()
    normal = unicodedata.normalize("NFKC", text).casefold()
    return normal if normal.isascii() else unicodedata.normalize("NFKC", normal)


def tokenise(texts: Sequence[str]) -> Tokens:
    """Return the tokens of many texts, in one call of the kernel."""
    folded = [fold_text(text) for text in texts]
    lengths = np.fromiter(map(len, folded), dtype=np.int64, count=len(folded))
    # A copy, for kernels are compiled for arrays that may be written to.
    points = np.frombuffer("".join(folded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).copy()
    return Tokens(*_tokenise(points, np.cumsum(lengths), character_classes()))


def tokenise_reference(text: str) -> list[tuple[int, int, str]]:
    """Return (hash, kind, characters) of each token of one text, in plain Python."""
    found: list[tuple[int, str]] = []
    is_open = False
    for character in fold_text(text):
        kind = int(class_of(ord(character), character_classes()))
        if kind == HIDDEN:
            continue
        if is_open and (kind == MARK or (kind == WORD and found[-1][0] == WORD)):
            found[-1] = (found[-1][0], found[-1][1] + character)
        elif kind != SPACE:
            found.append((WORD if kind == MARK else kind, character))
        is_open = kind != SPACE
    return [(hash_reference(characters), kind, characters) for kind, characters in found]


@cache
def character_classes() -> UInt8Array:
    """Return the class of every character below U+20000, shape (131072,), uint8; made once, in some 15 ms."""
    classes = np.frombuffer(
        bytes(map(_CLASS_BY_CATEGORY.__getitem__, map(unicodedata.category, map(chr, range(_N_TABLED))))),
        dtype=np.uint8,
    ).copy()
    for start, end in _UNSPACED:
        part = classes[start:end]
        part[part == WORD] = ALONE
    for start, end in _UNSEEN:
        classes[start:end] = HIDDEN
    return classes


@njit(cache=True, inline="always")
def class_of(point: int, classes: UInt8Array) -> int:
    """Return the class of a code point."""
    if point < _N_TABLED:
        return classes[point]  # type: ignore[no-any-return]
    if point < _IDEOGRAPHS_END:
        return ALONE
    return HIDDEN if _TAGS[0] <= point < _TAGS[1] else SYMBOL


@njit(cache=True, inline="always")
def mixed(word: np.uint64) -> np.uint64:
    """Return a 64-bit word with every bit spread over all others (the end of MurmurHash3)."""
    word = (word ^ (word >> _S33)) * _MIX_1
    word = (word ^ (word >> _S33)) * _MIX_2
    return word ^ (word >> _S33)


@njit(cache=True)
def points_hash(points: UInt32Array, start: int, end: int) -> np.uint64:
    """Return the hash of a run of code points: FNV-1a over them, mixed."""
    word = _FNV_BASIS
    for i in range(start, end):
        word = (word ^ np.uint64(points[i])) * _FNV_PRIME
    return mixed(word)


@njit(cache=True)
def _tokenise(
    points: UInt32Array, text_ends: Int64Array, classes: UInt8Array
) -> tuple[UInt64Array, UInt8Array, Int64Array, Int64Array, Int64Array, UInt32Array]:
    n_points = len(points)
    hashes = np.empty(n_points, dtype=np.uint64)
    kinds = np.empty(n_points, dtype=np.uint8)
    starts = np.empty(n_points, dtype=np.int64)
    ends = np.empty(n_points, dtype=np.int64)
    offsets = np.zeros(len(text_ends) + 1, dtype=np.int64)
    n, n_kept, read = 0, 0, 0
    for text in range(len(text_ends)):
        is_open = False
        while read < text_ends[text]:
            point = points[read]
            read += 1
            kind = class_of(point, classes)
            if kind == HIDDEN:
                continue
            points[n_kept] = point
            n_kept += 1
            if is_open and (kind == MARK or (kind == WORD and kinds[n - 1] == WORD)):
                ends[n - 1] = n_kept
            elif kind != SPACE:
                kinds[n] = WORD if kind == MARK else kind
                starts[n] = n_kept - 1
                ends[n] = n_kept
                n += 1
            is_open = kind != SPACE
        offsets[text + 1] = n
    for i in range(n):
        hashes[i] = points_hash(points, starts[i], ends[i])
    return hashes[:n].copy(), kinds[:n].copy(), starts[:n].copy(), ends[:n].copy(), offsets, points[:n_kept].copy()


def hash_reference(characters: str) -> int:
    """Return what `points_hash` returns, in plain Python."""
    word = int(_FNV_BASIS)
    for character in characters:
        word = (word ^ ord(character)) * int(_FNV_PRIME) & _MASK
    return mixed_reference(word)


def mixed_reference(word: int) -> int:
    """Return what `mixed` returns, in plain Python."""
    word = (word ^ (word >> 33)) * int(_MIX_1) & _MASK
    word = (word ^ (word >> 33)) * int(_MIX_2) & _MASK
    return word ^ (word >> 33)
