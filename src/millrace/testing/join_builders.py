"""Small logs for the joins: pages, looks and actions of few viewers, in orders that a network makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from millrace.base.actions import ActionSpace
from millrace.base.ids import IdHasher, IdKind
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import FeaturesLogged
from millrace.flywheel.join import posts_of
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.slate_join import SlateJoin
from millrace.testing.builders import NOW_MS, a_clock_tick, a_features_logged, an_engagement, an_impression

MINUTE_MS = 60_000
POSTS = ("p1", "p2", "p3")
HASHER = IdHasher()

Row = tuple[tuple[int, int, int], tuple[float, ...], int, int, int, int, int]
"""(request, viewer, post), labels, position, looked_ms, page_ms, page_offset, page_row."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event and when it reached the log, which is never before the event."""

    event: AnyEvent
    appended_ms: int


def in_log_order(told: Iterable[Told]) -> list[tuple[int, int, AnyEvent]]:
    """Return (offset, effective time, event) of a log to which events came in the order of their arrival."""
    ordered = sorted(told, key=lambda one: one.appended_ms)
    return [(100 + i, min(one.event.event_time_ms, one.appended_ms), one.event) for i, one in enumerate(ordered)]


def batch_rows(log: Sequence[tuple[int, int, AnyEvent]], *, window_ms: int) -> dict[tuple[int, int, int], Row]:
    """Return the rows of the batch join by (request, viewer, post).

    `SlateJoin` as the home's samples are made with it, and of its rows those of pages whose features were logged, the
    first time: what `millrace.flywheel.logged_samples` reads from a warehouse.
    """
    join = SlateJoin(HASHER, ActionSpace(), window_ms=window_ms, takes_all=True)
    pages: dict[tuple[int, int], tuple[int, int, list[int]]] = {}
    for offset, time_ms, event in log:
        join.hear(offset, time_ms, event)
        if isinstance(event.payload, FeaturesLogged):
            viewer = HASHER.one(IdKind.USER, event.payload.viewer_id)
            request = HASHER.one(IdKind.REQUEST, event.payload.request_id)
            join.hear_logged(offset, time_ms, viewer, request)
            pages.setdefault((viewer, request), (offset, time_ms, posts_of(event.payload).tolist()))
    slates = join.join()
    rows: dict[tuple[int, int, int], Row] = {}
    for row, slate in enumerate(slates.slate_of.tolist()):
        viewer, request, post = int(slates.viewers[slate]), int(slates.requests[slate]), int(slates.post_ids[row])
        page_offset, page_ms, posts = pages.get((viewer, request), (0, 0, []))
        if post in posts:
            key = (request, viewer, post)
            assert key not in rows
            labels = tuple(slates.labels[row].tolist())
            looked_ms = join_looked_ms(log, key, page_ms, window_ms)
            rows[key] = (key, labels, int(slates.positions[row]), looked_ms, page_ms, page_offset, posts.index(post))
    return rows


def join_looked_ms(
    log: Sequence[tuple[int, int, AnyEvent]], key: tuple[int, int, int], page_ms: int, window_ms: int
) -> int:
    """Return when a post of a page was first seen, by the looks themselves."""
    began: list[int] = []
    for _, time_ms, event in log:
        look = event.payload
        if not hasattr(look, "dwell_ms") or look.request_id is None:
            continue
        ids = (
            HASHER.one(IdKind.REQUEST, look.request_id),
            HASHER.one(IdKind.USER, look.viewer_id),
            HASHER.one(IdKind.POST, look.post_id),
        )
        began_ms = time_ms - min(look.dwell_ms, 600_000)
        if ids == key and abs(began_ms - page_ms) <= window_ms:
            began.append(began_ms)
    return min(began)


def newest_rows(found: Iterable[JoinedRows]) -> dict[tuple[int, int, int], Row]:
    """Return the newest revision of each row; revisions must count from 0 on without a gap."""
    rows: dict[tuple[int, int, int], Row] = {}
    revisions: dict[tuple[int, int, int], int] = {}
    for out in found:
        for i in range(len(out)):
            key = (int(out.requests[i]), int(out.viewers[i]), int(out.posts[i]))
            assert out.revisions[i] == revisions.get(key, -1) + 1
            revisions[key] = int(out.revisions[i])
            rows[key] = (
                key,
                tuple(out.labels[i].tolist()),
                int(out.positions[i]),
                int(out.looked_ms[i]),
                int(out.page_ms[i]),
                int(out.page_offsets[i]),
                int(out.page_rows[i]),
            )
    return rows


def random_told(
    seed: int, *, n_events: int = 40, span_ms: int = 90 * MINUTE_MS, late_ms: int = 30 * MINUTE_MS
) -> list[Told]:
    """Return events of two viewers, three requests and three posts, each told up to ``late_ms`` late, some twice."""
    rng = random.Random(seed)  # noqa: S311 - a made-up log
    told: list[Told] = []
    for _ in range(rng.randint(1, n_events)):
        event = _random_event(rng, NOW_MS + rng.randrange(0, span_ms, 1_000))
        n_times = rng.choice((1, 1, 1, 2))
        told += [Told(event, event.event_time_ms + rng.randint(0, late_ms)) for _ in range(n_times)]
    return told


def _random_event(rng: random.Random, at_ms: int) -> AnyEvent:
    viewer, post = rng.choice("ab"), rng.choice(POSTS)
    # A request is of one hour; its page is made in the first half, and what is done there is told for hours.
    hour, within_ms = divmod(at_ms - NOW_MS, 60 * MINUTE_MS)
    kind, is_page = rng.random(), within_ms < 30 * MINUTE_MS
    letter = rng.choice("rst")
    request = f"{letter}{hour}"
    named = rng.choice((request, f"{letter}{hour - rng.randint(0, 3)}", None))
    if kind < 0.2 and is_page:
        page = rng.sample(POSTS, rng.randint(1, 3))
        return a_features_logged(viewer, page, request_id=request, at_ms=at_ms)
    if kind < 0.5:
        return an_impression(
            viewer,
            post,
            request_id=named,
            at_ms=at_ms,
            dwell_ms=rng.choice((0, 1_000, 8_000, 700_000)),
            duration_ms=rng.choice((0, 5_000)),
            position=rng.choice((None, 0, 1, 2)),
        )
    if kind < 0.95:
        action = rng.choice(("like", "like", "reply", "not_interested"))
        return an_engagement(viewer, post, action, request_id=named, at_ms=at_ms, is_undo=rng.random() < 0.4)
    return a_clock_tick(at_ms)


def closing_ticks(log: Sequence[tuple[int, int, AnyEvent]], n: int, after_ms: int) -> list[tuple[int, int, AnyEvent]]:
    """Return ticks with which a log ends, so that all windows of it are over."""
    last = max((time_ms for _, time_ms, _ in log), default=NOW_MS) + after_ms
    offset = max((offset for offset, _, _ in log), default=0) + 1
    return [(offset + i, last, a_clock_tick(last)) for i in range(n)]
