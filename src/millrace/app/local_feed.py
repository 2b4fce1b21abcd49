"""A page without a server: this process folds the log, serves one request to itself, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from millrace.app import wiring
from millrace.app.settings import Settings, with_patience
from millrace.app.viewers import active_viewers
from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import IdKind, normalise_id

if TYPE_CHECKING:
    from millrace.events.envelope import AnyEvent
    from millrace.mixer.feed import FeedResponse
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.trace_answers import PostWhy, RequestTrace
    from millrace.stores.replica import Replica

_PATIENCE_MS: Final = 600_000
"""This process serves one page: its kernels may have to be compiled (minutes where the machine is busy), and no other
request waits."""

Timeline = Literal["home", "following"]

OnProgress = Callable[[int, int], None]
"""Called with (records folded, records to fold)."""


class LocalPage(NamedTuple):
    """A page, and how it was made."""

    page: FeedResponse
    trace: RequestTrace
    is_known: bool
    """Whether anybody has heard of its viewer."""


class LocalWhy(NamedTuple):
    """Why a post is on a page, or why not."""

    why: PostWhy
    was_sent: bool
    """Whether the page asked about is one made now, and the post was sent to its viewer before."""


class _Kept:
    """Keeps `Served` events until the page is made; a `ServedLogger`."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        self.events.append(event)


@contextmanager
def folded_replica(settings: Settings, on_progress: OnProgress | None = None) -> Iterator[Replica[FeedState]]:
    """Give the home's state as of now, made from the newest checkpoint and the log after it; works beside a server."""
    clock = wiring.build_event_clock(settings)
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock)
    try:
        replica.restore()
        replica.catch_up(on_progress)
        yield replica
    finally:
        replica.close()
        log.close()


def serve_page(
    settings: Settings,
    viewer: str | None,
    limit: int | None,
    on_progress: OnProgress | None = None,
    *,
    timeline: Timeline = "home",
) -> LocalPage:
    """Return one page of a feed.

    Works with and without a running server. As a served page it is claimed, logged and traced: its posts count as
    sent.

    Parameters
    ----------
    settings
        The home.
    viewer
        Whose feed; None takes the most active viewer.
    limit
        Posts at most; None for a page of the usual size.
    on_progress
        Hears how far folding is.
    timeline
        The ranked feed, or the chronological one.

    Raises
    ------
    StoreError
        If no viewer was given and the log names nobody.
    """
    from millrace.mixer.feed import FeedRequest

    settings = with_patience(settings, _PATIENCE_MS)
    with folded_replica(settings, on_progress) as replica:
        served, traces, claims = _Kept(), wiring.build_traces(settings), wiring.build_claims(settings)
        service = wiring.build_feed_service(settings, replica, served, claims=claims, traces=traces)
        request = FeedRequest(
            viewer_id=normalise_id(_somebody(replica) if viewer is None else viewer, "viewer"),
            limit=limit,
            request_id=traces.next_request_id(),
            debug=True,
        )

        async def make() -> LocalPage:
            make_page = service.home_with_result if timeline == "home" else service.following_with_result
            page, result = await make_page(request)
            await service.drain()
            traced = await service.explainer.request(service.traces.of(result))
            return LocalPage(page, traced, _is_known(replica, request.viewer_id))

        try:
            made = asyncio.run(make())
        finally:
            traces.close()
            claims.close()  # now, not when it is collected: whoever looks at the home next finds its files settled
        wiring.build_collector(settings, replica.log, wiring.build_codec(settings), replica.clock).submit(served.events)
    return made


def explain_post(
    settings: Settings,
    viewer: str,
    post: str,
    request_id: str | None = None,
    on_progress: OnProgress | None = None,
) -> LocalWhy:
    """Return why a post is on a viewer's page, or why not.

    Parameters
    ----------
    settings
        The home.
    viewer, post
        Outside ids.
    request_id
        The request of a page that was sent; None makes a page now that nobody gets, and forgets it.
    on_progress
        Hears how far folding is.

    Raises
    ------
    NotFoundError, GoneError
        If the request or the post is not known, or the trace is not kept any more.
    SchemaError
        If the request was another viewer's.
    """
    from millrace.mixer.feed import FeedRequest
    from millrace.mixer.trace import Trace

    settings = with_patience(settings, _PATIENCE_MS)
    viewer = normalise_id(viewer, "viewer")
    trace: Trace | None = None
    if request_id is not None:
        trace = Trace(wiring.build_traces(settings).read(request_id))
        if trace.head.viewer_id != viewer:
            raise SchemaError(
                "request", value=request_id, problem=f"not of viewer {viewer!r}", remedy="name the viewer who made it"
            )
    with folded_replica(settings, on_progress) as replica:
        service = wiring.build_feed_service(settings, replica)

        async def explain() -> LocalWhy:
            found, was_sent = trace, False
            if found is None:
                request = FeedRequest(viewer_id=viewer, request_id="dry-run", is_dry_run=True)
                found = service.traces.of(await service.execute(request))
                was_sent = _was_sent(replica, viewer, post)
            return LocalWhy(await service.explainer.why(found, post), was_sent)

        return asyncio.run(explain())


def _is_known(replica: Replica[FeedState], viewer: str) -> bool:
    if replica.content is None:
        return True
    ids = np.array([replica.state.hasher.one(IdKind.USER, viewer)], dtype=np.int64)
    return replica.content.users(ids, replica.position)[0] is not None


def _was_sent(replica: Replica[FeedState], viewer: str, post: str) -> bool:
    state = replica.state
    viewer_id = state.hasher.one(IdKind.USER, viewer)
    post_id = state.hasher.one(IdKind.POST, normalise_id(post, "post id"))
    return post_id in state.seen.served(viewer_id, replica.clock.now_ms())


def _somebody(replica: Replica[FeedState]) -> str:
    found = active_viewers(replica, 1)
    if not found:
        raise StoreError(
            "viewer", problem="none given, and nobody is known yet", remedy="take events in, or name a viewer"
        )
    return found[0].user_id
