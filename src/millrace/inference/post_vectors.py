"""`PostVectors`: what a pre-ranker's tables say of posts: text and id, added up; kept until the post changes.

A text is up to 64 rows of a table, which would be most of a candidate's cost. Neither text nor id depend on viewer or
time, so that their sum is kept beside the row that the post has in the `TextIndex`, under the number of the row's last
change.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import table_find
from millrace.base.kernels import njit
from millrace.base.untouched import untouched_zeros
from millrace.content.text_index import TextIndex
from millrace.content.text_kernels import TextArrays
from millrace.features.encoding.hashing import id_row
from millrace.inference.assembler import TokensOf
from millrace.inference.tables import EmbeddingTables, Float32Array

_UNKNOWN: Final = -1


class PostVectors(Protocol):
    """Gives posts' vectors."""

    def write(self, post_ids: Int64Array, out: Float32Array) -> None:
        """Write the vectors of posts into the first columns of ``out``, shape (n, at least d), a row each."""


class KeptVectors:
    """The vectors of a process's newest posts, kept; of other posts the id alone counts.

    Parameters
    ----------
    tables
        Of the model.
    texts
        Where the posts' texts are; rows that change are seen by their revision.
    """

    def __init__(self, tables: EmbeddingTables, texts: TextIndex) -> None:
        self._tables = tables
        self._texts = texts
        self._vectors: Float32Array = np.zeros((0, tables.width), dtype=np.float32)
        self._revisions: Int64Array = np.zeros(0, dtype=np.int64)

    @property
    def n_bytes(self) -> int:
        """Bytes of what is kept."""
        return self._vectors.nbytes + self._revisions.nbytes

    def write(self, post_ids: Int64Array, out: Float32Array) -> None:
        """Write the vectors of posts; see `PostVectors`."""
        index = self._texts.by_row()
        if len(self._revisions) != len(index.revisions):
            self._grow(len(index.revisions))
        tables = self._tables
        _write_kept(
            index, np.array(post_ids, dtype=np.int64), tables.tokens, tables.posts, self._vectors, self._revisions, out
        )

    def _grow(self, n_rows: int) -> None:
        """Follow the index's rows, which keep their places when it grows; one that shrank is another one."""
        kept = len(self._revisions) if n_rows >= len(self._revisions) else 0
        vectors = untouched_zeros((n_rows, self._tables.width), np.float32)
        revisions = np.full(n_rows, _UNKNOWN, dtype=np.int64)
        vectors[:kept], revisions[:kept] = self._vectors[:kept], self._revisions[:kept]
        self._vectors, self._revisions = vectors, revisions


class MadeVectors:
    """The same, made anew each time: the reference, and for posts that are in no index.

    Parameters
    ----------
    tables
        Of the model.
    tokens_of
        Gives the token rows of posts' texts.
    """

    def __init__(self, tables: EmbeddingTables, tokens_of: TokensOf) -> None:
        self._tables = tables
        self._tokens_of = tokens_of

    def write(self, post_ids: Int64Array, out: Float32Array) -> None:
        """Write the vectors of posts; see `PostVectors`."""
        tables = self._tables
        out[:, : tables.width] = tables.content(self._tokens_of(post_ids)) + tables.post(post_ids)


@njit(cache=True)
def _write_kept(
    index: TextArrays,
    post_ids: Int64Array,
    tokens: Float32Array,
    posts: Float32Array,
    vectors: Float32Array,
    revisions: Int64Array,
    out: Float32Array,
) -> None:
    d = tokens.shape[1]
    for i in range(len(post_ids)):
        post = post_ids[i]
        slot = table_find(index.keys, post) if post != 0 else np.int64(-1)
        row = np.int64(index.values[slot]) if slot >= 0 else np.int64(-1)
        if row >= 0:
            if revisions[row] != index.revisions[row]:
                _make(index.tokens[row], post, tokens, posts, vectors[row])
                revisions[row] = index.revisions[row]
            for k in range(d):
                out[i, k] = vectors[row, k]
        else:
            first, second = id_row(post, 0, len(posts)), id_row(post, 1, len(posts))
            for k in range(d):
                out[i, k] = posts[first, k] + posts[second, k]


@njit(cache=True)
def _make(
    text: npt.NDArray[np.uint16], post: int, tokens: Float32Array, posts: Float32Array, vector: Float32Array
) -> None:
    d = tokens.shape[1]
    vector[:] = 0.0
    n = 0
    for t in range(len(text)):
        if text[t] != 0:
            n += 1
            for k in range(d):
                vector[k] += tokens[text[t], k]
    share = np.float32(1.0) / np.float32(max(n, 1))
    first, second = id_row(post, 0, len(posts)), id_row(post, 1, len(posts))
    for k in range(d):
        vector[k] = vector[k] * share + (posts[first, k] + posts[second, k])
