"""Posts whose text is like that of posts which the viewer liked."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.params import Param
from millrace.content.interests import interests_of
from millrace.content.text_index import MAX_SCANNED, TextIndex
from millrace.content.text_kernels import Float32Array
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.query_fields import LANGUAGES, LIKED_POSTS, SHOWS_ALL_LANGUAGES
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, judges_languages, understands
from millrace.mixer.sources.facts import HAD, had
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

MAX_POSTS: Final = Param("similar_content.max_posts", 200, 0, 2_000, "most posts like what the viewer liked")
MAX_POOL: Final = Param(
    "similar_content.max_pool", 300, 0, 5_000, "how many like posts it looks at, for some may be in other languages"
)
MAX_LIKED: Final = Param("similar_content.max_liked", 32, 0, 64, "how many of the newest liked posts count")
N_INTERESTS: Final = Param("similar_content.n_interests", 3, 1, 8, "how many interests they are grouped into at most")
MIN_COSINE: Final = Param("similar_content.min_cosine", 0.25, -1.0, 1.0, "the least likeness to an interest")

_SAME_INTEREST: Final = 0.35  # cosine; texts of one subject reach it, and what chance gives does not
_FADING: Final = 0.93  # each older like counts for so much of the one after it: the tenth for half


class SimilarContentSource(Source):
    """Takes originals and quotes whose text vectors are most like one of the viewer's interests.

    The newest liked posts, newer ones counting for more, are grouped into a few interests, and the newest 100,000
    eligible posts are compared with each of them, exactly.
    """

    name = "similar_content"
    reads = (LIKED_POSTS, *HAD, LANGUAGES, SHOWS_ALL_LANGUAGES)
    writes = (RETRIEVAL_SCORE,)
    params = (MAX_POOL, MAX_LIKED, N_INTERESTS, MIN_COSINE, MAX_AGE_H, IS_CROSS_LINGUAL)
    cap = MAX_POSTS

    def __init__(self, texts: TextIndex, posts: PostStore) -> None:
        self._texts = texts
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, the most alike first."""
        max_posts = query.params.get_int(MAX_POSTS)
        has_languages = judges_languages(query)
        interests = self._interests(query)
        n_wanted = max(query.params.get_int(MAX_POOL), max_posts) if has_languages else max_posts
        post_ids, cosines = self._texts.most_similar(
            interests,
            now_ms=query.now_ms,
            max_age_ms=max_age_ms(query),
            max_posts=n_wanted,
            n_scanned=MAX_SCANNED,
            min_similarity=query.params.get_float(MIN_COSINE),
            exclude_ids=np.concatenate((query[LIKED_POSTS], had(query))),
            exclude_author_id=query.viewer_id,
        )
        if has_languages:
            rows = np.flatnonzero(understands(query, self._posts.gather(self._posts.find(post_ids)).language))
            post_ids, cosines = post_ids[rows], cosines[rows]
        return CandidateBatch({POST_ID: post_ids[:max_posts], RETRIEVAL_SCORE: cosines[:max_posts]})

    def explain(self, query: Query, key: int) -> str:
        """Say how alike the post is, and how alike it would have had to be."""
        interests = self._interests(query)
        if not len(interests):
            return "the viewer liked no post lately that has a text"
        (vector,), (has_vector,) = self._texts.vectors(np.array([key], dtype=np.int64))
        if not has_vector:
            return "its text is not known, or it is not among the newest posts"
        if is_member(np.array([key]), np.concatenate((query[LIKED_POSTS], had(query))))[0]:
            return "the viewer has had it"
        cosine, least = float((interests @ vector).max()), query.params.get_float(MIN_COSINE)
        if cosine < least:
            return f"likeness {cosine:.2f} to what the viewer liked; the least is {least:g}"
        if judges_languages(query):
            language = self._posts.gather(self._posts.find(np.array([key], dtype=np.int64))).language
            if not understands(query, language)[0]:
                return "in a language that the viewer does not understand"
        found = self.retrieve(query)
        if found.n < query.params.get_int(MAX_POSTS):
            return "too old, by the viewer, a reply, or deleted"
        last = float(found[RETRIEVAL_SCORE][-1])
        return f"likeness {cosine:.2f} to what the viewer liked; the last of the {found.n} that it took has {last:.2f}"

    def _interests(self, query: Query) -> Float32Array:
        params = query.params
        vectors, has = self._texts.vectors(query[LIKED_POSTS][: params.get_int(MAX_LIKED)])
        weights = np.power(np.float32(_FADING), np.flatnonzero(has), dtype=np.float32)
        return interests_of(vectors[has], weights, params.get_int(N_INTERESTS), _SAME_INTEREST)
