"""`Served`: the record of what was sent, handed to the log after the page has left."""

from __future__ import annotations

from typing import Any, Protocol

from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import ComponentOutcome, Served, ServedItem
from millrace.features.attachments import POSTS
from millrace.features.columns import (
    AUTHOR_FACTOR,
    LIFT_FACTOR,
    NETWORK_FACTOR,
    OFFSET_VALUE,
    POST_ID,
    RECENCY_FACTOR,
    SCORE,
    SOCIAL_BONUS,
    VALUE,
)
from millrace.features.query_fields import CONTEXT, VIEWER
from millrace.mixer.home_models import MODELS
from millrace.pipeline.column import Column
from millrace.pipeline.query import Query
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import SideEffect

SCORES = (
    VALUE,
    OFFSET_VALUE,
    RECENCY_FACTOR,
    SOCIAL_BONUS,
    LIFT_FACTOR,
    AUTHOR_FACTOR,
    NETWORK_FACTOR,
    SCORE,
)
"""The columns whose values a `ServedItem` keeps."""


class ServedLogger(Protocol):
    """Takes events for the log. Must not block; losing an event must be counted."""

    def log(self, event: AnyEvent) -> None:
        """Take an event; it is appended soon."""


class LogServed(SideEffect):
    """Writes one `Served` event per page, empty pages too.

    Parameters
    ----------
    logger
        Takes the event; None where nobody does (benchmarks).
    pipeline
        The pipeline's name.
    scores
        The columns whose values each item keeps.
    """

    name = "log_served"

    def __init__(self, logger: ServedLogger | None, pipeline: str, scores: tuple[Column[Any], ...] = SCORES) -> None:
        self._logger = logger
        self._pipeline = pipeline
        self._scores = scores
        self.reads = (POSTS, POST_ID, *scores, CONTEXT, VIEWER, MODELS)

    def is_enabled(self, query: Query) -> bool:
        """Only where somebody takes the event."""
        return self._logger is not None

    async def run(self, query: Query, result: PipelineResult) -> None:
        """Hand over the event."""
        if self._logger is not None:
            self._logger.log(served_event(self._pipeline, result, self._scores))


def served_event(pipeline: str, result: PipelineResult, scores: tuple[Column[Any], ...] = SCORES) -> AnyEvent:
    """Return the `Served` event of a finished request."""
    query, slate = result.query, result.slate
    content = result.attached(POSTS)
    columns = [slate[column].tolist() for column in scores]
    names = [column.name for column in scores]
    items = []
    for position, (post_id, sources) in enumerate(zip(slate[POST_ID].tolist(), result.slate_sources(), strict=True)):
        post = content[post_id]
        items.append(
            ServedItem(
                post_id=post.post_id,
                author_id=post.author_id,
                position=position,
                sources=sources,
                scores={name: values[position] for name, values in zip(names, columns, strict=True)},
            )
        )
    payload = Served(
        request_id=query.request_id,
        viewer_id=query[VIEWER],
        pipeline=pipeline,
        state_offset=query.state_offset,
        params={name: float(value) for name, value in query.params.values.items()},
        param_levels=dict(query.params.level_by_name),
        items=tuple(items),
        outcomes=tuple(
            ComponentOutcome(stage=o.stage, component=o.component, fate=o.fate.value, detail=o.detail)
            for o in result.report.outcomes
        ),
        n_candidates=result.candidates.n,
        context=query[CONTEXT],
        models=dict(query[MODELS].versions),
    )
    return Event(event_id=f"served-{query.request_id}", event_time_ms=query.now_ms, source="mixer", payload=payload)
