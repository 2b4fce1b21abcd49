"""What a worker's HTTP service is made of: the door, the feed, served events, readiness, metrics, together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from litestar import Litestar

from millrace.app.api.events import event_routes
from millrace.app.api.health import Readiness, health_routes
from millrace.app.api.timeline import timeline_routes
from millrace.app.door import DoorThread
from millrace.app.http import make_app
from millrace.app.keeper import GROUP
from millrace.app.metrics import Metrics
from millrace.app.served_writer import ServedWriter
from millrace.app.settings import MillraceConfig
from millrace.app.viewers import ActiveViewer, active_viewers
from millrace.base.errors import MillraceError, NotReadyError
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.stream.collector import Receipt
from millrace.stream.log import total

if TYPE_CHECKING:
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.service import FeedService
    from millrace.stores.replica import Replica

_GAUGES_EVERY_S: Final = 1.0

MakeService = Callable[[ServedWriter], "FeedService"]


class FeedApp:
    """One worker's parts around one replica; `asgi` is what a server runs.

    Parameters
    ----------
    config
        Read is ``[server]``.
    replica
        This process's state. It is restored and followed by the worker, not here.
    make_service
        Builds the feed service; called once, when the state has caught up: a restored state is a new object.
    door
        Takes events in.
    metrics
        Of this process.
    """

    def __init__(
        self,
        config: MillraceConfig,
        replica: Replica[FeedState],
        make_service: MakeService,
        door: DoorThread,
        metrics: Metrics,
    ) -> None:
        self._replica = replica
        self._make_service = make_service
        self._service: FeedService | None = None
        self._door = door
        self._metrics = metrics
        self._writer = ServedWriter(door.append, metrics, config.server.served_batch_ms)
        routes = [
            *timeline_routes(self.serve_home, self.find_viewers),
            *event_routes(self.submit, metrics, config.server.max_events_per_post),
            *health_routes(self.readiness, metrics),
        ]
        self.asgi: Litestar = make_app(
            routes, metrics, max_body_bytes=config.server.max_body_bytes, lifespans=(self._lifespan,)
        )

    async def serve_home(self, request: FeedRequest) -> FeedResponse:
        """Return a page.

        Raises
        ------
        NotReadyError
            As long as the state has not caught up.
        """
        return await self._ready_service().home(request)

    async def find_viewers(self, n: int) -> list[ActiveViewer]:
        """Return the most active viewers."""
        self._ready_service()
        async with self._replica.read():
            return active_viewers(self._replica, n)

    async def submit(self, lines: Sequence[bytes]) -> Receipt:
        """Take clients' events in, off the event loop."""
        return await self._door.submit_json(lines)

    def readiness(self) -> Readiness:
        """Return whether this worker may serve, and why not."""
        reason = self._replica.why_not_ready()
        return Readiness(
            is_ready=not reason,
            lag=self._replica.lag(),
            state_offset=tuple(self._replica.position),
            reason=reason,
        )

    def _ready_service(self) -> FeedService:
        if self._service is None:
            reason = self._replica.why_not_ready()
            if reason:
                raise NotReadyError("feed", problem=reason, remedy="try again in a moment; /readyz tells when")
            self._service = self._make_service(self._writer)
        return self._service

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        await self._writer.start()
        gauges = asyncio.create_task(self._report_state(), name="gauges")
        try:
            yield
        finally:
            gauges.cancel()
            await asyncio.gather(gauges, return_exceptions=True)
            if self._service is not None:
                await self._service.drain()
            await self._writer.stop()
            self._door.close()

    async def _report_state(self) -> None:
        while True:
            with contextlib.suppress(MillraceError):
                found = self.readiness()
                newest = self._replica.checkpoints.newest_position()
                self._metrics.keeper(lag=self._replica.log.lag(GROUP), checkpoint_offset=total(newest or ()))
                self._metrics.replica(
                    "worker",
                    lag=found.lag,
                    lag_ms=self._replica.take_lag_ms(),
                    offset=total(found.state_offset),
                    is_ready=found.is_ready,
                )
            await asyncio.sleep(_GAUGES_EVERY_S)
