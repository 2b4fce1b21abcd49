"""`millrace eval`: a home's log, predicted anew as of each moment, measured against what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.app import wiring
from millrace.app.as_of import predict_as_of
from millrace.app.eval_report import EvalOptions, EvalReport, deliberate_actions, make_report
from millrace.app.settings import Settings
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher
from millrace.base.progress import moving
from millrace.flywheel.retrieval import sample_positives
from millrace.flywheel.slate_join import HOUR_MS, SlateJoin
from millrace.flywheel.slates import Slates
from millrace.stores.applier import decode_records
from millrace.stores.fold import effective_time_ms
from millrace.stream.log import Log, total

if TYPE_CHECKING:
    from millrace.app.commands.printing import Step

_POLL_RECORDS: Final = 50_000

ShowProgress = Callable[[str], AbstractContextManager["Step"]]


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
        hear_log(settings, log, join, show_progress)
        until_ms = join.last_ms + 1 if options.from_ms is None else options.from_ms + int(options.hours * HOUR_MS)
        from_ms = until_ms - int(options.hours * HOUR_MS)
        slates = join.join(from_ms, until_ms)
        _refuse_nothing(slates, options)
        deliberate = deliberate_actions(actions)
        sampled = sample_positives(slates.labels[:, deliberate] > 0, options.n_recall, options.metrics.seed)
        with show_progress("replaying the log (records)") as step:
            found = predict_as_of(
                settings,
                log,
                hasher,
                slates,
                sampled,
                behind_ms=int(options.behind_s * 1000),
                on_progress=moving(step),
            )
    finally:
        log.close()
    return make_report(slates, found, options, actions, codes, (from_ms, until_ms))


def hear_log(
    settings: Settings, log: Log, join: SlateJoin, show_progress: ShowProgress, *, until: int | None = None
) -> None:
    """Let a join hear a log: all of it, or the records before a position."""
    codec = wiring.build_codec(settings)
    decode = codec.decode
    consumer = log.subscribe("eval", without=codec.registry.unfolded_topics, start=log.begin())
    with show_progress("reading the log (records)") as step:
        step.total((total(log.end()) if until is None else until) - total(log.begin()))
        before = None if until is None else (until,)
        try:
            while len(records := consumer.poll(_POLL_RECORDS, before=before)):
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
