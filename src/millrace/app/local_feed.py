"""A page without a server: this process folds the log, serves one request to itself, and ends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from millrace.app import wiring
from millrace.app.settings import Settings, with_patience
from millrace.app.viewers import active_viewers
from millrace.base.errors import StoreError
from millrace.base.ids import normalise_id

if TYPE_CHECKING:
    from millrace.events.envelope import AnyEvent
    from millrace.mixer.feed import FeedResponse

_PATIENCE_MS: Final = 20_000
"""This process serves one page: its kernels may have to be compiled, and no other request waits."""

Timeline = Literal["home", "following"]

OnProgress = Callable[[int, int], None]


class _Kept:
    """Keeps `Served` events until the page is made; a `ServedLogger`."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        self.events.append(event)


def serve_page(
    settings: Settings,
    viewer: str | None,
    limit: int | None,
    on_progress: OnProgress | None = None,
    *,
    timeline: Timeline = "home",
) -> FeedResponse:
    """Return one page of a feed, made from the newest checkpoint and the log after it.

    Works with and without a running server. As a served page it is claimed and logged: its posts count as sent.

    Parameters
    ----------
    settings
        The home.
    viewer
        Whose feed; None takes the most active viewer.
    limit
        Posts at most; None for a page of the usual size.
    on_progress
        Called with (records folded, records to fold).
    timeline
        The ranked feed, or the chronological one.

    Raises
    ------
    StoreError
        If no viewer was given and the log names nobody.
    """
    settings = with_patience(settings, _PATIENCE_MS)
    log = wiring.build_log(settings)
    replica = wiring.build_replica(settings, log)
    replica.restore()
    replica.catch_up(on_progress)
    if viewer is None:
        found = active_viewers(replica, 1)
        if not found:
            raise StoreError(
                "viewer", problem="none given, and nobody is known yet", remedy="take events in, or name a viewer"
            )
        viewer = found[0].user_id
    served = _Kept()
    service = wiring.build_feed_service(settings, replica, served)

    async def make() -> FeedResponse:
        from millrace.mixer.feed import FeedRequest

        request = FeedRequest(
            viewer_id=normalise_id(viewer, "viewer"), limit=limit, request_id=uuid.uuid4().hex, debug=True
        )
        serve = service.home if timeline == "home" else service.following  # type: ignore[attr-defined]
        page: FeedResponse = await serve(request)
        await service.drain()
        return page

    page = asyncio.run(make())
    wiring.build_collector(settings, log, wiring.build_codec(settings)).submit(served.events)
    replica.close()
    log.close()
    return page
