"""A whole training whose ranker serves is a decision like a round's: the page tells it, and rounds count on from it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from millrace.app import wiring
from millrace.app.flywheel_rounds import decision_log
from millrace.app.settings import Settings
from millrace.flywheel.decisions import Decision, HeadMetrics

if TYPE_CHECKING:
    from millrace.app.training import TrainedRanker


def note_seeded(settings: Settings, trained: TrainedRanker, version: str, before: str) -> None:
    """Write down that a ranker serves which was trained from nothing; whoever calls holds the lock of trainings.

    Parameters
    ----------
    settings
        The home.
    trained, version
        The ranker; promoted already.
    before
        What served; empty: nothing did.
    """
    decisions, manifest = decision_log(settings), wiring.build_registry(settings).manifest("ranker", version)
    last = decisions.newest(1)
    decision = Decision(
        number=1 + (last[0].number if last else 0),
        at_ms=wiring.build_clock().now_ms(),
        from_ms=manifest.from_ms,
        until_ms=manifest.until_ms,
        judged_from_ms=trained.held_out_from_ms,  # never learned from: rounds judge and calibrate on them
        verdict="seeded",
        why=f"trained from nothing on {trained.n_slates:,} pages: normalised entropy {trained.gain.value:+.4f} better "
        "than that of calibrated counters",
        n_pages=trained.n_slates,
        n_rows=trained.n_rows,
        n_learned=trained.n_slates,
        n_steps=trained.n_steps,
        best_step=trained.best_step,
        from_version=before,
        to_version=version,
        prequential=tuple(
            HeadMetrics(
                action=head.action,
                n_positive=head.n_held_out,
                auc=head.auc,
                normalised_entropy=head.normalised_entropy,
                calibration=head.calibration,
            )
            for head in trained.held_out
        ),
    )
    with contextlib.suppress(OSError):  # it serves, whether or not it can be told
        decisions.append(decision)
