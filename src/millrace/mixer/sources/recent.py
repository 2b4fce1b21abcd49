"""The newest posts of everybody: what there is when there is little else."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.features.query_fields import FLOOR_MS, LANGUAGES, SHOWS_ALL_LANGUAGES, SHOWS_SENSITIVE
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, judges_languages, understands
from millrace.mixer.sources.facts import HAD, is_new, n_had, why_not
from millrace.mixer.sources.screen import Screen
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

ONLY_BELOW = Param(
    "recent.only_below", 1_000, 0, 100_000, "takes part where the other sources found fewer posts than this"
)
MAX_POSTS = Param("recent.max_posts", 300, 0, 5_000, "most posts by anybody, newest first")

_MORE: Final = 4


class RecentSource(Source):
    """Takes the newest posts of all authors that the viewer may be shown, where the other sources found little.

    It goes back until it has its fill or has looked at every post that is young enough: what filters would drop,
    however much of it is newer, hides nothing. So fewer posts than its cap are all there are. In a place that has no
    more posts than that nothing can be hidden: all come along, and the filters say of each what is wrong with it.

    Parameters
    ----------
    posts
        The post store.
    screen
        What would be dropped later on, other than by language and sensitivity, which the post store looks at itself.
    """

    name = "recent"
    cap = MAX_POSTS
    only_below = ONLY_BELOW

    def __init__(self, posts: PostStore, screen: Screen) -> None:
        self._posts = posts
        self._screen = screen
        own = (*HAD, FLOOR_MS, LANGUAGES, SHOWS_ALL_LANGUAGES, SHOWS_SENSITIVE)
        self.reads = tuple(dict.fromkeys((*own, *screen.reads)))
        self.params = (MAX_AGE_H, IS_CROSS_LINGUAL, *screen.params)

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts newest first."""
        max_posts = query.params.get_int(MAX_POSTS)
        n_look = 2 * max_posts  # mostly enough, and a third of the time of looking past all that the viewer had
        is_screened = self._posts.n_posts > max_posts
        found = np.empty(0, dtype=np.int64)
        n_looked_at = 0
        while len(found) < max_posts:
            rows = self._posts.newest_overall(
                n_look,
                query.now_ms,
                min(max_age_ms(query), query.now_ms - query[FLOOR_MS] if is_screened else query.now_ms),
                languages=query[LANGUAGES] if is_screened and judges_languages(query) else None,
                with_sensitive=query[SHOWS_SENSITIVE] or not is_screened,
            )
            post_ids = self._posts.post_ids(rows[n_looked_at:])  # the state stands still: more are these and others
            post_ids = post_ids[is_new(query, post_ids)]
            if is_screened:
                post_ids = post_ids[self._screen.keep(query, post_ids)]
            found = np.concatenate((found, post_ids))
            if len(rows) < n_look:
                break
            n_looked_at, n_look = n_look, max(_MORE * n_look, max_posts + n_had(query))
        return CandidateBatch({POST_ID: found[:max_posts]})

    def explain(self, query: Query, key: int) -> str:
        """Say that it was not asked, what would have dropped the post, or how many newer posts there are."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        max_posts, only_below = query.params.get_int(MAX_POSTS), query.params.get_int(ONLY_BELOW)
        if key in self.retrieve(query)[POST_ID]:
            return f"it is a last resort, and the other sources found {only_below:,} posts or more"
        post = self._posts.gather(self._posts.find(np.array([key], dtype=np.int64)))
        if judges_languages(query) and not understands(query, post.language)[0]:
            return "it is in a language that you do not read"
        if post.is_sensitive[0] and not query[SHOWS_SENSITIVE]:
            return "it is marked as sensitive, and you do not want to be shown that"
        return self._screen.why_not(query, key) or f"there are {max_posts} newer posts"
