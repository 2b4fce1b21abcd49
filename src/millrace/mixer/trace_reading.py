"""`TraceReading`: one post of a trace: what became of it, and how its score came about."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.order import top_k
from millrace.base.params import ParamSet
from millrace.features.columns import OFFSET_VALUE, PAGE_SCORE, SCORE, VALUE
from millrace.mixer.trace import Trace, explaining_columns
from millrace.mixer.trace_answers import ActionPart, PostWhy, StepInfo, Verdict
from millrace.mixer.trace_models import model_parts
from millrace.mixer.value_model.steps import Step
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn, Column
from millrace.pipeline.outcome import Fate
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, PreRanker, Stage

_MAX_SOURCES_SAID: Final = 3


class TraceReading:
    """Reads one trace.

    Parameters
    ----------
    trace
        What was kept.
    pipeline
        The pipeline it came from, whose stages give their reasons; None if it is not known here.
    with_errors
        Whether to say what went wrong, beside that something did: errors name paths and addresses.
    """

    def __init__(self, trace: Trace, pipeline: Pipeline | None, *, with_errors: bool = True) -> None:
        self._with_errors = with_errors
        self._trace = trace
        self._pipeline = pipeline

    def why(self, row: int, post: str) -> PostWhy:
        """Return what became of a candidate.

        Parameters
        ----------
        row
            Its row among the candidates.
        post
            Its outside id.
        """
        trace = self._trace
        page = trace.page_rows.tolist()
        position = page.index(row) + 1 if row in page else None
        dropped_by = trace.head.drops[trace.dropped_by[row]] or None
        because = self._because(row, dropped_by) if dropped_by else None
        verdict: Verdict = "shown" if position else "dropped" if dropped_by else "ranked_below"
        ranked_row = trace.ranked_row(row)
        found = trace.found_by(row)
        rank = self._rank(ranked_row)
        actions, is_exact = self._actions(ranked_row)
        page_score = self._number(ranked_row, PAGE_SCORE, SCORE)
        return PostWhy(
            request_id=trace.head.request_id,
            post_id=post,
            verdict=verdict,
            position=position,
            rank=rank,
            summary=self._summary(verdict, position, rank, found, dropped_by, because, page_score),
            sources=tuple(name for name, _ in found),
            dropped_by=dropped_by,
            dropped_because=because,
            models=model_parts(trace.head, dict(found), with_errors=self._with_errors),
            actions=actions,
            approximate=not is_exact,
            value=self._number(ranked_row, VALUE),
            offset_value=self._number(ranked_row, OFFSET_VALUE),
            steps=self._steps(ranked_row),
            score=self._number(ranked_row, SCORE),
            reranking=self._reranking(ranked_row),
            page_score=page_score,
        )

    def best_first(self) -> Int64Array:
        """Return the rows of all ranked candidates by score, best first."""
        trace = self._trace
        rows = trace.ranked_rows
        if SCORE.name not in trace:
            return rows
        return rows[top_k(trace[SCORE.name], trace.keys[rows], len(rows))]

    def scores(self, rows: Int64Array, name: str) -> list[float | None]:
        """Return the score of that name (``page_score`` is the score where no re-ranker gave one) of some rows."""
        trace = self._trace
        scores = trace[name] if name in trace else trace[SCORE.name] if name and SCORE.name in trace else None
        if scores is None:
            return [None] * len(rows)
        return scores[np.searchsorted(trace.ranked_rows, rows)].tolist()  # type: ignore[no-any-return]

    def _rank(self, ranked_row: int) -> int | None:
        if ranked_row < 0 or SCORE.name not in self._trace:
            return None
        return int(np.flatnonzero(self.best_first() == self._trace.ranked_rows[ranked_row])[0]) + 1

    def _number(self, ranked_row: int, *columns: Column[Any]) -> float | None:
        """Return a ranked row's value in the first of the columns that there is."""
        names = (column.name for column in columns if column.name in self._trace)
        name = next(names, None)
        return None if name is None or ranked_row < 0 else shortest(self._trace[name][ranked_row])

    def _actions(self, ranked_row: int) -> tuple[tuple[ActionPart, ...], bool]:
        trace = self._trace
        if ranked_row < 0 or not trace.head.heads:
            return (), True
        predictions, is_exact = trace.predictions(ranked_row)
        parts = []
        calibration, fast = (shifts.tolist() for shifts in trace.shifts(ranked_row))
        for (name, weight), predicted, calibrated, shift in zip(
            trace.head.heads, predictions, calibration, fast, strict=True
        ):
            applied = shortest(trace.weight(name, weight, ranked_row))
            probability = shortest(predicted)
            parts.append(
                ActionPart(
                    name=name,
                    probability=probability,
                    weight=applied,
                    contribution=probability * applied,
                    calibration_shift=calibrated,
                    fast_shift=shift,
                )
            )
        return tuple(sorted(parts, key=lambda part: -abs(part.contribution))), is_exact

    def _steps(self, ranked_row: int) -> tuple[StepInfo, ...]:
        score = self._number(ranked_row, OFFSET_VALUE)
        if score is None:
            return ()
        steps = []
        for number, (name, kind) in enumerate(self._trace.head.steps):
            amount = shortest(self._trace.amount(number, ranked_row))
            score = Step(name, kind, OFFSET_VALUE).apply(score, amount)
            steps.append(StepInfo(name=name, kind=kind, amount=amount, score_after=score))
        return tuple(steps)

    def _reranking(self, ranked_row: int) -> str:
        if ranked_row < 0 or self._pipeline is None:
            return ""
        trace, stages = self._trace, self._pipeline.stages.re_rankers
        columns: dict[str, AnyColumn] = {column.name: column for column in (VALUE, OFFSET_VALUE, SCORE)}
        columns.update({c.name: c for stage in stages for c in stage.writes if isinstance(c, Column)})
        data: dict[AnyColumn, Any] = {c: trace[name] for name, c in columns.items() if name in trace}
        data[self._pipeline.blueprint.key] = trace.keys[trace.ranked_rows]
        batch = CandidateBatch(data)
        said = (
            f"{stage.name}: {text}"
            for stage in stages
            if all(column in batch for column in stage.writes) and (text := stage.explain(batch, ranked_row))
        )
        return "; ".join(said)

    # -------------------------------------------------------------------------------------------- words

    def _because(self, row: int, name: str) -> str:
        """Return the reason of the stage that dropped a candidate."""
        trace = self._trace
        went_wrong = {o.component: o for o in trace.head.outcomes if o.stage == Filter.kind}
        outcome = went_wrong.get(name)
        if outcome is not None and outcome.fate in (Fate.BLIND, Fate.FAILED):
            detail = f" ({outcome.detail})" if self._with_errors else ""
            return f"could not be checked{detail}, and what cannot be checked is not shown"
        stage = self._stage(name)
        if isinstance(stage, Filter):
            return self._say(stage, row)
        if isinstance(stage, PreRanker):
            return "others looked better to the cheap ranker, which lets only the best through"
        return "its reason is not known here"

    def _stage(self, name: str) -> Stage | None:
        if self._pipeline is None:
            return None
        stages = self._pipeline.stages
        droppers = (*stages.filters, *stages.pre_rankers, *stages.late_filters)
        return next((stage for stage in droppers if stage.name == name), None)

    def _say(self, stage: Filter, row: int) -> str:
        """Let a filter explain, with values where the trace has all that it reads."""
        kept = self._trace.judged(row)
        columns = explaining_columns(stage)
        head = self._trace.head
        query = Query(head.request_id, 0, head.now_ms, head.limit, ParamSet(head.params, head.param_levels))
        if columns and all(column.name in kept for column in columns):
            data: dict[AnyColumn, Any] = {column: kept[column.name] for column in columns}
            return stage.explain(query, CandidateBatch(data), 0)
        return Filter.explain(stage, query, CandidateBatch({}), 0)

    def _summary(
        self,
        verdict: Verdict,
        position: int | None,
        rank: int | None,
        found: list[tuple[str, int]],
        dropped_by: str | None,
        because: str | None,
        page_score: float | None,
    ) -> str:
        n_found = dict(self._trace.head.n_found)
        places = [f"{name} ({place:,} of {n_found[name]:,})" for name, place in found[:_MAX_SOURCES_SAID]]
        if len(found) > len(places):
            places.append(f"{len(found) - len(places)} more")
        origin = f"Found by {', '.join(places)}."
        ranked = f"Ranked {rank:,} of {len(self._trace.ranked_rows):,} by score." if rank is not None else ""
        if verdict == "shown":
            parts = [f"Shown at place {position}.", origin, ranked]
        elif verdict == "dropped":
            parts = [f"Dropped by {dropped_by}: {_lowered(because or '')}.", origin]
        else:
            parts = [origin, ranked, self._below(page_score)]
        return " ".join(part for part in parts if part)

    def _below(self, page_score: float | None) -> str:
        """Say why a post that passed everything is not on the page."""
        trace = self._trace
        last = next(reversed(self.scores(trace.page_rows, PAGE_SCORE.name)), None)
        if last is None or page_score is None:
            return "Others came first."
        # In places, not in page scores: those mean something to the selector alone.
        all_scores = trace[PAGE_SCORE.name if PAGE_SCORE.name in trace else SCORE.name]
        place, last_place = (1 + int(np.count_nonzero(all_scores > score)) for score in (page_score, last))
        if place > last_place:
            return f"After re-ranking it stood at {place:,}; the page went down to {last_place:,}."
        rule = "" if self._pipeline is None else self._rule(self._pipeline.stages.selector)
        return f"After re-ranking it stood at {place:,}, but a rule of the selector left it out{rule}."

    @staticmethod
    def _rule(selector: Stage) -> str:
        first = (type(selector).__doc__ or "").strip().split("\n")[0].replace("`", "")
        return f" ({selector.name}: {_lowered(first)})" if first else ""


def shortest(number: float) -> float:
    """Return the shortest decimal that is the same in single precision, in which everything here was computed."""
    return float(str(np.float32(number)))


def _lowered(sentence: str) -> str:
    """Return a sentence as a part of another."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
