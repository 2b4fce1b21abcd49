"""Samples from a log: every slate's viewer and candidates, encoded as of the moment, beside what came of them.

For logs whose pages carry no features (imports, a world's history, another version's schema). The log is folded up to
each slate's cut and no further (`millrace.app.as_of`), the slate's posts go through the home pipeline's hydrators, and
the encoders that serve encode them: the same bytes that a server would have logged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.app import wiring
from millrace.app.as_of import OnProgress, Visit, visit_as_of
from millrace.app.settings import Settings
from millrace.base.errors import NothingSeenError
from millrace.base.ids import IdHasher, Int64Array
from millrace.features.columns import ACTION_PROBS, CONTENT_ID, HAS_POST, POST_ID
from millrace.features.encoding.encoders import Encoders
from millrace.flywheel.sample_builder import SampleBuilder
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.slates import Slates
from millrace.mixer.rankers.counters_ranker import CountersRanker
from millrace.mixer.selectors.newest import NewestSelector
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.query import Query
from millrace.stream.log import Log

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.mixer.feed_state import FeedState


BEHIND_MS: Final = 0
"""How old the state may be that a slate is replayed from: what a server had is what training reads."""


def samples_as_of(
    settings: Settings,
    log: Log,
    hasher: IdHasher,
    slates: Slates,
    *,
    behind_ms: int,
    on_progress: OnProgress,
    source: str = "",
) -> SampleSet:
    """Return the samples of slates; posts that the state no longer had are left out, and slates of none but such.

    Raises
    ------
    StoreError
        If there are no slates, or the log has been trimmed before the first of them.
    """
    found = replayed(settings, log, hasher, slates, behind_ms=behind_ms, on_progress=on_progress, source=source)
    return found[0]


def replayed(
    settings: Settings,
    log: Log,
    hasher: IdHasher,
    slates: Slates,
    *,
    behind_ms: int,
    on_progress: OnProgress,
    source: str = "",
) -> tuple[SampleSet, Int64Array]:
    """Return what `samples_as_of` returns, and the numbers of the slates that the samples are of, shape (S,)."""
    if not len(slates):
        raise nothing_seen()
    samplers: list[_Sampler] = []

    def sampler_of(state: FeedState) -> Visit:
        sampler = _Sampler(settings, state, slates, source)
        samplers.append(sampler)
        return sampler.visit

    visit_as_of(settings, log, hasher, slates, sampler_of, behind_ms=behind_ms, on_progress=on_progress)
    return samplers[0].builder.finished(), np.array(samplers[0].taken, dtype=np.int64)


def to_sample(stages: Stages) -> Stages:
    """Leave of the pipeline what says something of a given post (hydrators, counters), and what those read."""
    counters = tuple(stage for stage in stages.rankers if isinstance(stage, CountersRanker))
    return replace(
        stages,
        filters=(),
        pre_rankers=(),
        rankers=counters,
        re_rankers=(),
        selector=NewestSelector(),
        late_hydrators=(),
        late_filters=(),
        side_effects=(),
    )


def nothing_seen() -> NothingSeenError:
    """Return what is raised where there is nothing to learn from."""
    return NothingSeenError(
        "samples", problem="the log holds no impressions of pages within the span", remedy="give more --hours"
    )


def replay_home(
    settings: Settings, hasher: IdHasher, slates: Slates, on_progress: OnProgress, *, behind_ms: int = BEHIND_MS
) -> tuple[SampleSet, Int64Array]:
    """Return what `replayed` returns of a home's log."""
    log = wiring.build_log(settings)
    try:
        return replayed(
            settings, log, hasher, slates, behind_ms=behind_ms, on_progress=on_progress, source=str(settings.home)
        )
    finally:
        log.close()


def export_log(settings: Settings, show_progress: ShowProgress) -> None:
    """Bring a home's warehouse up to its log; works beside a server."""
    from millrace.flywheel.warehouse import Warehouse

    log = wiring.build_log(settings)
    try:
        with show_progress("exporting the log (events)") as step:
            step.advance(Warehouse(settings.warehouse_dir, wiring.build_codec(settings)).export(log).n_events)
    finally:
        log.close()


class _Sampler:
    """The pipeline and the encoders over a state that moves on."""

    def __init__(self, settings: Settings, state: FeedState, slates: Slates, source: str) -> None:
        self._state = state
        self._slates = slates
        self._pipeline = wiring.build_home_pipeline(settings, state, revise=to_sample)
        # Of all stages: the config may set params of some that take no part here.
        self._params = wiring.config_params(settings, wiring.declared_params(settings))
        self._encoders = Encoders.of(state, state.texts, state.profile_texts)
        self.builder = SampleBuilder(wiring.build_actions(settings), source)
        self.taken: list[int] = []

    async def visit(self, slate: int) -> None:
        """Take one slate."""
        slates = self._slates
        first, end = int(slates.starts[slate]), int(slates.starts[slate + 1])
        query = Query(
            request_id=f"sample-{slate}",
            viewer_id=int(slates.viewers[slate]),
            now_ms=int(slates.began_ms[slate]),
            limit=max(end - first, 1),
            params=self._params,
            state_offset=(int(slates.cuts[slate]),),
            is_dry_run=True,
        )
        batch = await self._pipeline.score(query, slates.post_ids[first:end])
        batch = batch.compact(batch[HAS_POST])
        if not batch.n:
            return
        order = np.argsort(slates.post_ids[first:end], kind="stable")
        rows = first + order[np.searchsorted(slates.post_ids[first:end], batch[POST_ID], sorter=order)]
        viewer = self._encoders.viewers.encode(query.viewer_id)
        candidates = self._encoders.candidates.encode(batch, query.now_ms, viewer.history.newest_ms)
        self.builder.read_texts(self._state.texts, np.concatenate([batch[CONTENT_ID], viewer.history.post_ids]))
        self.builder.add(
            viewer,
            query.now_ms,
            candidates,
            slates.labels[rows],
            batch[ACTION_PROBS],
            slates.positions[rows],
            request=int(slates.requests[slate]),
        )
        self.taken.append(slate)
