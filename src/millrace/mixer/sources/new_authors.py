"""Posts by people who are new here, or whom hardly anybody follows yet."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.content.text_index import TextIndex
from millrace.features.columns import POST_ID
from millrace.features.query_fields import LANGUAGES, SHOWS_ALL_LANGUAGES
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, judges_languages, understands
from millrace.mixer.sources.facts import HAD, had
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.fair_share import rank_in_group
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.post_store import PostStore
from millrace.stores.profiles import ProfileStore

MAX_POSTS: Final = Param("new_authors.max_posts", 100, 0, 2_000, "most posts by new authors, newest first")
MAX_POOL: Final = Param("new_authors.max_pool", 2_048, 0, 65_536, "how many of the newest originals it looks at")
MAX_AUTHOR_AGE_D: Final = Param(
    "new_authors.max_age_d", 7.0, 0.0, 3_650.0, "how long ago an author was first seen who counts as new, days"
)
MAX_FOLLOWERS: Final = Param(
    "new_authors.max_followers", 0, 0, 1_000_000, "authors with at most so many followers count as new too; 0: none do"
)
MAX_PER_AUTHOR: Final = Param("new_authors.max_per_author", 2, 1, 100, "most posts of one new author")

_DAY_MS: Final = 86_400_000


class NewAuthorsSource(Source):
    """Takes the newest originals by authors first seen lately, a few of each, that the viewer has not had and can read.

    Without it nobody would meet them: nobody follows them yet, and nobody engaged with what they wrote.
    """

    name = "new_authors"
    reads = (*HAD, LANGUAGES, SHOWS_ALL_LANGUAGES)
    params = (MAX_POOL, MAX_AUTHOR_AGE_D, MAX_FOLLOWERS, MAX_PER_AUTHOR, MAX_AGE_H, IS_CROSS_LINGUAL)
    cap = MAX_POSTS

    def __init__(self, texts: TextIndex, posts: PostStore, profiles: ProfileStore, graph: FollowGraph) -> None:
        self._texts = texts
        self._posts = posts
        self._profiles = profiles
        self._graph = graph

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts in the order of their arrival, newest first."""
        post_ids, author_ids, created_ms = self._texts.newest(query.params.get_int(MAX_POOL))
        rows = np.flatnonzero(
            self._is_new(query, author_ids)
            & (created_ms >= query.now_ms - max_age_ms(query))
            & (author_ids != query.viewer_id)
            & ~is_member(post_ids, had(query))
        )
        if judges_languages(query):
            language = self._posts.gather(self._posts.find(post_ids[rows])).language
            rows = rows[understands(query, language)]
        rows = rows[rank_in_group(author_ids[rows]) < query.params.get_int(MAX_PER_AUTHOR)]
        return CandidateBatch({POST_ID: post_ids[rows[: query.params.get_int(MAX_POSTS)]]})

    def explain(self, query: Query, key: int) -> str:
        """Say whether the author is new, and what else kept the post out."""
        found = self._posts.gather(self._posts.find(np.array([key], dtype=np.int64)))
        if found.post_id[0] == 0:
            return "the post store does not have it"
        if not self._is_new(query, found.author_id)[0]:
            days = (query.now_ms - int(self._profiles.created_ms(found.author_id)[0])) / _DAY_MS
            followers = int(self._graph.n_followers(found.author_id)[0])
            return f"its author is not new: first seen {days:.0f} days ago, {followers} followers"
        if is_member(found.post_id, had(query))[0]:
            return "the viewer has had it"
        return "its author is new, but newer posts took the places, or it is a reply, repost or quote"

    def _is_new(self, query: Query, author_ids: Int64Array) -> BoolArray:
        since_ms = query.now_ms - int(query.params.get_float(MAX_AUTHOR_AGE_D) * _DAY_MS)
        is_new: BoolArray = self._profiles.created_ms(author_ids) > since_ms
        max_followers = query.params.get_int(MAX_FOLLOWERS)
        if max_followers > 0:
            is_new |= self._graph.n_followers(author_ids) <= max_followers
        return is_new
