"""Traffic for the streaming join: pages with features, looks, actions and their undo, late, twice and out of order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from millrace.events.envelope import AnyEvent
from millrace.testing.builders import NOW_MS, a_clock_tick, a_features_logged, an_engagement, an_impression

MINUTE_MS = 60_000
ACTIONS = ("like", "reply", "repost", "share", "follow_author", "report")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Settings of `traffic`.

    Attributes
    ----------
    n_pages, n_viewers, n_posts, page_size
        How many pages, by how many people, of how many posts in all and on a page.
    span_ms
        Time in which the pages are made.
    late_ms
        How late an event may be written after it happened.
    twice_frac
        Share of events that are written twice, under another id and at another time.
    seed
        Of all draws.
    """

    n_pages: int = 60
    n_viewers: int = 12
    n_posts: int = 80
    page_size: int = 8
    span_ms: int = 180 * MINUTE_MS
    late_ms: int = 30 * MINUTE_MS
    twice_frac: float = 0.1
    seed: int = 1


def traffic(settings: Traffic) -> list[AnyEvent]:
    """Return events in the order in which they are written; a clock tick long after them ends it."""
    rng = np.random.default_rng(settings.seed)
    written: list[tuple[float, AnyEvent]] = []

    def write(event: AnyEvent) -> None:
        for number in range(1 + (rng.random() < settings.twice_frac)):
            late_ms = settings.late_ms * rng.random() ** 3
            copy = type(event)(
                event_id=f"{event.event_id}-{number}",
                event_time_ms=event.event_time_ms,
                source=event.source,
                payload=event.payload,
            )
            written.append((event.event_time_ms + late_ms, copy))

    for number in range(settings.n_pages):
        at_ms = NOW_MS + int(rng.integers(settings.span_ms))
        viewer, request = int(rng.integers(settings.n_viewers)), f"r{number}"
        posts = rng.choice(settings.n_posts, settings.page_size, replace=False).tolist()
        if rng.random() < 0.9:
            write(a_features_logged(viewer, posts, request_id=request, at_ms=at_ms, event_id=f"p{number}"))
        for event in _behaviour(rng, viewer, posts, request, at_ms):
            write(event)
    written.sort(key=lambda pair: pair[0])
    end_ms = int(written[-1][0]) + 60 * MINUTE_MS
    ticks = [a_clock_tick(end_ms + i * MINUTE_MS, event_id=f"tick{i}") for i in range(64)]
    return [event for _, event in written] + ticks


def _behaviour(rng: np.random.Generator, viewer: int, posts: list[int], request: str, at_ms: int) -> Iterator[AnyEvent]:
    now_ms = at_ms
    for position, post in enumerate(posts):
        if rng.random() < 0.15:
            continue
        now_ms += int(rng.integers(500, 20_000))
        name = f"{request}-{post}"
        dwell_ms = int(rng.integers(0, 12_000))
        yield an_impression(
            viewer,
            post,
            dwell_ms=dwell_ms,
            request_id=request,
            position=position,
            at_ms=now_ms + dwell_ms,
            event_id=f"i-{name}",
        )
        if rng.random() < 0.1:  # looked at again, for longer
            again_ms = now_ms + int(rng.integers(MINUTE_MS))
            yield an_impression(
                viewer,
                post,
                dwell_ms=20_000,
                request_id=request,
                position=position,
                at_ms=again_ms,
                event_id=f"j-{name}",
            )
        for action in rng.choice(ACTIONS, int(rng.integers(3)), replace=False).tolist():
            delay_ms = int(rng.integers(30 * MINUTE_MS)) if rng.random() < 0.3 else int(rng.integers(20_000))
            named = request if rng.random() < 0.8 else None
            done_ms = now_ms + delay_ms
            yield an_engagement(viewer, post, action, request_id=named, at_ms=done_ms, event_id=f"e-{name}-{action}")
            if rng.random() < 0.2:
                done_ms += int(rng.integers(1, 5 * MINUTE_MS))
                yield an_engagement(
                    viewer,
                    post,
                    action,
                    is_undo=True,
                    request_id=named,
                    at_ms=done_ms,
                    event_id=f"u-{name}-{action}",
                )
