"""The feed's own predictions, as of the moment: the log is folded up to each slate's cut and no further.

Slates come in the order of their cuts. Before a record is folded that a slate must not know of, the slate's posts go
through the home pipeline's hydrators and rankers, over the same state that a server would have had. Several slates may
share one position of the state (at most ``behind_ms`` old): a prediction may be a little stale, never too fresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from millrace.app import wiring
from millrace.app.home_retrieval import HomeRetrieval
from millrace.app.settings import Settings
from millrace.base.errors import CheckpointError, StoreError
from millrace.base.ids import Int64Array
from millrace.features.columns import ACTION_PROBS, HAS_POST, IS_IN_NETWORK, LANGUAGE, POST_ID, SCORE
from millrace.flywheel.metrics import BoolArray, rank_of
from millrace.flywheel.retrieval import Retrievals
from millrace.flywheel.samples import SampleFacts
from millrace.flywheel.slates import Float32Array, Slates
from millrace.mixer.home_models import MODELS
from millrace.pipeline.query import Query
from millrace.registry.pointer import DEFAULT_LANE
from millrace.stream.log import total

if TYPE_CHECKING:
    from millrace.base.ids import IdHasher
    from millrace.mixer.feed_state import FeedState
    from millrace.pipeline.batch import CandidateBatch
    from millrace.stores.replica import Replica
    from millrace.stream.log import Log

NEW_VIEWER_ACTIONS: Final = 10
"""Viewers with fewer actions in their history are new: hardly anything personal can be said."""

OnProgress = Callable[[int, int], None]
"""Called with (records folded, records to fold)."""

Visit = Callable[[int], Coroutine[Any, Any, None]]
"""Called with the number of a slate."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """What was known of, and predicted for, the rows of `Slates`.

    Attributes
    ----------
    facts
        What slices are made of.
    probs
        Shape (n, n_actions), float32: P(action), amounts for continuous actions.
    scores
        Shape (n,), float32: what the feed sorts by, before the page is chosen.
    is_live
        Shape (n,), bool: the post store had the post.
    retrievals
        Of the sampled rows.
    language_names
        Code to name.
    """

    facts: SampleFacts
    probs: Float32Array
    scores: Float32Array
    is_live: BoolArray
    retrievals: Retrievals
    language_names: dict[int, str]


def predict_as_of(
    settings: Settings,
    log: Log,
    hasher: IdHasher,
    slates: Slates,
    sampled_rows: Int64Array,
    *,
    behind_ms: int,
    on_progress: OnProgress,
) -> AsOf:
    """Return the predictions for every row, and the recall of the sampled ones.

    Raises
    ------
    StoreError
        If the log has been trimmed and no checkpoint is old enough to begin from.
    """
    feeds: list[_FeedAsOf] = []

    def feed_of(state: FeedState) -> Visit:
        feed = _FeedAsOf(settings, state, slates)
        feeds.append(feed)
        return lambda slate: feed.predict(slate, sampled_rows)

    visit_as_of(settings, log, hasher, slates, feed_of, behind_ms=behind_ms, on_progress=on_progress)
    return feeds[0].finished()


def visit_as_of(
    settings: Settings,
    log: Log,
    hasher: IdHasher,
    slates: Slates,
    visitor_of: Callable[[FeedState], Visit],
    *,
    behind_ms: int,
    on_progress: OnProgress,
) -> None:
    """Visit every slate while the state stands where a server's stood, or up to ``behind_ms`` before.

    Parameters
    ----------
    visitor_of
        Called once with the state, which moves on between visits; returns what is called with each slate's number.

    Raises
    ------
    StoreError
        If the log has been trimmed and no checkpoint is old enough to begin from.
    """
    replica = wiring.build_replica(settings, log, has_content_reads=False, hasher=hasher)
    try:
        begin_before(replica, int(slates.cuts[0]))
        first, last = total(replica.position), int(slates.cuts[-1])
        visit = visitor_of(replica.state)
        with asyncio.Runner() as runner:
            for group in _groups(slates, behind_ms):
                cut = int(slates.cuts[group.start])
                while (at := total(replica.position)) < cut:
                    replica.step(replica.config.catch_up_records, before=(cut,))
                    if total(replica.position) == at:
                        break
                    on_progress(total(replica.position) - first, last - first)
                for slate in group:
                    runner.run(visit(slate))
    finally:
        replica.close()


def begin_before(replica: Replica[FeedState], first_cut: int) -> None:
    """Begin from the newest checkpoint that knows nothing of the first slate, or from the log's beginning.

    Raises
    ------
    StoreError
        If the log was trimmed, and no checkpoint is so old.
    """
    try:
        replica.restore(not_beyond=(first_cut,))
    except CheckpointError as error:
        raise StoreError(
            "log",
            value=tuple(replica.log.begin()),
            problem="was trimmed, and no checkpoint stands before the first page that is looked back at",
            remedy="look back at fewer of the last hours: --hours 1",
        ) from error


def _groups(slates: Slates, behind_ms: int) -> Iterator[range]:
    """Yield stretches of slates that share a position of the state: that of the first one's cut."""
    start = 0
    cuts, began_ms = slates.cuts.tolist(), slates.began_ms.tolist()
    for slate in range(1, len(cuts) + 1):
        is_behind = slate == len(cuts) or abs(began_ms[slate] - began_ms[start]) > behind_ms
        if is_behind or (behind_ms == 0 and cuts[slate] != cuts[start]):
            yield range(start, slate)
            start = slate


class _FeedAsOf:
    """The pipeline over a state that moves on, and the columns that it fills."""

    def __init__(self, settings: Settings, state: FeedState, slates: Slates) -> None:
        n = len(slates.post_ids)
        self._state = state
        self._slates = slates
        self._retrieval = HomeRetrieval(fills_at_once=True)
        self._pipeline = wiring.build_home_pipeline(settings, state, retrieval=self._retrieval)
        # Those of now: what they had learned by then is another question.
        with wiring.build_models(settings).lease(DEFAULT_LANE) as models:
            self._models = models
        self._params = wiring.config_params(settings, self._pipeline.params)
        self._probs: Float32Array = np.zeros((n, slates.labels.shape[1]), dtype=np.float32)
        self._scores: Float32Array = np.zeros(n, dtype=np.float32)
        self._languages = np.zeros(n, dtype=np.int64)
        self._is_in_network = np.zeros(n, dtype=np.bool_)
        self._is_live = np.zeros(n, dtype=np.bool_)
        self._is_new = np.zeros(len(slates), dtype=np.bool_)
        self._found: list[tuple[int, int, int, bool]] = []

    async def predict(self, slate: int, sampled_rows: Int64Array) -> None:
        """Fill in one slate's rows."""
        slates = self._slates
        rows = slice(int(slates.starts[slate]), int(slates.starts[slate + 1]))
        query = self._query(slate)
        self._retrieval.advance()
        batch = await self._pipeline.score(query, slates.post_ids[rows])
        self._probs[rows], self._scores[rows] = batch[ACTION_PROBS], batch[SCORE]
        self._languages[rows], self._is_in_network[rows] = batch[LANGUAGE], batch[IS_IN_NETWORK]
        self._is_live[rows] = batch[HAS_POST]
        n_actions = self._state.engagements.histories.n_actions(slates.viewers[slate : slate + 1])
        self._is_new[slate] = n_actions[0] < NEW_VIEWER_ACTIONS
        wanted = sampled_rows[np.searchsorted(sampled_rows, rows.start) : np.searchsorted(sampled_rows, rows.stop)]
        wanted = wanted[self._is_live[wanted]]
        if len(wanted):
            await self._look_for(query, wanted)

    def finished(self) -> AsOf:
        """Return what was found out."""
        slates, slate_of = self._slates, self._slates.slate_of
        facts = SampleFacts(
            viewers=slates.viewers[slate_of],
            slates=slate_of,
            languages=self._languages,
            is_in_network=self._is_in_network,
            is_new_viewer=self._is_new[slate_of],
        )
        rows, ranks, n_live, is_found = np.array(self._found, dtype=np.int64).reshape(-1, 4).T
        names = self._state.codes.languages.names()
        return AsOf(
            facts=facts,
            probs=self._probs,
            scores=self._scores,
            is_live=self._is_live,
            retrievals=Retrievals(facts.take(rows), slates.labels[rows] > 0, ranks, n_live, is_found > 0),
            language_names=dict(enumerate(names, 1)),
        )

    async def _look_for(self, query: Query, rows: Int64Array) -> None:
        """Rank the whole live corpus for a slate's viewer, and ask the sources; keep what became of some posts."""
        posts = self._state.posts
        corpus: CandidateBatch = await self._pipeline.score(query, posts.post_ids(posts.live()))
        retrieved = await self._pipeline.retrieve(query)
        found = np.concatenate([keys for _, keys in retrieved]) if retrieved else np.empty(0, dtype=np.int64)
        ids, scores = corpus[POST_ID], corpus[SCORE]
        for row in rows.tolist():
            post_id = self._slates.post_ids[row]
            place = int(np.flatnonzero(ids == post_id)[0])
            self._found.append((row, rank_of(scores, ids, place), corpus.n, bool((found == post_id).any())))

    def _query(self, slate: int) -> Query:
        return Query(
            request_id=f"eval-{slate}",
            viewer_id=int(self._slates.viewers[slate]),
            now_ms=int(self._slates.began_ms[slate]),
            limit=max(int(self._slates.starts[slate + 1] - self._slates.starts[slate]), 1),
            params=self._params,
            fields={MODELS: self._models},
            state_offset=(int(self._slates.cuts[slate]),),
            is_dry_run=True,
        )
