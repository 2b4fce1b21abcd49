"""`Oracle`: what the truth says about one viewer's possible pages; for the judge, and for the rankers that know it.

Only wiring of simulations puts these stages into a pipeline.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.features.columns import POST_ID, SCORE
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Ranker, Source
from millrace.simulator.atlas import Atlas
from millrace.simulator.draws import Int64Array
from millrace.simulator.posts import REPOST
from millrace.simulator.truth import BestSlate, best_slate, examination
from millrace.simulator.visits import is_among
from millrace.simulator.world import World

_LIVE_MS: Final = 48 * 3_600_000
_N_RETRIEVED: Final = 400
_FIRST_SCORE: Final = 1e6


class Oracle:
    """Knows the best slate of any posts for anybody.

    Parameters
    ----------
    world
        The truth.
    atlas
        Which post is which.
    """

    def __init__(self, world: World, atlas: Atlas) -> None:
        self.world = world
        self.atlas = atlas
        self._live_of = (-1, -1)
        self._live: Int64Array = np.empty(0, dtype=np.int64)

    def may_be_shown(self, viewer: int, rows: Int64Array, time_ms: int) -> Int64Array:
        """Return those of some posts that may be on a page: there, somebody else's, new to the viewer, allowed."""
        world, posts = self.world, self.world.posts
        author = posts["author"][rows]
        keep = (rows >= 0) & (author != viewer) & (posts["deleted_ms"][rows] > time_ms)
        keep &= posts["created_ms"][rows] < time_ms
        keep &= ~is_among(viewer * world.people.n_users + author, world.estranged)
        if not world.people.shows_sensitive[viewer]:
            keep &= ~posts["is_sensitive"][rows]
        keep &= ~posts["is_spam"][rows]
        keep &= world.memory.occasions(np.full(len(rows), viewer), rows) == 0
        shown: Int64Array = rows[keep]
        return shown

    def live(self, time_ms: int) -> Int64Array:
        """Return the posts that are young enough for a feed, as of the beginning of the slice."""
        start_ms = time_ms - time_ms % self.world.slice_ms
        if self._live_of != (start_ms, len(self.atlas)):
            created = self.world.posts["created_ms"]
            live = np.flatnonzero((created >= start_ms - _LIVE_MS) & (created < start_ms))
            # A session may last into the next slice: what is written meanwhile is not known to anybody's page.
            self._live = live[live < len(self.atlas)]
            self._live_of = start_ms, len(self.atlas)
        return self._live

    def best(self, viewer: int, rows: Int64Array, time_ms: int, k: int) -> tuple[Int64Array, BestSlate]:
        """Return the rows of the best slate of some posts, and what it is worth."""
        encounters = self.world.encounters
        situation = encounters.situation(np.full(len(rows), viewer), rows, time_ms)
        slate = best_slate(
            encounters.mechanism,
            situation,
            encounters.lately(situation),
            float(self.world.people.patience[viewer]),
            k,
            self._content(rows),
        )
        return rows[slate.rows], slate

    def _content(self, rows: Int64Array) -> Int64Array:
        posts = self.world.posts
        content: Int64Array = np.where(posts["kind"][rows] == REPOST, posts["parent"][rows], rows)
        return content

    def worth(self, viewer: int, rows: Int64Array, time_ms: int) -> float:
        """Return the expected value of one page, examination included."""
        encounters = self.world.encounters
        viewers = np.full(len(rows), viewer)
        situation = encounters.situation(viewers, rows, time_ms)
        response = encounters.respond(situation, np.zeros(len(rows), dtype=np.int64))
        value = encounters.worth(situation, response).value
        examine = examination(np.full(len(rows), self.world.people.patience[viewer]), np.arange(len(rows)))
        return float(value @ examine)


class OracleRanker(Ranker):
    """Puts the truth's own best slate first, whatever came before it."""

    name = "oracle"
    reads = (POST_ID, SCORE)
    writes = (SCORE,)

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return scores that have the best slate in its order, and nothing else above 0."""
        scores = np.zeros(batch.n, dtype=np.float32)
        rows = self._oracle.atlas.rows(batch[POST_ID])
        viewer = self._oracle.atlas.user_by_inside.get(query.viewer_id, -1)
        known = np.flatnonzero(rows >= 0)
        if viewer >= 0 and len(known):
            at = {row: i for i, row in zip(known.tolist(), rows[known].tolist(), strict=True)}
            chosen, _ = self._oracle.best(viewer, rows[known], query.now_ms, 2 * query.limit)
            for place, row in enumerate(chosen.tolist()):
                scores[at[row]] = _FIRST_SCORE - place
        return {SCORE: scores}


class OracleSource(Source):
    """Finds the posts that are truly worth most to the viewer, of all there are."""

    name = "oracle"

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts of the best slate first."""
        oracle = self._oracle
        viewer = oracle.atlas.user_by_inside.get(query.viewer_id, -1)
        if viewer < 0:
            return CandidateBatch({POST_ID: np.empty(0, dtype=np.int64)})
        rows = oracle.may_be_shown(viewer, oracle.live(query.now_ms), query.now_ms)
        chosen, _ = oracle.best(viewer, rows, query.now_ms, min(3 * query.limit, _N_RETRIEVED))
        return CandidateBatch({POST_ID: oracle.atlas.insides(chosen)})
