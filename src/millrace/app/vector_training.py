"""`millrace train social` and `millrace train semantic-ids`: from a home's log to vectors for other models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from millrace.app import wiring
from millrace.app.evaluation import ShowProgress, hear_log
from millrace.app.settings import Settings
from millrace.base.errors import CheckpointError, StoreError
from millrace.base.ids import IdHasher, Int64Array
from millrace.base.progress import moving
from millrace.content.text_kernels import HAS_VECTOR
from millrace.features.social_graph import SocialGraph
from millrace.features.social_history import SocialHistory
from millrace.features.social_vectors import SocialVectors
from millrace.flywheel.link_metrics import LinkMetrics
from millrace.flywheel.maturity import mature
from millrace.flywheel.slate_join import HOUR_MS
from millrace.flywheel.train_semantic_ids import QualityReport, SemanticIdConfig, train_semantic_ids
from millrace.stream.log import Log, total

if TYPE_CHECKING:
    from millrace.flywheel.train_social import SocialTraining
    from millrace.mixer.feed_state import FeedState
    from millrace.stores.replica import Replica

HELD_OUT_FRAC: Final = 0.16
"""Newest pages whose follows the encoder is not to learn from: a little more than what the ranker holds out."""

N_MOMENTS: Final = 12

logger = logging.getLogger(__name__)


class TrainedSocial(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_home_social` did.

    Attributes
    ----------
    learned_until_ms
        The moment of the graph that the encoder was learned from.
    n_moments
        How many times the vectors were taken.
    test, newcomers
        By scorer, the encoder first: follows held out, and those of users who were not there while it learned.
    """

    folder: str
    n_users: int
    n_edges: int
    best_step: int
    validation_auc: float
    learned_until_ms: int
    n_moments: int
    test: dict[str, LinkMetrics]
    newcomers: dict[str, LinkMetrics]


class TrainedSemanticIds(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_home_semantic_ids` did: quality on the posts that were learned from, and on those held out."""

    folder: str
    learned: QualityReport
    held_out: QualityReport


@dataclass(frozen=True, slots=True, eq=False)
class SocialMoments:
    """The follow graph again and again, and which of these is to be learned from.

    Attributes
    ----------
    as_of_ms, graphs
        Ascending.
    learned
        Which.
    now
        The graph where the log ends.
    """

    as_of_ms: tuple[int, ...]
    graphs: tuple[SocialGraph, ...]
    learned: int
    now: SocialGraph


def train_home_social(
    settings: Settings,
    training: SocialTraining,
    folder: Path,
    show_progress: ShowProgress,
    *,
    hours: float | None = None,
    held_out_frac: float = HELD_OUT_FRAC,
    until: int | None = None,
) -> TrainedSocial:
    """Learn the social encoder from the follows of a home's log, and write it with vectors of several moments.

    The encoder learns from the graph as it was before the newest pages; vectors are taken at moments spread over all
    pages, and where the log ends: those serve first. ``until`` takes a position for its end.

    Raises
    ------
    SourceDataError
        If nobody follows anybody.
    """
    from millrace.flywheel.train_social import train_social

    moments = social_moments(settings, show_progress, hours=hours, held_out_frac=held_out_frac, until=until)
    graph = moments.graphs[moments.learned]
    learned_until_ms = moments.as_of_ms[moments.learned]
    with show_progress("training the social encoder (steps)") as step:
        report = train_social(graph.edges, graph.known, training, folder=folder, on_progress=moving(step))
    vectors = SocialVectors.load(folder)
    times = list(zip(moments.as_of_ms, moments.graphs, strict=True))
    SocialHistory.of(vectors.network, learned_until_ms, times).save(folder)
    vectors.refresh(moments.now.edges, moments.now.known)
    vectors.save(folder)
    return TrainedSocial(
        folder=str(folder),
        n_users=report.n_users,
        n_edges=report.n_edges,
        best_step=report.best_step,
        validation_auc=report.validation_auc,
        learned_until_ms=learned_until_ms,
        n_moments=len(times),
        test=report.test,
        newcomers=report.newcomers,
    )


def social_moments(
    settings: Settings,
    show_progress: ShowProgress,
    *,
    hours: float | None = None,
    held_out_frac: float = HELD_OUT_FRAC,
    n_moments: int = N_MOMENTS,
    until: int | None = None,
) -> SocialMoments:
    """Return the follow graph of a home as it was at moments spread over its pages; reads only.

    A log that was trimmed goes back to its checkpoints alone: moments before the oldest one are left out, a line says
    so, and pages of before the first moment are read without vectors. None takes a later one's.

    Parameters
    ----------
    settings, show_progress
        The home, and how progress is shown.
    hours
        Newest hours whose pages count; None: all.
    held_out_frac
        The graph that is to be learned from is that of before this share of the pages, the newest.
    n_moments
        How many moments up to there; those after it follow in the same steps.
    until
        Position of the log that is taken for its end; None: where it ends now.

    Raises
    ------
    StoreError
        If no checkpoint is from before the pages that are held out, so that every graph would know them.
    """
    hasher = IdHasher()
    log = wiring.build_log(settings)
    try:
        join = wiring.build_slate_join(settings, hasher, window_ms=int(24 * HOUR_MS), takes_all=True)
        end = total(log.end()) if until is None else until
        hear_log(settings, log, join, show_progress, until=end)
        slates = mature(join.join(), join.last_ms)  # those that a ranker learns from
        from_ms = 0 if hours is None else join.last_ms + 1 - int(hours * HOUR_MS)
        slates = slates.take(np.flatnonzero(slates.began_ms >= from_ms))
        shares = np.arange(int(n_moments / (1.0 - held_out_frac)) + 1) / n_moments * (1.0 - held_out_frac)
        chosen = np.minimum((shares[shares < 1.0] * len(slates)).astype(np.int64), max(len(slates) - 1, 0))
        chosen, places = np.unique(chosen, return_inverse=True) if len(slates) else (chosen[:0], chosen[:1])
        learned = int(places[min(n_moments, len(places) - 1)]) if len(slates) else 0
        with show_progress("replaying the log (records)") as step:
            graphs = _graphs_at(settings, log, hasher, slates.cuts[chosen], learned, end, moving(step))
    finally:
        log.close()
    # Slates stand in the order of the log; where it is not that of time, a graph counts as newer than it is.
    times = np.maximum.accumulate(slates.began_ms[chosen]).tolist()
    if (n_missing := len(times) + 1 - len(graphs)) > 0:
        logger.warning(
            "the log was trimmed: of %d moments of the follow graph the oldest %d cannot be had; earlier pages are "
            "read without social vectors",
            len(times),
            n_missing,
        )
        times, learned = times[n_missing:], learned - n_missing
    if not times:
        # Nobody has seen anything yet: there are no samples to be fair to.
        return SocialMoments(as_of_ms=(max(join.last_ms, 0),), graphs=tuple(graphs), learned=0, now=graphs[0])
    return SocialMoments(as_of_ms=tuple(times), graphs=tuple(graphs[:-1]), learned=learned, now=graphs[-1])


def train_home_semantic_ids(
    settings: Settings,
    config: SemanticIdConfig,
    folder: Path,
    show_progress: ShowProgress,
    *,
    until: int | None = None,
) -> TrainedSemanticIds:
    """Learn semantic ids from the text vectors of a home's live posts, and write the codebooks into a folder.

    Texts alone are learned from, nothing that anybody did: of the posts that live where the log ends, or at a position.

    Raises
    ------
    SourceDataError
        If there are fewer posts with a text than codes of a level.
    """
    log = wiring.build_log(settings)
    try:
        replica = wiring.build_replica(settings, log, has_content_reads=False)
        try:
            with show_progress("folding the log (records)") as step:
                end = total(log.end()) if until is None else until
                _restore(replica, end)
                _fold_until(replica, end, moving(step), (total(replica.position), end))
            index = replica.state.texts.by_row()
            vectors = index.vectors[(index.flags & HAS_VECTOR != 0) & (index.post_ids != 0)]
        finally:
            replica.close()
    finally:
        log.close()
    with show_progress("training semantic ids (levels)") as step:
        report = train_semantic_ids(vectors, config, folder=folder, learned_before=end, on_progress=moving(step))
    return TrainedSemanticIds(folder=str(folder), learned=report.learned, held_out=report.held_out)


def _graphs_at(
    settings: Settings,
    log: Log,
    hasher: IdHasher,
    cuts: Int64Array,
    learned: int,
    end: int,
    on_progress: Callable[[int, int], None],
) -> list[SocialGraph]:
    """Return the graph at each position of the log that can be had, ascending, and at its end.

    Those that cannot are the oldest; the graph at position number ``learned`` is among those that can.
    """
    replica = wiring.build_replica(settings, log, has_content_reads=False, hasher=hasher)
    try:
        if len(cuts):
            cuts = cuts[_begin_within(replica, cuts[: learned + 1]) :]
        else:
            _restore(replica, end)
        found, span = [], (total(replica.position), end)
        for cut in [*cuts.tolist(), end]:
            _fold_until(replica, cut, on_progress, span)
            found.append(SocialGraph.of(replica.state.follow_graph, replica.state.texts))
        return found
    finally:
        replica.close()


def _begin_within(replica: Replica[FeedState], cuts: Int64Array) -> int:
    """Begin before the first position that can be had; return its number."""
    is_trimmed = total(replica.log.begin()) > 0
    oldest = replica.checkpoints.oldest_position() if is_trimmed else (0,)
    for number, cut in enumerate(cuts.tolist()):
        if oldest is None or cut < total(oldest):
            continue
        try:
            replica.restore(not_beyond=(cut,))
        except CheckpointError:  # damaged, and the log before it is gone: the next one may do
            continue
        return number
    raise StoreError(
        "log",
        value=tuple(replica.log.begin()),
        problem="was trimmed, and no checkpoint is from before the newest pages, which social vectors must not know",
        remedy="keep older ones: a larger [replica] n_checkpoints; or go without: millrace train --without social",
    )


def _restore(replica: Replica[FeedState], end: int) -> None:
    """Begin from the newest checkpoint that stands before a position, or, where there is none any more, after it."""
    try:
        replica.restore(not_beyond=(end,))
    except CheckpointError:  # the log was trimmed meanwhile: vectors of a little later are better than none
        replica.restore()


def _fold_until(
    replica: Replica[FeedState], position: int, on_progress: Callable[[int, int], None], span: tuple[int, int]
) -> None:
    while (at := total(replica.position)) < position:
        replica.step(replica.config.catch_up_records, before=(position,))
        if total(replica.position) == at:
            break
        on_progress(total(replica.position) - span[0], span[1] - span[0])
