"""Posts whose learned vectors are nearest to the viewer's: of all that live, in a few milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.encoding.viewers import ViewerEncoder, ViewerInputs
from millrace.features.query_fields import (
    BLOCKED,
    BLOCKED_BY,
    FOLLOWING,
    LANGUAGES,
    LIKED_POSTS,
    MUTED,
    SHOWS_ALL_LANGUAGES,
    VIEWER_INPUTS,
)
from millrace.inference.tables import Float32Array
from millrace.inference.vector_index import Eligibility
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, judges_languages
from millrace.mixer.sources.facts import HAD, had, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

MAX_POSTS: Final = Param("vector.max_posts", 500, 0, 5_000, "most posts that lie nearest to the viewer")
HAS_FOLLOWED: Final = Param(
    "vector.has_followed", default=False, doc="look among posts by accounts that the viewer follows as well"
)
IS_ON: Final = Param("vector.is_on", default=True, doc="whether learned vectors find posts")


class Retriever(Protocol):
    """What finds posts: `millrace.inference.post_index.PostIndex`."""

    def search(self, viewer: ViewerInputs, k: int, eligibility: Eligibility) -> tuple[Int64Array, Float32Array]:
        """Return the eligible posts nearest to a viewer, best first, and their cosines; shape (m,) with m at most k."""

    def cosine(self, viewer: ViewerInputs, post_id: int) -> float | None:
        """Return how near a viewer and a post are; None if the post cannot be found here."""


RetrieverOf = Callable[[Query], Retriever | None]
"""Gives what serves a request: several versions may be live at once; None where none is."""


def no_retriever(_query: Query) -> None:
    """Serve no request."""


class VectorSource(Source):
    """Takes the originals and quotes whose vectors are nearest to the viewer's.

    What may be shown is decided before the best are taken: age, language, blocks and mutes in both directions, what
    the viewer has had, liked or wrote. Posts by accounts that the viewer follows are `InNetworkSource`'s.

    Parameters
    ----------
    retriever_of
        Gives what serves a request: several versions may be live at once; None where none is.
    viewers
        Encodes the viewer.
    posts
        Tells why something was not found.
    """

    name = "vector"
    reads = (*HAD, LIKED_POSTS, FOLLOWING, BLOCKED, BLOCKED_BY, MUTED, LANGUAGES, SHOWS_ALL_LANGUAGES, VIEWER_INPUTS)
    writes = (RETRIEVAL_SCORE,)
    params = (IS_ON, HAS_FOLLOWED, MAX_AGE_H, IS_CROSS_LINGUAL)
    cap = MAX_POSTS

    def __init__(self, retriever_of: RetrieverOf, viewers: ViewerEncoder, posts: PostStore) -> None:
        self._retriever_of = retriever_of
        self._viewers = viewers
        self._posts = posts

    def is_enabled(self, query: Query) -> bool:
        """Where a model serves the request, unless the param says no."""
        return query.params.get_bool(IS_ON) and self._retriever_of(query) is not None

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, the nearest first."""
        retriever = self._retriever_of(query)
        ids, cosines = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        if retriever is not None:
            viewer = query[VIEWER_INPUTS] or self._viewers.encode(query.viewer_id)
            ids, cosines = retriever.search(viewer, query.params.get_int(MAX_POSTS), eligibility(query))
        return CandidateBatch({POST_ID: ids, RETRIEVAL_SCORE: cosines})

    def explain(self, query: Query, key: int) -> str:
        """Say how near the post is, and how near it would have had to be."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        retriever = self._retriever_of(query)
        cosine = None if retriever is None else retriever.cosine(self._viewers.encode(query.viewer_id), key)
        if cosine is None:
            return "it has no vector: no model serves, or its text is not among those that are kept"
        row = self._posts.find(np.array([key], dtype=np.int64))
        allowed, post = eligibility(query), self._posts.gather(row)
        if not allowed.mask(post.post_id, post.created_ms, post.author_id, post.language)[0]:
            return "by the viewer, or whom they follow, block or mute; liked already, or in another language"
        found = self.retrieve(query)
        last = f"{float(found[RETRIEVAL_SCORE][-1]):.2f}" if found.n else "nothing"
        return f"its cosine with the viewer is {cosine:.2f}; the last of the {found.n:,} nearest has {last}"


def eligibility(query: Query) -> Eligibility:
    """Return which posts a viewer may be shown, as far as an index can tell."""
    authors = [query[BLOCKED], query[BLOCKED_BY], query[MUTED], np.array([query.viewer_id], dtype=np.int64)]
    if not query.params.get_bool(HAS_FOLLOWED):
        authors.append(query[FOLLOWING])
    return Eligibility(
        not_before_ms=query.now_ms - max_age_ms(query),
        languages=query[LANGUAGES] if judges_languages(query) else np.empty(0, dtype=np.int32),
        excluded_authors=np.sort(np.concatenate(authors)),
        excluded_posts=np.sort(np.concatenate((had(query), query[LIKED_POSTS]))),
    )
