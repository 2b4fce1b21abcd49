"""What a pre-ranker learns from: pages of the log, and the candidates of sampled requests, as the ranker sees them.

Pages hold what was good enough to be shown. A pre-ranker must tell such posts from those that never are, so that the
requests whose candidates were all logged (`CandidatesLogged`) are asked about too, seen or not, cut or not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.app import wiring
from millrace.app.sampling import export_log
from millrace.app.settings import Settings
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.slate_join import HOUR_MS

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.flywheel.logged_samples import LoggedCandidates
    from millrace.flywheel.train_pre_ranker import Lesson
    from millrace.models.learned_ranker import LearnedRanker

_N_ASKED: Final = 512


def home_candidates(
    settings: Settings,
    show_progress: ShowProgress,
    *,
    hours: float | None = None,
    from_ms: int = 0,
    until: int | None = None,
    window_h: float = 24.0,
) -> LoggedCandidates | None:
    """Return the candidates that a home's log holds of requests since a time, or None if there are none.

    Brings the warehouse up to the log first; works beside a server. Left out are requests that are too young for their
    labels to be known, as `millrace.app.training.home_samples` leaves out their pages; give it the same.

    Parameters
    ----------
    settings
        The home.
    show_progress
        Tells the person waiting.
    hours
        Newest hours; None: all.
    from_ms
        When the oldest of the requests was made.
    until
        Position of the log that is taken for its end; None: where it ends now.
    window_h
        How long after a look an action still belongs to it.
    """
    export_log(settings, show_progress)
    reader = wiring.build_logged_samples(
        settings, IdHasher(), window_ms=int(window_h * HOUR_MS), hours=hours, until=until
    )
    try:
        return reader.candidates(from_ms, reader.mature_until_ms, ended_before_ms=reader.mature_until_ms)
    except StoreError:  # none were logged: by config, by chance, or of other features
        return None
    finally:
        reader.close()


def lesson_of(
    samples: SampleSet, candidates: LoggedCandidates | None, teacher: LearnedRanker, show_progress: ShowProgress
) -> Lesson:
    """Return pages and candidates as one lesson, with what the teacher says of every row.

    Parameters
    ----------
    samples
        Pages. All their rows were seen.
    candidates
        Of sampled requests; a page whose request is among them is left out, its posts are among the candidates.
    teacher
        Is asked anew: another ranker may have served these requests, and of what was cut nobody has said anything.
    show_progress
        Tells the person waiting.
    """
    from millrace.flywheel.train_pre_ranker import Lesson
    from millrace.flywheel.train_ranker import predicted

    has_labels = np.ones(samples.n_rows, dtype=np.bool_)
    if candidates is not None:
        is_again = np.isin(samples.requests, candidates.samples.requests)
        pages = samples.take(np.flatnonzero(~is_again))
        samples = pages.joined(counted(candidates.samples))
        has_labels = np.concatenate([np.ones(pages.n_rows, dtype=np.bool_), candidates.has_labels])
    with show_progress("asking the ranker (slates)") as step:
        step.total(len(samples))
        said = []
        for first in range(0, len(samples), _N_ASKED):
            slates = np.arange(first, min(first + _N_ASKED, len(samples)))
            said.append(predicted(teacher, samples, slates))
            step.advance(len(slates))
    return Lesson(samples, np.concatenate(said), has_labels)


def counted(samples: SampleSet) -> SampleSet:
    """Return samples in which counters say something of every row: of what was cut, the middle of what they say.

    A ranker adds a share of the counters' log-odds to its own (`millrace.models.blending`); counters are asked after
    the pre-ranker alone, so that of cut rows they have said nothing.
    """
    baseline: Float32Array = np.array(samples.baseline, dtype=np.float32)
    is_cut = ~np.isfinite(baseline).all(axis=1)
    if not is_cut.any():
        return samples
    baseline[is_cut] = 0.0 if is_cut.all() else np.median(baseline[~is_cut], axis=0)
    return replace(samples, baseline=baseline)
