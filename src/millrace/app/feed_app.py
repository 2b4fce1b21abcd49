"""What a worker's HTTP service is made of: the door, the feed, served events, readiness, metrics, together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from litestar import Litestar

from millrace.app.access import Caller, Gate
from millrace.app.api.events import event_routes
from millrace.app.api.features import feature_routes
from millrace.app.api.flywheel import TellFlywheel, flywheel_routes
from millrace.app.api.health import Readiness, health_routes
from millrace.app.api.models import TellModels, model_routes
from millrace.app.api.requests import request_routes
from millrace.app.api.timeline import timeline_routes
from millrace.app.api.web import web_routes
from millrace.app.cache_report import CacheReport
from millrace.app.content_reads_report import ContentReadsReport
from millrace.app.door import DoorThread
from millrace.app.event_limits import EventLimits
from millrace.app.http import make_app
from millrace.app.keeper import GROUP
from millrace.app.live_params import LiveParams
from millrace.app.metrics import Metrics
from millrace.app.own_events import OwnEvents, edited_posts, may_edit
from millrace.app.rank_server_report import RankServerReport
from millrace.app.served_writer import FeaturesWriter, ServedWriter
from millrace.app.settings import MillraceConfig
from millrace.app.viewers import ActiveViewer, active_viewers
from millrace.base.clock import Clock, VirtualClock
from millrace.base.errors import MillraceError, NotReadyError
from millrace.base.ids import IdKind
from millrace.base.params import ParamSet
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.stream.collector import Receipt
from millrace.stream.log import total

if TYPE_CHECKING:
    from millrace.app.feature_sheets import FeatureSheets
    from millrace.app.home_retrieval import HomeRetrieval
    from millrace.app.social_refresh import SocialFollowers
    from millrace.inference.live_models import LiveModels
    from millrace.mixer.explain import Explainer
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.home_models import HomeModels
    from millrace.mixer.service import FeedService
    from millrace.mixer.trace import Trace
    from millrace.registry.lanes import LaneReader
    from millrace.stores.replica import Replica
    from millrace.stores.trace_store import FileTraces, NoTraces

_GAUGES_EVERY_S: Final = 1.0
_REFRESHED_EVERY_S: Final = 10.0
_MAX_CLIENT_CHARS: Final = 128

MakeService = Callable[[ServedWriter, FeaturesWriter], "FeedService"]


class FeedApp:
    """One worker's parts around one replica; `asgi` is what a server runs.

    Parameters
    ----------
    config
        Read are ``[server]``, ``[home]`` and ``[content_store]``.
    replica
        This process's state. It is restored and followed by the worker, not here.
    make_service
        Builds the feed service; called once, when the state has caught up: a restored state is a new object.
    door
        Takes events in.
    limits
        How fast each client may send them.
    metrics
        Of this process.
    live
        The params that pages are made with.
    gate
        Tells who asks.
    event_schema
        JSON Schema of an event, for the OpenAPI document.
    traces
        Request ids, and what explains the requests.
    clock
        Event time, which every answer tells.
    models
        Followed for as long as the app lives.
    lanes
        Tells which models a request asks for.
    retrieval
        The post indexes of this process.
    followers
        Take over the social vectors that the keeper refreshes.
    models_told
        Tells what serves and what is being trained, to people.
    flywheel_told
        Tells how the feed learns on.
    warnings_told
        Tells what is wrong with the home and keeps nobody from serving; asked once a second, aside.
    sheets_of
        Gives the feature sheets of the replica's state as of a moment.
    server_id
        The server's name, under ``/healthz``.
    """

    def __init__(
        self,
        config: MillraceConfig,
        replica: Replica[FeedState],
        make_service: MakeService,
        door: DoorThread,
        limits: EventLimits,
        metrics: Metrics,
        live: LiveParams,
        gate: Gate,
        event_schema: dict[str, Any],
        traces: FileTraces | NoTraces,
        clock: Clock,
        models: LiveModels[HomeModels],
        lanes: LaneReader,
        retrieval: HomeRetrieval,
        followers: SocialFollowers,
        models_told: TellModels,
        flywheel_told: TellFlywheel,
        warnings_told: Callable[[], tuple[str, ...]],
        sheets_of: Callable[[int], FeatureSheets],
        server_id: str = "",
    ) -> None:
        self._replica = replica
        self._live = live
        live.on_change(self._take_params)
        self._make_service = make_service
        self._service: FeedService | None = None
        self._door = door
        self._limits = limits
        self._metrics = metrics
        self._caches = CacheReport(metrics)
        self._content_reads = ContentReadsReport(metrics)
        self._servers = RankServerReport(metrics)
        self._traces = traces
        self._clock = clock
        self._models = models
        self._retrieval = retrieval
        self._sheets_of = sheets_of
        self._warnings_told, self._warnings = warnings_told, tuple[str, ...]()
        self._content_patience_s = config.content_store.timeout_ms / 1_000
        self._followers = followers
        self._writer = ServedWriter(door.append, metrics, config.server.served_batch_ms)
        self._features = FeaturesWriter(door.append, metrics)
        routes = [
            *timeline_routes(
                self.serve_home,
                self.serve_following,
                self.find_viewers,
                traces.next_request_id,
                gate,
                config.home,
                lanes,
            ),
            *request_routes(self.find_trace, self.explainer, gate),
            *event_routes(self.submit, metrics, gate, config.server.max_events_per_post, event_schema),
            *health_routes(self.readiness, metrics, gate, server_id),
            *model_routes(models_told, gate),
            *flywheel_routes(flywheel_told, gate),
            *feature_routes(self.read_features, gate),
            *web_routes(gate.mode),
        ]
        self.asgi: Litestar = make_app(
            routes,
            metrics,
            gate,
            clock,
            max_body_bytes=config.server.max_body_bytes,
            lifespans=(self._lifespan,),
        )

    async def serve_home(self, request: FeedRequest) -> FeedResponse:
        """Return a page.

        Raises
        ------
        NotReadyError
            As long as the state has not caught up, and where the claim store does not answer.
        """
        return await self._ready_service().home(request)

    async def serve_following(self, request: FeedRequest) -> FeedResponse:
        """Return a page of the chronological timeline; raises like `serve_home`."""
        return await self._ready_service().following(request)

    def find_trace(self, request_id: str) -> Trace:
        """Return the trace of a request of any worker."""
        from millrace.mixer.trace import Trace

        return Trace(self._traces.read(request_id))

    def explainer(self) -> Explainer:
        """Return what renders traces.

        Raises
        ------
        NotReadyError
            As long as the state has not caught up.
        """
        return self._ready_service().explainer

    async def find_viewers(self, n: int) -> list[ActiveViewer]:
        """Return the most active viewers."""
        self._ready_service()
        async with self._replica.read():
            return active_viewers(self._replica, n)

    async def read_features(self, read: Callable[[FeatureSheets], Awaitable[Any]]) -> Any:
        """Return what is read from the feature sheets, all stores at one log position.

        Raises
        ------
        NotReadyError
            As long as the state has not caught up.
        """
        self._ready_service()
        async with self._replica.read():
            return await read(self._sheets_of(self._clock.now_ms()))

    async def submit(self, lines: Sequence[bytes], caller: Caller, sent_ms: int | None) -> Receipt:
        """Take a caller's events in, off the event loop: of a viewer only their own.

        Raises
        ------
        TooManyError
            If the caller is over the limit.
        NotReadyError
            If a viewer edits or deletes posts, and the state that knows their authors has not caught up.
        """

        def spend() -> None:
            self._limits.spend(caller, len(lines))

        admit: OwnEvents | None = None
        is_paid = False
        if caller.role == "viewer":
            authors: dict[str, str] = {}
            if may_edit(lines):  # the authors are looked up only for who may send so many
                await self._door.spend(spend, lines)
                authors, is_paid = await self._authors(edited_posts(lines)), True
            admit = OwnEvents(caller.name, authors)
        return await self._door.submit_json(
            lines,
            admit,
            client=f"{caller.role}/{caller.name}"[:_MAX_CLIENT_CHARS],
            sent_ms=sent_ms,
            spend=_nothing if is_paid else spend,
        )

    def readiness(self) -> Readiness:
        """Return whether this worker may serve, and why not."""
        reason = self._replica.why_not_ready()
        return Readiness(
            is_ready=not reason,
            lag=self._replica.lag(),
            state_offset=tuple(self._replica.position),
            now_ms=self._clock.now_ms(),
            is_time_virtual=isinstance(self._clock, VirtualClock),
            reason=reason,
            warnings=self._warnings,
        )

    async def _authors(self, post_ids: Sequence[str]) -> dict[str, str]:
        """Return the authors of those posts that can be shown."""
        content = self._replica.content
        if not post_ids or content is None:
            return {}
        self._ready_service()
        async with self._replica.read():
            hasher = self._replica.state.hasher
            ids = np.array([hasher.one(IdKind.POST, text) for text in post_ids], np.int64)
            found = await content.posts_async(ids, self._replica.position, self._content_patience_s)
        # The texts are compared too: two ids may share a hash.
        pairs = zip(post_ids, found, strict=True)
        return {text: post.author_id for text, post in pairs if post is not None and post.post_id == text}

    def _ready_service(self) -> FeedService:
        if self._service is None:
            reason = self._replica.why_not_ready()
            if reason:
                raise NotReadyError("feed", problem=reason, remedy="try again in a moment; /readyz tells when")
            self._service = self._make_service(self._writer, self._features)
            self._service.params = self._live.params
        return self._service

    def _take_params(self, params: ParamSet) -> None:
        """Serve with other params from the next request on; those under way keep the ones they began with."""
        if self._service is not None:
            self._service.params = params

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        await self._live.start()
        await self._writer.start()
        await self._features.start()
        # Before the first page, if there are any: what is opened here is not opened within a request.
        await asyncio.to_thread(self._models.poll)
        self._models.start()
        gauges = asyncio.create_task(self._report_state(), name="gauges")
        following = asyncio.create_task(self._live.follow(), name="live params")
        filling = asyncio.create_task(self._retrieval.keep_filled(self._replica.gate), name="post indexes")
        refreshing = asyncio.create_task(self._take_refreshed(), name="social vectors")
        try:
            yield
        finally:
            gauges.cancel()
            following.cancel()
            filling.cancel()
            refreshing.cancel()
            await asyncio.gather(gauges, following, filling, refreshing, return_exceptions=True)
            if self._service is not None:
                await self._service.drain()
            await self._writer.stop()
            await self._features.stop()
            await asyncio.to_thread(self._models.close)
            self._door.close()
            self._traces.close()

    async def _take_refreshed(self) -> None:
        """Take over refreshed social vectors: files are read aside."""
        while True:
            await asyncio.sleep(_REFRESHED_EVERY_S)
            await asyncio.to_thread(self._followers.poll)

    async def _report_state(self) -> None:
        while True:
            with contextlib.suppress(MillraceError):
                self._warnings = await asyncio.to_thread(self._warnings_told)
                found = self.readiness()
                newest = self._replica.checkpoints.newest_position()
                self._metrics.keeper(lag=self._replica.log.lag(GROUP), checkpoint_offset=total(newest or ()))
                self._metrics.traces(**self._traces.take_counts())
                held = self._service.models.held() if self._service is not None else ()
                self._caches.tell(held)
                self._content_reads.tell(self._replica.content)
                self._servers.tell(held)
                self._metrics.replica(
                    "worker",
                    lag=found.lag,
                    lag_ms=self._replica.take_lag_ms(),
                    offset=total(found.state_offset),
                    is_ready=found.is_ready,
                )
            await asyncio.sleep(_GAUGES_EVERY_S)


def _nothing() -> None:
    """Spend nothing: it was spent before."""
