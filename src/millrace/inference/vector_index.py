"""Vector indexes: the posts nearest to a viewer's vector, of those that the viewer may be shown.

What is eligible is decided before the best ``k`` are taken, so that a strict filter costs recall nothing: asked for
200, an index answers with 200 as long as so many are eligible. Posts come and go at once: what `VectorIndex.add` was
given is found by the next search, and what `VectorIndex.remove` was given by none.

An index holds vectors of one version of one retrieval model (``tower_version``). Vectors of two versions do not
compare: a new version gets a new index, which is filled and then takes the old one's place.

Nothing here locks. A worker owns its replica, changes it between requests and searches it on the same thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.inference.vector_index_kernels import Float32Array, Rule, UInt8Array, id_set
from millrace.inference.vector_index_rows import PostVectors

BoolArray = npt.NDArray[np.bool_]

ALWAYS: Final = -(2**63)
"""A ``not_before_ms`` that every post passes."""

UNKNOWN_LANGUAGE: Final = 0

_LENGTH_TOLERANCE: Final = 1e-2
_MAX_LANGUAGE: Final = 1 << 20


def _no_ids() -> Int64Array:
    return np.empty(0, dtype=np.int64)


def _no_codes() -> Int32Array:
    return np.empty(0, dtype=np.int32)


def _checked_languages(codes: Int32Array, thing: str) -> None:
    if len(codes) and not 0 <= int(np.min(codes)) <= int(np.max(codes)) < _MAX_LANGUAGE:
        raise SchemaError(
            thing, value=int(np.min(codes)), problem="a code is out of range", remedy="use the state's language codes"
        )


@dataclass(frozen=True)
class Eligibility:
    """Which posts may be found.

    Parameters
    ----------
    not_before_ms
        Posts created earlier are not.
    languages
        int32 codes of which a post must have one; empty: any.
    is_unknown_language_allowed
        Whether language code 0 (unknown) passes where ``languages`` are given.
    excluded_authors
        Blocked and muted authors, int64, ascending.
    excluded_posts
        Seen and served posts, int64, ascending.

    Raises
    ------
    SchemaError
        If ids are not ascending or a language code is negative.
    """

    not_before_ms: int = ALWAYS
    languages: Int32Array = field(default_factory=_no_codes)
    is_unknown_language_allowed: bool = True
    excluded_authors: Int64Array = field(default_factory=_no_ids)
    excluded_posts: Int64Array = field(default_factory=_no_ids)

    def __post_init__(self) -> None:
        for name in ("excluded_authors", "excluded_posts"):
            ids = np.ascontiguousarray(getattr(self, name), dtype=np.int64)
            if (ids[1:] < ids[:-1]).any():
                raise SchemaError(f"eligibility {name}", problem="not ascending", remedy="sort them: np.sort(ids)")
            object.__setattr__(self, name, ids)
        _checked_languages(self.languages, "eligibility languages")

    @cached_property
    def rule(self) -> Rule:
        """The same as kernels take it; made once."""
        is_allowed: UInt8Array = np.zeros(0, dtype=np.uint8)
        if len(self.languages):
            is_allowed = np.zeros(int(self.languages.max()) + 1, dtype=np.uint8)
            is_allowed[self.languages] = 1
            is_allowed[UNKNOWN_LANGUAGE] |= self.is_unknown_language_allowed
        return Rule(
            np.int64(self.not_before_ms), is_allowed, id_set(self.excluded_authors), id_set(self.excluded_posts)
        )

    def mask(
        self, post_ids: Int64Array, created_ms: Int64Array, author_ids: Int64Array, languages: Int32Array
    ) -> BoolArray:
        """Return which rows are eligible, shape (n,): the rule in plain NumPy, that kernels are held against."""
        is_in = np.asarray(created_ms) >= self.not_before_ms
        if len(self.languages):
            allowed = self.languages
            if self.is_unknown_language_allowed:
                allowed = np.append(allowed, UNKNOWN_LANGUAGE)
            is_in &= np.isin(languages, allowed)
        is_in &= ~np.isin(author_ids, self.excluded_authors)
        return is_in & ~np.isin(post_ids, self.excluded_posts)


EVERYTHING: Final = Eligibility()


class VectorIndex(Protocol):
    """What every vector index does; `millrace.testing.vector_index_contract` holds them to it.

    Attributes
    ----------
    tower_version
        The version of the retrieval model whose item tower made the vectors.
    n_dims
        Length of a vector.
    """

    tower_version: str
    n_dims: int

    @property
    def n(self) -> int:
        """How many posts are here."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""

    def add(
        self,
        post_ids: Int64Array,
        vectors: Float32Array,
        created_ms: Int64Array,
        author_ids: Int64Array,
        languages: Int32Array,
    ) -> None:
        """Add posts; one that is here is replaced. The next search finds them.

        Parameters
        ----------
        post_ids, created_ms, author_ids
            Shape (n,), int64; ids other than 0. Of one post given twice the last counts.
        vectors
            Shape (n, d), float32, each of length 1.
        languages
            Shape (n,), int32 codes, 0 for unknown.

        Raises
        ------
        SchemaError
            If shapes do not fit, an id is 0, a code negative or a vector not finite or not of length 1. Nothing is
            added then.
        """

    def remove(self, post_ids: Int64Array) -> None:
        """Remove posts, those unknown passed over. No search finds them any more."""

    def search(
        self, query: Float32Array, k: int, eligibility: Eligibility = EVERYTHING
    ) -> tuple[Int64Array, Float32Array]:
        """Return the eligible posts with the largest inner product with a query.

        Parameters
        ----------
        query
            Shape (d,) or (q, d), float32, finite.
        k
            How many at most.
        eligibility
            Which posts may be found.

        Returns
        -------
        tuple
            Ids (int64) and scores (float32), best first, ties by id ascending. For one query, shape (m,) with m at
            most ``k``; for q of them shape (q, k), filled up with id 0 and score -inf.

        Raises
        ------
        SchemaError
            If a query is not finite or of another length.
        """

    def tend(self, max_rows: int = 200) -> None:
        """Do a little of the upkeep that is due: call it between requests. Results may change, never what is here."""

    def close(self) -> None:
        """Wait for work aside to end. Closing twice is fine."""


def checked_rows(
    n_dims: int,
    post_ids: Int64Array,
    vectors: Float32Array,
    created_ms: Int64Array,
    author_ids: Int64Array,
    languages: Int32Array,
) -> PostVectors:
    """Return rows to add, or raise `SchemaError` with what is wrong with them (`VectorIndex.add`)."""
    n = len(post_ids)
    rows = PostVectors(
        post_ids=np.ascontiguousarray(post_ids, dtype=np.int64),
        vectors=np.ascontiguousarray(vectors, dtype=np.float32),
        created_ms=np.ascontiguousarray(created_ms, dtype=np.int64),
        author_ids=np.ascontiguousarray(author_ids, dtype=np.int64),
        languages=np.ascontiguousarray(languages, dtype=np.int32),
    )
    if rows.vectors.shape != (n, n_dims):
        raise SchemaError(
            "post vectors", value=rows.vectors.shape, problem=f"not of shape {(n, n_dims)}", remedy="one row a post"
        )
    for name in ("created_ms", "author_ids", "languages"):
        shape = getattr(rows, name).shape
        if shape != (n,):
            raise SchemaError(f"post {name}", value=shape, problem=f"not of shape {(n,)}", remedy="one a post")
    if not rows.post_ids.all():
        raise SchemaError("post id", value=0, problem="0 means none", remedy="leave the row out")
    _checked_languages(rows.languages, "post languages")
    length = np.sqrt(np.square(rows.vectors).sum(axis=1))
    is_bad = ~(np.abs(length - 1.0) <= _LENGTH_TOLERANCE)  # NaN is bad
    if is_bad.any():
        row = int(np.argmax(is_bad))
        raise SchemaError(
            f"vector of post {rows.post_ids[row]}",
            value=float(length[row]),
            problem="its length is not 1",
            remedy="divide a vector by its length; leave out posts without one",
        )
    return rows


def checked_queries(n_dims: int, query: Float32Array) -> Float32Array:
    """Return queries as shape (q, d), float32, or raise `SchemaError` (`VectorIndex.search`)."""
    queries = np.ascontiguousarray(np.atleast_2d(query), dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != n_dims:
        raise SchemaError(
            "query vector",
            value=np.shape(query),
            problem=f"not of length {n_dims}",
            remedy="use this index's own tower",
        )
    is_finite = np.isfinite(queries).all(axis=1)
    if not is_finite.all():
        raise SchemaError(
            "query vector",
            value=int(np.argmin(is_finite)),
            problem="this row of it is not finite",
            remedy="answer from other sources; see what the user tower was given",
        )
    return queries
