"""The following timeline: what the accounts that the viewer follows published, strictly by time, from the same stores.

Nothing is ranked, and no claim refuses anything: a reload shows the newest posts again. Who scrolls down meets each
content once, and posts that arrive meanwhile do not shift the pages: a page begins where the one before it ended.
"""

from __future__ import annotations

import numpy as np

from millrace.features.columns import (
    AUTHOR_ID,
    CREATED_MS,
    N_ACTIONS_DIM,
    N_COUNTERS_DIM,
    PARENT_AUTHOR_ID,
    POST_ID,
)
from millrace.features.query_fields import BEGINNING, BOUNDARY, CONTEXT, VIEWER, Boundary
from millrace.mixer.config import HomeConfig
from millrace.mixer.filters.carried import CarriedFilter
from millrace.mixer.filters.claims import ClaimShownFilter
from millrace.mixer.filters.existence import ContentFilter, DeletedFilter, DeletedParentFilter, HydrationFilter
from millrace.mixer.filters.muted_keywords import MutedKeywordFilter
from millrace.mixer.filters.own import OwnPostsFilter
from millrace.mixer.filters.relations import (
    BlockedAuthorFilter,
    BlockedByAuthorFilter,
    BlockedParentFilter,
    MutedAuthorFilter,
    MutedParentFilter,
)
from millrace.mixer.filters.safety import UnsafeFilter
from millrace.mixer.filters.timeline import BehindFilter, FirstAppearanceFilter
from millrace.mixer.filters.viewer_settings import SensitiveFilter
from millrace.mixer.home_models import MODELS
from millrace.mixer.home_pipeline import HomeParts
from millrace.mixer.hydrators.content import content_hydrator, names_hydrator
from millrace.mixer.hydrators.core import CoreHydrator
from millrace.mixer.hydrators.labels import LabelsHydrator
from millrace.mixer.hydrators.viewer import InNetworkHydrator
from millrace.mixer.paging import End, PoolEnd
from millrace.mixer.query_hydrators.follows import FollowsQueryHydrator
from millrace.mixer.query_hydrators.profile import ProfileQueryHydrator
from millrace.mixer.query_hydrators.relations import RelationsQueryHydrator
from millrace.mixer.selectors.newest import NewestSelector
from millrace.mixer.side_effects.served_log import LogServed
from millrace.mixer.sources.timeline import TimelineSource, comes_after, n_wanted
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.outcome import PipelineObserver
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.result import PipelineResult

NAME = "following"


def following_stages(parts: HomeParts, config: HomeConfig) -> Stages:
    """Return the stages of the following timeline."""
    state, content = parts.state, parts.content
    return Stages(
        query_hydrators=(
            FollowsQueryHydrator(state.follow_graph),
            RelationsQueryHydrator(state.relations),
            ProfileQueryHydrator(state.profiles),
        ),
        sources=(TimelineSource(state.posts),),
        hydrators=(
            CoreHydrator(state.posts),
            InNetworkHydrator(),
            LabelsHydrator(state.labels, config.unsafe_labels, config.unsafe_for_strangers_labels),
        ),
        filters=(
            HydrationFilter(),
            DeletedFilter(),
            OwnPostsFilter(),
            DeletedParentFilter(),
            BlockedAuthorFilter(),
            BlockedByAuthorFilter(),
            MutedAuthorFilter(),
            BlockedParentFilter(),
            MutedParentFilter(),
            SensitiveFilter(),
            UnsafeFilter(state.codes.labels.name),
            FirstAppearanceFilter(),  # over everything from the top of the scroll that the viewer may see
            BehindFilter(),
        ),
        selector=NewestSelector(),
        late_hydrators=(
            content_hydrator(content, state.hasher, config.content_timeout_ms),
            LabelsHydrator(state.labels, config.unsafe_labels, config.unsafe_for_strangers_labels),
            names_hydrator(content, config.content_timeout_ms, AUTHOR_ID, PARENT_AUTHOR_ID),
        ),
        late_filters=(
            ContentFilter(),
            CarriedFilter(
                OwnPostsFilter(),
                BlockedParentFilter(),
                MutedParentFilter(),
                SensitiveFilter(),
                UnsafeFilter(state.codes.labels.name),
            ),
            MutedKeywordFilter(),
            ClaimShownFilter(
                parts.claims,
                ttl_ms=config.claim_ttl_ms,
                max_claims=config.max_claims,
                timeout_ms=config.claim_timeout_ms,
            ),
        ),
        side_effects=(LogServed(parts.served_logger, NAME, scores=()),),
    )


def following_pipeline(parts: HomeParts, config: HomeConfig, observer: PipelineObserver | None = None) -> Pipeline:
    """Return the following pipeline over the stores of this process."""
    n_actions = len(parts.actions)
    return Pipeline(
        NAME,
        following_stages(parts, config),
        key=POST_ID,
        dims={N_ACTIONS_DIM: n_actions, N_COUNTERS_DIM: n_actions + 1},
        clock=parts.clock,
        observer=observer,
        given=(VIEWER, CONTEXT, BOUNDARY, MODELS),
        max_refills=config.max_refills,
        is_strict=config.is_strict,
    )


class TimelineEnd:
    """Says where the page after one of the following timeline begins, and whether there is one.

    It begins after the last post of this one; where that looked at everything it had, after the last it looked at.

    Parameters
    ----------
    stages
        Of the pipeline that makes the pages.
    """

    def __init__(self, stages: Stages) -> None:
        self._may_hide = PoolEnd(stages).may_hide

    def __call__(self, result: PipelineResult) -> End:
        """Return the end: the last post of a full page, else the last one that was looked at."""
        query, slate, looked_at = result.query, result.slate, result.candidates
        before = query[BOUNDARY]
        if self._may_hide(result) or not looked_at.n:
            return End(is_exhausted=not self._may_hide(result), boundary=before)
        created_ms, post_ids = looked_at[CREATED_MS], looked_at[POST_ID]
        n_left = int(np.count_nonzero(result.dropped_by == 0)) - slate.n
        is_all = n_left == 0 and slate.n < query.limit
        last = looked_at if is_all else slate
        if not last.n:
            return End(is_exhausted=False, boundary=before)
        top = (before.top_ms, before.top_id)
        if before == BEGINNING:
            top = (int(created_ms[0]), int(post_ids[0]))
        n_after = int(np.count_nonzero(comes_after(before, created_ms, post_ids)))
        end = Boundary(*top, int(last[CREATED_MS][-1]), int(last[POST_ID][-1]))
        return End(is_exhausted=is_all and n_after < n_wanted(query.limit), boundary=end)
