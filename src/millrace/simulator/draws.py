"""Counter-based randomness: a draw is a hash of the seed, its purpose and its keys, never of what came before.

Two worlds that share a seed share every draw about the same viewer, post, occasion and action, even after their
histories have diverged; and any slice of the world can be drawn by any process. Vectorised over the keys.
"""

from __future__ import annotations

import enum
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit

Uint64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

Key = npt.NDArray[np.generic] | int
"""One key of a draw: an integer array, or one integer for all rows."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MUL_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MUL_2: Final = np.uint64(0x94D049BB133111EB)
_MAX_POISSON: Final = 64
_LEAST_FUSED: Final = 256
_WHOLE: Final = (np.dtype(np.int64), np.dtype(np.uint64))


class Purpose(enum.IntEnum):
    """What a draw is for; part of its hash, so that no two purposes share a draw. Append only."""

    LANGUAGE = 1
    SECOND_LANGUAGE = 2
    INTEREST_CHOICE = 3
    INTEREST_WEIGHT = 4
    N_INTERESTS = 5
    ACTIVITY = 6
    POSTING_RATE = 7
    SILENT = 8
    QUALITY = 9
    CHARISMA = 10
    PROPENSITY = 11
    TIME_ZONE = 12
    SPAMMER = 13
    FLAGS = 14
    NAME = 15
    JOINED = 16
    N_FOLLOWS = 20
    FOLLOW_MODE = 21
    FOLLOW_TOPIC = 22
    FOLLOW_PICK = 23
    TRIANGLE = 24
    RECIPROCITY = 25
    FOLLOW_TIME = 26
    UNFOLLOW = 27
    N_POSTS = 30
    POST_TIME = 31
    POST_KEY = 32
    POST_TOPIC = 33
    POST_LANGUAGE = 34
    POST_QUALITY = 35
    POST_ATTRACTION = 36
    POST_MEDIA = 37
    POST_DURATION = 38
    POST_FLAGS = 39
    POST_FATE = 40
    N_SESSIONS = 50
    SESSION_TIME = 51
    SESSION_LENGTH = 52
    CANDIDATE_MODE = 53
    CANDIDATE_PICK = 54
    CANDIDATE_RANK = 55
    DWELL = 56
    ACTION = 57
    ACTION_DELAY = 58
    SEARCH = 59
    KEYWORD_MUTE = 60
    TOLERANCE = 70
    PATIENCE = 71
    DRIFT = 72
    TREND = 73
    STORY = 74
    STORY_POST = 75
    AUTHOR_TASTE = 76
    GROUP_INTEREST = 77
    FACET = 78
    EXAMINE = 79
    NOISE = 80
    ENGAGED = 81
    ANNOYED = 82
    NEXT_PAGE = 83
    AWAY = 84
    DELIVERY = 85
    UNFOLLOW_BORED = 86
    POLICY = 87
    ARM = 88


def mix(values: Uint64Array) -> Uint64Array:
    """Return a bijective scrambling of 64-bit values (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MUL_1
    values = (values ^ (values >> np.uint64(27))) * _MUL_2
    return values ^ (values >> np.uint64(31))


def take_key_reference(state: Uint64Array, key: npt.NDArray[np.generic]) -> Uint64Array:
    """Return hashes with one more key in them, shapes broadcast against each other."""
    return mix((state ^ key.astype(np.uint64)) + _GOLDEN)


def take_key(state: Uint64Array, key: npt.NDArray[np.generic]) -> Uint64Array:
    """Return what `take_key_reference` returns; long plain columns in one pass instead of nine."""
    if key.ndim != 1 or state.ndim != 1 or len(key) < _LEAST_FUSED or key.dtype not in _WHOLE:
        return take_key_reference(state, key)
    if len(state) not in (1, len(key)):
        return take_key_reference(state, key)
    out = np.empty(len(key), dtype=np.uint64)
    _take_key_kernel(state, key.view(np.uint64), out)
    return out


@njit(cache=True)
def _take_key_kernel(state: Uint64Array, key: Uint64Array, out: Uint64Array) -> None:
    step = 0 if len(state) == 1 else 1
    for i in range(len(key)):
        x = (state[i * step] ^ key[i]) + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MUL_1
        x = (x ^ (x >> np.uint64(27))) * _MUL_2
        out[i] = x ^ (x >> np.uint64(31))


class Draws:
    """All randomness of one world.

    Parameters
    ----------
    seed
        Any whole number; equal seeds give equal draws on every machine.

    Examples
    --------
    >>> draws = Draws(7)
    >>> bool(draws.uniform(Purpose.DWELL, 3, 5)[0] == draws.uniform(Purpose.DWELL, np.arange(4), 5)[3])
    True
    """

    def __init__(self, seed: int) -> None:
        self._root = mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) + _GOLDEN)

    def bits(self, purpose: Purpose, *keys: Key) -> Uint64Array:
        """Return 64 random bits a row, shape (n,), of the keys broadcast against each other."""
        state = mix(self._root ^ np.uint64(int(purpose) << 32))
        for key in keys:
            state = take_key(state, np.atleast_1d(np.asarray(key)))
        return state

    def uniform(self, purpose: Purpose, *keys: Key) -> Float64Array:
        """Return uniforms in [0, 1), shape (n,)."""
        return to_uniform(self.bits(purpose, *keys))

    def normal(self, purpose: Purpose, *keys: Key) -> Float64Array:
        """Return standard normals, shape (n,) (Box-Muller)."""
        bits = self.bits(purpose, *keys)
        radius = np.sqrt(-2.0 * np.log1p(-to_uniform(bits)))
        return radius * np.cos(2.0 * np.pi * to_uniform(mix(bits + _GOLDEN)))

    def poisson(self, mean: Float64Array, purpose: Purpose, *keys: Key) -> Int64Array:
        """Return Poisson counts with these (small) means, shape (n,), by inversion."""
        u = self.uniform(purpose, *keys)
        u, mean = np.broadcast_arrays(u, mean)
        count = np.zeros(len(u), dtype=np.int64)
        term = np.exp(-mean)
        cumulative = term.copy()
        for k in range(1, _MAX_POISSON):
            beyond = u >= cumulative
            if not beyond.any():
                break
            count += beyond
            term = term * mean / k
            cumulative += term
        return count

    def symmetric(self, purpose: Purpose, *keys: Key) -> Float64Array:
        """Return draws from Beta(2, 2), shape (n,): the median of three uniforms."""
        bits = self.bits(purpose, *keys)
        second = mix(bits + _GOLDEN)
        three = np.stack([to_uniform(bits), to_uniform(second), to_uniform(mix(second + _GOLDEN))])
        median: Float64Array = np.sort(three, axis=0)[1]
        return median


def to_uniform(bits: Uint64Array) -> Float64Array:
    """Return 64 random bits as uniforms in [0, 1), shape (n,)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
