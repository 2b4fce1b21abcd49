"""What a round's candidate is asked: every rule of the gate, on the round's own pages and on earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import HeadMetrics, RuleOutcome
from millrace.flywheel.learning_config import GateConfig
from millrace.flywheel.prequential import head_metrics
from millrace.flywheel.promotion_gate import Cost, JudgedRows, against_live, costs, crowd, memory, surprise
from millrace.flywheel.round_pages import RoundPages
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.sample_slices import rows_by_slice

MeasureCosts = Callable[[SampleSet, Int64Array, Path, Path], tuple[Cost, Cost]]
"""What it costs to serve the rankers of two folders."""
Predict = Callable[[Int64Array], Float32Array]
"""From slates to predictions for their rows, (n, n_actions)."""


def judge_round(
    samples: SampleSet,
    pages: RoundPages,
    live: Predict,
    candidate: Predict,
    told: Sequence[HeadMetrics],
    known: Mapping[str, float],
    dear: tuple[Cost, Cost],
    gate: GateConfig,
    names: Mapping[int, str] | None = None,
) -> tuple[RuleOutcome, ...]:
    """Return what every rule says.

    Parameters
    ----------
    samples, pages
        The round's.
    live, candidate
        Predict.
    told
        Prequential figures of the live model on the new pages.
    known
        By action: the live model's AUC as its manifest says; earlier pages, where there are any, say it better.
    dear
        What it costs to serve the live model and the candidate.
    gate
        Thresholds.
    names
        Of the rows of languages.
    """
    actions = samples.meta.actions
    judged = np.concatenate([pages.judged, pages.recent])
    newest = _rows(samples, judged, live, candidate)._replace(slices=rows_by_slice(samples, judged, names))
    trusted, expected = None, dict(known)
    if len(pages.trusted):
        trusted = _rows(samples, pages.trusted, live, candidate)
        # How well the live model ranked is asked of the judged pages that calibrate, too: calibrating changes no order.
        known_by = np.concatenate([pages.trusted, pages.chosen_by[pages.chosen_by >= len(pages.new)]])
        labels, _ = _doings(samples, known_by)
        found = head_metrics(labels, live(known_by), actions, gate.min_positives)
        expected |= {head.action: head.auc for head in found}
    done, viewers = _doings(samples, pages.new)
    usual = _doings(samples, pages.older) if len(pages.older) else None
    return (
        surprise(told, expected, gate),
        crowd(done, viewers, usual, actions, gate),
        *against_live(newest, actions, gate),
        memory(trusted, gate),
        *costs(*dear, gate),
    )


def reason_for(rules: Sequence[RuleOutcome]) -> str:
    """Return in a line why a candidate serves that all rules let in."""
    by_name = {rule.name: rule for rule in rules}
    entropy, auc, memory_gain = (by_name[name].value for name in ("entropy", "auc", "memory"))
    n_slices = sum(name.startswith("slice ") for name in by_name)
    remembered = "" if memory_gain is None else f", {memory_gain:+.4f} on earlier ones"
    return (
        f"normalised entropy {entropy or 0.0:+.4f} better on the newest pages{remembered}, AUC {auc or 0.0:+.4f}; "
        f"no harm in {n_slices} slices"
    )


def _rows(samples: SampleSet, slates: Int64Array, live: Predict, candidate: Predict) -> JudgedRows:
    labels, viewers = _doings(samples, slates)
    return JudgedRows(labels, live(slates), candidate(slates), viewers)


def _doings(samples: SampleSet, slates: Int64Array) -> tuple[Float32Array, Int64Array]:
    """Return labels and viewers of the rows of some slates."""
    rows = samples.rows_of(slates)
    return np.asarray(samples.labels[rows]), np.asarray(samples.viewers[samples.slate_of[rows]])
