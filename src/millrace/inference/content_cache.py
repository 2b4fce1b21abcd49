"""`ContentCache`: what a ranker makes of a post itself, kept from page to page.

Of a candidate's floats most depend on its post, author and language alone (`RankerConfig.candidate_width`), and the
ranker begins by projecting them: a linear map, so that the projected vector can be kept and added to the rest. A kept
vector is found by post, author, language, tokens and vector of the text: what is edited, deleted or reposted is
another key, and nothing has to be told about it. Every vector is made row by row in one order of additions, so that it
is the same to the bit whatever was in the cache.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import hashlib
import threading
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.untouched import untouched_zeros
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.buckets import SCALE, UInt8Array
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.inference.assembler import Assembler, TokensOf
from millrace.inference.tables import Float32Array

UInt64Array = npt.NDArray[np.uint64]

N_WAYS: Final = 8
"""Places in which a vector may be; the one not asked for longest is given up."""


class CacheCounts(NamedTuple):
    """How a cache fares: lookups that found something and that did not, bytes in use, and how many it may use."""

    n_hits: int
    n_misses: int
    n_bytes: int
    max_bytes: int


class ContentCache:
    """Assembles candidates as they are scored, from kept vectors and, where there are none yet, from the tables.

    Parameters
    ----------
    assembler
        Of the same model.
    weight
        The projection as torch keeps it, shape (d, n_sparse).
    max_bytes
        Of the kept vectors; at least one set of them is kept.

    Raises
    ------
    ConfigError
        If the projection is not the config's.
    """

    def __init__(self, assembler: Assembler, weight: Float32Array, max_bytes: int) -> None:
        config = assembler.config
        d, n_sparse = config.trunk.d, config.candidate_width - config.n_dense
        if weight.shape != (d, n_sparse):
            raise ConfigError(
                "ranker's projection",
                value=weight.shape,
                problem=f"not of shape {(d, n_sparse)}",
                remedy="export the ranker again",
            )
        self._assembler = assembler
        self._weight = np.ascontiguousarray(weight.T, dtype=np.float32)
        n_sets = max(max_bytes // (N_WAYS * (4 * d + 24)), 1)
        # Memory that is not touched yet costs nothing.
        self._keys = untouched_zeros((n_sets, N_WAYS), np.uint64)
        self._posts = untouched_zeros((n_sets, N_WAYS), np.int64)
        self._asked = untouched_zeros((n_sets, N_WAYS), np.int64)
        self._vectors = untouched_zeros((n_sets, N_WAYS, d), np.float32)
        self._n_pages = 0
        self._n_hits = 0
        self._n_misses = 0
        self._lock = threading.Lock()

    @property
    def counts(self) -> CacheCounts:
        """How it fares."""
        n_kept, each = int(np.count_nonzero(self._asked)), self._vectors[0, 0].nbytes + 24
        return CacheCounts(self._n_hits, self._n_misses, n_kept * each, self._asked.size * each)

    def candidates(self, inputs: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING) -> Float32Array:
        """Return candidates as runners score them, shape (1, n, scored_width)."""
        tokens = np.ascontiguousarray(tokens_of(inputs.post_ids))
        version = np.frombuffer(hashlib.blake2b(vectors.version(), digest_size=8).digest(), dtype=np.uint16)
        of_all = np.broadcast_to(version, (inputs.n, len(version)))
        what = np.concatenate([tokens, vectors.key(inputs.post_ids), of_all], axis=1)
        keys = content_keys(inputs.post_ids, inputs.author_ids, inputs.languages, what)
        out = np.empty((1, inputs.n, self._assembler.config.scored_width), dtype=np.float32)
        with self._lock:
            self._n_pages += 1
            missing = _find(
                self._keys, self._posts, self._asked, self._vectors, self._n_pages, keys, inputs.post_ids, out[0]
            )
            if len(missing):
                sparse = self._assembler.posts(inputs.take(missing), tokens[missing], vectors)
                fresh = projected(sparse, self._weight)
                out[0, missing, : fresh.shape[1]] = fresh
                _keep(
                    self._keys,
                    self._posts,
                    self._asked,
                    self._vectors,
                    self._n_pages,
                    keys[missing],
                    inputs.post_ids[missing],
                    fresh,
                )
            self._n_hits += inputs.n - len(missing)
            self._n_misses += len(missing)
        out[0, :, self._vectors.shape[2] :] = inputs.dense * np.float32(SCALE)
        return out


@njit(cache=True)
def content_keys(post_ids: Int64Array, author_ids: Int64Array, languages: UInt8Array, what: UInt16Array) -> UInt64Array:
    """Return what vectors are found by, shape (n,): a hash of all that they are made of; never 0."""
    keys = np.empty(len(post_ids), dtype=np.uint64)
    for i in range(len(post_ids)):
        key = np.uint64(post_ids[i]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(languages[i])
        key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(author_ids[i])
        for k in range(0, what.shape[1], 4):
            word = np.uint64(0)
            for j in range(k, min(k + 4, what.shape[1])):
                word = (word << np.uint64(16)) | np.uint64(what[i, j])
            key = (key ^ (key >> np.uint64(32)) ^ word) * np.uint64(0x94D049BB133111EB)
        keys[i] = max(key ^ (key >> np.uint64(31)), np.uint64(1))
    return keys


@njit(cache=True)
def projected(sparse: Float32Array, weight: Float32Array) -> Float32Array:
    """Return ``sparse @ weight``, shape (n, d), row by row in one order, whatever the other rows are."""
    out = np.zeros((len(sparse), weight.shape[1]), dtype=np.float32)
    for i in range(len(sparse)):
        for k in range(sparse.shape[1]):
            amount = sparse[i, k]
            if amount != 0.0:
                for j in range(weight.shape[1]):
                    out[i, j] += amount * weight[k, j]
    return out


@njit(cache=True)
def _find(
    keys: UInt64Array,
    posts: Int64Array,
    asked: Int64Array,
    vectors: Float32Array,
    now: int,
    wanted: UInt64Array,
    wanted_posts: Int64Array,
    out: Float32Array,
) -> Int64Array:
    """Copy what is kept into ``out``; return the rows of which nothing is."""
    missing = np.empty(len(wanted), dtype=np.int64)
    n = 0
    for i in range(len(wanted)):
        at = np.int64(wanted[i] % np.uint64(len(keys)))
        way = 0
        while way < keys.shape[1] and (keys[at, way] != wanted[i] or posts[at, way] != wanted_posts[i]):
            way += 1
        if way == keys.shape[1]:
            missing[n] = i
            n += 1
            continue
        asked[at, way] = now
        for j in range(vectors.shape[2]):
            out[i, j] = vectors[at, way, j]
    return missing[:n].copy()


@njit(cache=True)
def _keep(
    keys: UInt64Array,
    posts: Int64Array,
    asked: Int64Array,
    vectors: Float32Array,
    now: int,
    made: UInt64Array,
    made_posts: Int64Array,
    made_vectors: Float32Array,
) -> None:
    """Keep vectors, each in the place of its set that was not asked for longest."""
    for i in range(len(made)):
        at = np.int64(made[i] % np.uint64(len(keys)))
        oldest = 0
        for way in range(keys.shape[1]):
            if keys[at, way] == made[i] and posts[at, way] == made_posts[i]:
                oldest = way  # twice on one page
                break
            if asked[at, way] < asked[at, oldest]:
                oldest = way
        keys[at, oldest], posts[at, oldest], asked[at, oldest] = made[i], made_posts[i], now
        vectors[at, oldest] = made_vectors[i]


def load_kernels(inputs: CandidateInputs) -> None:
    """Load the kernels of a cache, or compile them after a fresh install, without a model.

    Parameters
    ----------
    inputs
        Some candidates as they are encoded: their ids belong to a batch and cannot be written. What a pre-ranker has
        left of a page cannot be written at all, what a model is warmed up with can.
    """
    weight = np.zeros((2, 2), dtype=np.float32)
    keys = np.zeros((1, N_WAYS), dtype=np.uint64)
    posts, asked = np.zeros((1, N_WAYS), dtype=np.int64), np.zeros((1, N_WAYS), dtype=np.int64)
    vectors = np.zeros((1, N_WAYS, 2), dtype=np.float32)
    what = np.zeros((inputs.n, 1), dtype=np.uint16)
    left = inputs.languages.copy()
    left.flags.writeable = False
    content_keys(inputs.post_ids, inputs.author_ids, left, what)
    for post_ids, author_ids in (
        (inputs.post_ids, inputs.author_ids),
        (inputs.post_ids.copy(), inputs.author_ids.copy()),
    ):
        wanted = content_keys(post_ids, author_ids, inputs.languages, what)
        out = np.empty((1, inputs.n, 2), dtype=np.float32)
        missing = _find(keys, posts, asked, vectors, 1, wanted, post_ids, out[0])
        fresh = projected(np.zeros((len(missing), 2), dtype=np.float32), weight)
        _keep(keys, posts, asked, vectors, 1, wanted[missing], post_ids[missing], fresh)
