"""Feeds to compare: the home feed as it is, simple baselines, the oracle, and feeds that are broken on purpose.

Each is a change of the home pipeline's stages, so that everything else (filters, claims, logs) stays the same. Wiring
puts them in for simulations only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.base.order import top_k
from millrace.features.columns import (
    AUTHOR_FOLLOWERS,
    AUTHOR_ID,
    CREATED_MS,
    IS_IN_NETWORK,
    POST_COUNTS,
    POST_ID,
    SCORE,
)
from millrace.mixer.feed_state import FeedState
from millrace.mixer.hydrators.counts import CountsHydrator
from millrace.mixer.hydrators.taste import TasteHydrator
from millrace.mixer.hydrators.viewer import AffinityHydrator
from millrace.mixer.query_hydrators.likes import LikesQueryHydrator
from millrace.mixer.sources.facts import HAD, is_new
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.column import BoolArray, IntArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Filter, HydratedValues, Hydrator, OnError, Ranker, Selector, Source
from millrace.simulator.oracle import Oracle, OracleRanker, OracleSource
from millrace.simulator.policies import FeedName
from millrace.stores.post_store import PostStore

_N_RANDOM: Final = 600
_NEWEST_LOOKED_AT: Final = 200_000
_DROPPED_OF_TEN: Final = 7
_HEAD_FOLLOWERS: Final = 30.0

Revise = Callable[[Stages], Stages]


class TopSelector(Selector):
    """The best by score, and no further rules."""

    name = "top"
    reads = (SCORE, POST_ID)

    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:
        """Return rows best first."""
        return top_k(batch[SCORE], batch[POST_ID], n_wanted)


class RandomSource(Source):
    """Takes posts at random from all that live."""

    name = "random"
    reads = HAD

    def __init__(self, posts: PostStore, max_age_ms: int) -> None:
        self._posts = posts
        self._max_age_ms = max_age_ms

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts in no order."""
        ids = self._posts.post_ids(self._posts.newest_overall(_NEWEST_LOOKED_AT, query.now_ms, self._max_age_ms))
        ids = ids[is_new(query, ids)]
        chosen = query.rng("random source").permutation(len(ids))[:_N_RANDOM]
        return CandidateBatch({POST_ID: ids[chosen]})


class RandomRanker(Ranker):
    """Any order."""

    name = "random"
    reads = (SCORE,)
    writes = (SCORE,)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return random scores."""
        return {SCORE: query.rng("random ranker").random(batch.n, dtype=np.float32)}


class ChronologicalRanker(Ranker):
    """Followed authors' posts newest first, then everybody's newest first."""

    name = "chronological"
    reads = (CREATED_MS, IS_IN_NETWORK, SCORE)
    writes = (SCORE,)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return scores in order of time; minutes of age are exact in float32 for years."""
        age_s = (query.now_ms - batch[CREATED_MS]) / 1000.0
        return {SCORE: (1e7 * (1.0 + batch[IS_IN_NETWORK]) - age_s).astype(np.float32)}


class PopularRanker(Ranker):
    """What got most reactions, whoever asks."""

    name = "popular"
    reads = (POST_COUNTS, SCORE)
    writes = (SCORE,)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return decayed likes, reposts and replies."""
        counts = batch[POST_COUNTS]
        heat = counts[:, Action.LIKE] + 2 * counts[:, Action.REPOST] + 2 * counts[:, Action.REPLY]
        return {SCORE: heat.astype(np.float32)}


class ReversedRanker(Ranker):
    """Broken: the worst first."""

    name = "reversed"
    reads = (SCORE,)
    writes = (SCORE,)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return scores in the opposite order."""
        return {SCORE: (batch[SCORE].max(initial=0.0) - batch[SCORE]).astype(np.float32)}


class ConstantRanker(Ranker):
    """Broken: everything is worth the same, so that ids decide."""

    name = "constant"
    reads = (SCORE,)
    writes = (SCORE,)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return ones."""
        return {SCORE: np.ones(batch.n, dtype=np.float32)}


class SmallCreatorsRanker(Ranker):
    """Lifts authors whom few follow: an experiment whose effect comes back through what creators then do."""

    name = "small_creators"
    reads = (AUTHOR_FOLLOWERS, SCORE)
    writes = (SCORE,)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return scores, doubled for who has no followers, as they are for who has many."""
        lift = 1.0 + _HEAD_FOLLOWERS / (_HEAD_FOLLOWERS + batch[AUTHOR_FOLLOWERS])
        return {SCORE: (batch[SCORE] * lift).astype(np.float32)}


class OverFilter(Filter):
    """Broken: drops most of what the viewer's followed accounts posted."""

    name = "over_filter"
    reads = (POST_ID, IS_IN_NETWORK)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return the mask."""
        keep: BoolArray = ~batch[IS_IN_NETWORK] | (batch[POST_ID] % 10 >= _DROPPED_OF_TEN)
        return keep


class PassFilter(Filter):
    """Broken: stands in a filter's place and keeps everything."""

    on_error = OnError.KEEP_ALL

    def __init__(self, broken: Filter) -> None:
        self.name = broken.name
        self.reads = (AUTHOR_ID,)

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return a mask that is true."""
        return np.ones(batch.n, dtype=np.bool_)


class _StaleTaste(Hydrator):
    """Compares texts with what the viewer liked as long as the stale stores were followed."""

    def __init__(self, taste: TasteHydrator, likes: LikesQueryHydrator) -> None:
        self.name = taste.name
        self.reads = taste.reads
        self.writes = taste.writes
        self.params = (*taste.params, *likes.params)
        self._taste = taste
        self._likes = likes

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the likeness to older likes."""
        return self._taste.hydrate(query.with_fields(self._likes.hydrate(query)), batch)


class _Silenced(Source):
    """A source that finds nothing; its columns keep their fills."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.writes = source.writes

    def is_enabled(self, query: Query) -> bool:
        """Never."""
        return False

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return nothing; never called."""
        return CandidateBatch({POST_ID: np.empty(0, dtype=np.int64)})


def revise(feed: FeedName, state: FeedState, *, oracle: Oracle | None, stale: FeedState | None) -> Revise | None:
    """Return how a feed changes the home pipeline's stages; None for the home feed as it is.

    Parameters
    ----------
    feed
        Which.
    state
        The stores that the pipeline reads.
    oracle
        For the feeds that know the truth.
    stale
        Stores that stopped following two days before the run began, for the ranker that has.
    """
    if feed in _RANKERS:
        return _ranked_by(_RANKERS[feed]())
    if feed == "random":
        return _plain((RandomSource(state.posts, _MAX_AGE_MS),), RandomRanker(), keep_sources=())
    if feed == "shuffled":
        return lambda stages: replace(_top(stages), rankers=(*stages.rankers, RandomRanker()))
    if feed == "chronological":
        return _plain((), ChronologicalRanker(), keep_sources=("in_network", "recent"))
    if feed == "popular":
        return _plain((), PopularRanker(), keep_sources=("popular", "trending", "recent"))
    if feed == "oracle" and oracle is not None:
        return lambda stages: replace(_top(stages), rankers=(*stages.rankers, OracleRanker(oracle)))
    if feed == "oracle_all" and oracle is not None:
        return _plain((OracleSource(oracle),), OracleRanker(oracle), keep_sources=())
    if feed == "stale" and stale is not None:
        return _stale(stale)
    if feed == "over_filtered":
        return lambda stages: replace(stages, filters=(OverFilter(), *stages.filters))
    if feed == "unfiltered":
        return _unfiltered
    return None


_MAX_AGE_MS: Final = 48 * 3_600_000
_RANKERS: Final[dict[str, Callable[[], Ranker]]] = {
    "reversed": ReversedRanker,
    "constant": ConstantRanker,
    "small_creators": SmallCreatorsRanker,
}
_BROKEN_FILTERS: Final = ("blocked_author", "muted_author", "seen", "served", "claimed")


def _ranked_by(ranker: Ranker) -> Revise:
    return lambda stages: replace(stages, rankers=(*stages.rankers, ranker))


def _top(stages: Stages) -> Stages:
    return replace(stages, re_rankers=(), selector=TopSelector())


def _plain(sources: Sequence[Source], ranker: Ranker, keep_sources: Sequence[str]) -> Revise:
    """Return a change to other sources, one ranker at the end, and no re-ranking."""

    def change(stages: Stages) -> Stages:
        kept = [source if source.name in keep_sources else _Silenced(source) for source in stages.sources]
        return replace(_top(stages), sources=(*sources, *kept), rankers=(*stages.rankers, ranker))

    return change


def _stale(frozen: FeedState) -> Revise:
    engagements = frozen.engagements
    likes = LikesQueryHydrator(engagements.histories, frozen.posts, frozen.profiles)

    def change(stages: Stages) -> Stages:
        hydrators: list[Hydrator] = []
        for hydrator in stages.hydrators:
            if isinstance(hydrator, CountsHydrator):
                hydrators.append(CountsHydrator(engagements.counters))
            elif isinstance(hydrator, AffinityHydrator):
                hydrators.append(AffinityHydrator(engagements.histories))
            elif isinstance(hydrator, TasteHydrator):
                hydrators.append(_StaleTaste(hydrator, likes))
            else:
                hydrators.append(hydrator)
        return replace(stages, hydrators=tuple(hydrators))

    return change


def _unfiltered(stages: Stages) -> Stages:
    filters = [PassFilter(f) if f.name in _BROKEN_FILTERS else f for f in stages.filters]
    return replace(stages, filters=tuple(filters))
