"""`millrace eval`: a home's log, predicted anew as of each moment, measured against what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from msgspec import Struct

from millrace.app import wiring
from millrace.app.as_of import AsOf, predict_as_of
from millrace.app.settings import Settings
from millrace.base.actions import CONTINUOUS, DERIVED, N_ACTIONS, POSITIVE, ActionSpace
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, Int64Array
from millrace.flywheel.evaluation import EvaluationOptions, EvaluationRow, evaluate
from millrace.flywheel.leaks import Leak, ShuffleControl, find_leaks, shuffle_control, shuffled_rows
from millrace.flywheel.metrics import BoolArray
from millrace.flywheel.retrieval import ANY, RecallRow, recall_table, sample_positives
from millrace.flywheel.samples import Head
from millrace.flywheel.slates import HOUR_MS, Float32Array, SlateJoin, Slates
from millrace.stores.applier import decode_records
from millrace.stores.fold import effective_time_ms
from millrace.stream.log import Log, total

if TYPE_CHECKING:
    from millrace.app.commands.printing import Step

_POLL_RECORDS: Final = 50_000

Scores = Literal["predicted", "score", "served"]

ShowProgress = Callable[[str], AbstractContextManager["Step"]]


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


def evaluate_home(settings: Settings, options: EvalOptions, show_progress: ShowProgress) -> EvalReport:
    """Return the evaluation of a home's log; reads only, and works beside a server.

    Raises
    ------
    SchemaError
        If an action is not known.
    StoreError
        If there is nothing to evaluate within the span.
    """
    actions = wiring.build_actions(settings)
    codes = [actions.code(name) for name in options.actions]
    hasher = IdHasher()
    log = wiring.build_log(settings)
    try:
        join = wiring.build_slate_join(
            settings, hasher, window_ms=int(options.window_h * HOUR_MS), takes_all=options.takes_all
        )
        _hear_log(settings, log, join, show_progress)
        until_ms = join.last_ms + 1 if options.from_ms is None else options.from_ms + int(options.hours * HOUR_MS)
        from_ms = until_ms - int(options.hours * HOUR_MS)
        slates = join.join(from_ms, until_ms)
        _refuse_nothing(slates, options)
        deliberate = _deliberate(actions)
        sampled = sample_positives(slates.labels[:, deliberate] > 0, options.n_recall, options.metrics.seed)
        with show_progress("replaying the log (records)") as step:
            found = predict_as_of(
                settings,
                log,
                hasher,
                slates,
                sampled,
                behind_ms=int(options.behind_s * 1000),
                on_progress=_moving(step),
            )
    finally:
        log.close()
    return _report(slates, found, options, actions, codes, (from_ms, until_ms))


def _hear_log(settings: Settings, log: Log, join: SlateJoin, show_progress: ShowProgress) -> None:
    decode = wiring.build_codec(settings).decode
    consumer = log.subscribe("eval", start=log.begin())
    with show_progress("reading the log (records)") as step:
        step.total(total(log.end()) - total(log.begin()))
        try:
            while len(records := consumer.poll(_POLL_RECORDS)):
                batch, _ = decode_records(records, decode)
                times = np.array([event.event_time_ms for event in batch.events], dtype=np.int64)
                effective = effective_time_ms(times, batch.appended_ms)
                for offset, time_ms, event in zip(
                    batch.offsets.tolist(), effective.tolist(), batch.events, strict=True
                ):
                    join.hear(offset, time_ms, event)
                step.advance(len(records))
        finally:
            consumer.close()


def _moving(step: Step) -> Callable[[int, int], None]:
    n_done = 0

    def move(done: int, all_: int) -> None:
        nonlocal n_done
        step.total(all_)
        step.advance(done - n_done)
        n_done = done

    return move


def _refuse_nothing(slates: Slates, options: EvalOptions) -> None:
    if not len(slates):
        remedy = "give more --hours, or another --from"
        if slates.n_unplaced:
            remedy += f"; {slates.n_unplaced:,} impressions name no page (request or position): --all takes them too"
        raise StoreError("log", problem="holds no impressions of pages within the span", remedy=remedy)
    if options.scores == "served" and not np.isfinite(slates.served_scores).any():
        raise StoreError(
            "served scores",
            problem="no impression within the span names a request whose page was logged with scores",
            remedy="use --scores predicted",
        )


def _deliberate(actions: ActionSpace) -> list[int]:
    """Return the positive actions that somebody did on purpose, business actions included."""
    return [code for code in range(len(actions)) if code >= N_ACTIONS or (code in POSITIVE and code not in DERIVED)]


def _report(
    slates: Slates,
    found: AsOf,
    options: EvalOptions,
    actions: ActionSpace,
    codes: list[int],
    span: tuple[int, int],
) -> EvalReport:
    labels = slates.labels
    if options.shuffles_labels:
        labels = labels[shuffled_rows(len(labels), options.metrics.seed)]
    heads = _heads(labels, slates, found, options, actions, codes)
    deliberate = _deliberate(actions)
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
    any_label = labels[:, _deliberate(actions)].max(axis=1)
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
