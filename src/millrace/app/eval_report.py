"""What an evaluation says: from predictions and labels to tables, alarms and controls."""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import Struct

from millrace.app.as_of import AsOf
from millrace.base.actions import CONTINUOUS, DERIVED, N_ACTIONS, POSITIVE, ActionSpace
from millrace.base.ids import Int64Array
from millrace.flywheel.evaluation import EvaluationOptions, EvaluationRow, evaluate
from millrace.flywheel.leaks import Leak, ShuffleControl, find_leaks, shuffle_control, shuffled_rows
from millrace.flywheel.metrics import BoolArray
from millrace.flywheel.retrieval import ANY, RecallRow, recall_table
from millrace.flywheel.samples import Head
from millrace.flywheel.slates import Float32Array, Slates

Scores = Literal["predicted", "score", "served"]


class EvalOptions(Struct, frozen=True, kw_only=True):
    """What to evaluate, and how.

    Attributes
    ----------
    metrics
        Places, resamples, the least number of positives, the seed.
    from_ms, hours
        The span in which slates begin; without ``from_ms`` the last hours of the log.
    window_h
        How long after a look an action still counts.
    scores
        ``predicted``: each action by its own probability; ``score``: all by what the feed would sort by now;
        ``served``: all by the score that was logged when the page was sent.
    actions
        Names; empty for all that have a positive.
    n_recall
        Posts that were acted on, to be looked for in the whole corpus.
    behind_s
        How old the state may be that a slate is predicted from; 0: not at all.
    takes_all
        Also evaluate impressions that name neither request nor position.
    shuffles_labels
        The control: labels that belong to nobody.
    """

    metrics: EvaluationOptions = EvaluationOptions()
    from_ms: int | None = None
    hours: float = 24.0
    window_h: float = 24.0
    scores: Scores = "predicted"
    actions: tuple[str, ...] = ()
    n_recall: int = 200
    behind_s: float = 60.0
    takes_all: bool = False
    shuffles_labels: bool = False


class EvalReport(Struct, frozen=True, kw_only=True):
    """An evaluation; ``n_unplaced``, ``n_unmatched`` and ``n_open`` are those of `Slates`.

    Attributes
    ----------
    from_ms, until_ms
        The span.
    n_slates, n_rows, n_viewers
        What was evaluated.
    n_gone
        Rows whose post the post store did not have at that moment: predicted from nothing.
    scores, is_shuffled, is_chosen
        As asked for: what is ranked by, whether labels were shuffled, whether actions were named.
    rows, recall
        The tables.
    leaks, controls
        Alarms, and what shuffled labels gave.
    """

    from_ms: int
    until_ms: int
    n_slates: int
    n_rows: int
    n_viewers: int
    n_gone: int
    n_unplaced: int
    n_unmatched: int
    n_open: int
    scores: Scores
    is_shuffled: bool
    is_chosen: bool
    rows: list[EvaluationRow]
    recall: list[RecallRow]
    leaks: list[Leak]
    controls: list[ShuffleControl]

    @property
    def is_sound(self) -> bool:
        """Whether no alarm was tripped and every control holds."""
        return not self.leaks and all(control.holds for control in self.controls)


def deliberate_actions(actions: ActionSpace) -> list[int]:
    """Return the positive actions that somebody did on purpose, business actions included."""
    return [code for code in range(len(actions)) if code >= N_ACTIONS or (code in POSITIVE and code not in DERIVED)]


def make_report(
    slates: Slates,
    found: AsOf,
    options: EvalOptions,
    actions: ActionSpace,
    codes: list[int],
    span: tuple[int, int],
) -> EvalReport:
    """Return the tables, alarms and controls of what was predicted; ``codes`` are the actions that were asked for."""
    labels = slates.labels
    if options.shuffles_labels:
        labels = labels[shuffled_rows(len(labels), options.metrics.seed)]
    heads = _heads(labels, slates, found, options, actions, codes)
    deliberate = deliberate_actions(actions)
    names = {code: actions.names[code] for code in codes or deliberate if code in deliberate}
    return EvalReport(
        from_ms=span[0],
        until_ms=span[1],
        n_slates=len(slates),
        n_rows=len(labels),
        n_viewers=len(np.unique(slates.viewers)),
        n_gone=int((~found.is_live).sum()),
        n_unplaced=slates.n_unplaced,
        n_unmatched=slates.n_unmatched,
        n_open=slates.n_open,
        scores=options.scores,
        is_shuffled=options.shuffles_labels,
        is_chosen=bool(codes),
        rows=evaluate(heads, found.facts, found.language_names, options.metrics),
        recall=recall_table(found.retrievals, names, found.language_names, options.metrics),
        leaks=_leaks(heads, np.max(labels[:, deliberate], axis=1) > 0, slates, found, options),
        controls=_controls(heads, options),
    )


def _heads(
    labels: Float32Array,
    slates: Slates,
    found: AsOf,
    options: EvalOptions,
    actions: ActionSpace,
    codes: list[int],
) -> list[Head]:
    one_score = slates.served_scores if options.scores == "served" else found.scores
    wanted = codes or [code for code in range(len(actions)) if labels[:, code].any()]
    heads = [
        Head(
            actions.names[code],
            labels[:, code],
            found.probs[:, code] if options.scores == "predicted" else one_score,
            is_probability=options.scores == "predicted",
            is_continuous=code in CONTINUOUS,
        )
        for code in wanted
        if options.scores == "predicted" or code not in CONTINUOUS
    ]
    any_label = labels[:, deliberate_actions(actions)].max(axis=1)
    return [*heads, Head(ANY, any_label, one_score, is_probability=False)]


def _judged(heads: list[Head], min_positives: int) -> list[tuple[Head, Int64Array]]:
    """Return the heads with enough of both, each with its usable rows."""
    judged = []
    for head in heads:
        rows = np.flatnonzero(np.isfinite(head.scores))
        n_positive = int((head.labels[rows] > 0).sum())
        if not head.is_continuous and max(min_positives, 1) <= n_positive <= len(rows) - max(min_positives, 1):
            judged.append((head, rows))
    return judged


def _leaks(heads: list[Head], is_positive: BoolArray, slates: Slates, found: AsOf, options: EvalOptions) -> list[Leak]:
    seed, n_resamples = options.metrics.seed, options.metrics.n_resamples
    leaks = []
    for head, rows in _judged(heads, options.metrics.min_positives):
        leaks += find_leaks(
            {head.name: head.scores[rows]},
            head.labels[rows] > 0,
            found.facts.viewers[rows],
            n_resamples=n_resamples,
            seed=seed,
        )
    served = np.flatnonzero(np.isfinite(slates.served_scores))
    if int(is_positive[served].sum()) >= max(options.metrics.min_positives, 1):
        leaks += find_leaks(
            {"as served": slates.served_scores[served]},
            is_positive[served],
            found.facts.viewers[served],
            replayed={"as served": found.scores[served]},
            n_resamples=n_resamples,
            seed=seed,
        )
    return leaks


def _controls(heads: list[Head], options: EvalOptions) -> list[ShuffleControl]:
    return [
        shuffle_control(head.name, head.labels[rows] > 0, head.scores[rows], options.metrics.seed)
        for head, rows in _judged(heads, options.metrics.min_positives)
    ]
