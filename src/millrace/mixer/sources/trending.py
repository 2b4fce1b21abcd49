"""Posts that rise: everywhere, and in the topics of the viewer's history."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.query_fields import LANGUAGES, LIKED_TOPICS
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.filters.viewer_settings import LANGUAGE_IS_ON, judges_languages, understands
from millrace.mixer.kinds import ORIGINAL, QUOTE
from millrace.mixer.sources.facts import HAD, best, is_new, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.counters import Counters
from millrace.stores.decayed_rows import Float64Array
from millrace.stores.post_store import PostStore

MAX_POSTS = Param("trending.max_posts", 200, 0, 5_000, "most rising posts: half of all, half in liked topics")
MAX_POOL = Param("trending.max_pool", 1_024, 0, 65_536, "how many of the hottest posts are looked at")
PRIOR_H = Param("trending.prior_h", 1.0, 0.01, 48.0, "added to a post's age, hours: the first minutes prove little")
PRIOR_PER_H = Param("trending.prior_per_h", 2.0, 0.01, 1_000.0, "engagements per hour that are nothing special")

_HOUR_MS: Final = 3_600_000


def velocity(
    heat: Float64Array,
    totals: Float64Array,
    age_h: Float64Array,
    *,
    half_life_h: float,
    prior_h: float,
    prior_per_h: float,
) -> Float64Array:
    """Return how fast posts rise: engagements per hour now, times how that compares with their own long run.

    With a = age + ``prior_h`` and T = ``half_life_h``, all engagements weighted as in heat::

        now      = heat * ln 2 / T / (1 - 2 ** (-a / T))
        long run = totals / a
        velocity = now * (now + prior_per_h) / (long run + prior_per_h)

    A post that is engaged with evenly, r times an hour, has heat ``r * T / ln 2 * (1 - 2 ** (-a / T))`` at age a, so
    ``now`` is r at any age, and the two are equal: only a change makes them differ. ``prior_h`` keeps a like in the
    first minute from being sixty an hour, ``prior_per_h`` keeps the second like of a slow post from being a rise.

    Parameters
    ----------
    heat, totals
        Shape (n,), float64: decayed and undecayed weighted engagements.
    age_h
        Shape (n,), float64: hours since publication.
    half_life_h
        Of heat.
    prior_h, prior_per_h
        See above.
    """
    age = np.maximum(age_h, 0.0) + prior_h
    now = heat * (math.log(2.0) / half_life_h) / -np.expm1(-math.log(2.0) / half_life_h * age)
    return now * (now + prior_per_h) / (totals / age + prior_per_h)


class TrendingSource(Source):
    """Takes the posts whose engagement rises fastest for what they had so far.

    Half of the places go to posts from anywhere, the other half to posts in the topics of the viewer's history; what
    topics leave free is filled from anywhere.
    """

    name = "trending"
    reads = (LIKED_TOPICS, LANGUAGES, *HAD)
    writes = (RETRIEVAL_SCORE,)
    params = (MAX_AGE_H, MAX_POOL, PRIOR_H, PRIOR_PER_H, LANGUAGE_IS_ON)
    cap = MAX_POSTS

    def __init__(self, counters: Counters, posts: PostStore) -> None:
        self._counters = counters
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, the fastest first."""
        found = self._found(query)
        max_posts = query.params.get_int(MAX_POSTS)
        rows = best(found.velocity, found.post_ids, len(found.post_ids), found.is_in)
        in_topics = found.is_in_topics[rows]
        places = np.arange(len(rows))
        half = max_posts - max_posts // 2
        is_chosen = (places < half) | (in_topics & (np.cumsum(in_topics & (places >= half)) <= max_posts // 2))
        n_free = max_posts - int(is_chosen.sum())
        is_chosen[np.flatnonzero(~is_chosen)[: max(n_free, 0)]] = True
        rows = rows[is_chosen]
        return CandidateBatch({POST_ID: found.post_ids[rows], RETRIEVAL_SCORE: found.velocity[rows].astype(np.float32)})

    def explain(self, query: Query, key: int) -> str:
        """Say how fast it rises, and how many rise faster."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        found = self._found(query)
        place = np.flatnonzero(found.post_ids == key)
        if not len(place):
            return f"it is not among the {len(found.post_ids):,} hottest posts"
        row = place[0]
        if not found.is_in[row]:
            return "it is in a language that you do not read"
        n_faster = int((found.is_in & (found.velocity > found.velocity[row])).sum())
        topics = "in" if found.is_in_topics[row] else "not in"
        return (
            f"it rises at {found.velocity[row]:.2f} an hour and is {topics} your topics; {n_faster:,} posts rise "
            f"faster, and the cap is {query.params.get_int(MAX_POSTS)}"
        )

    def _found(self, query: Query) -> _Found:
        params = query.params
        hot = self._counters.hot(query.now_ms, params.get_int(MAX_POOL))
        posts = self._posts.gather(self._posts.find(hot.post_ids))
        is_in = is_new(query, hot.post_ids) & (posts.created_ms >= query.now_ms - max_age_ms(query))
        is_in &= (posts.kind == ORIGINAL) | (posts.kind == QUOTE)
        if judges_languages(query):
            is_in &= understands(query, posts.language)
        speeds = velocity(
            hot.heat,
            hot.totals,
            (query.now_ms - posts.created_ms) / _HOUR_MS,
            half_life_h=self._counters.heat_half_life_ms / _HOUR_MS,
            prior_h=params.get_float(PRIOR_H),
            prior_per_h=params.get_float(PRIOR_PER_H),
        )
        is_in_topics = (posts.topics[:, :, None] == query[LIKED_TOPICS]).any(axis=(1, 2))
        return _Found(hot.post_ids, speeds, is_in & (posts.post_id != 0), is_in_topics)


class _Found(NamedTuple):
    post_ids: Int64Array
    velocity: Float64Array
    is_in: BoolArray
    is_in_topics: BoolArray
