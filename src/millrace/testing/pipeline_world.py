"""`FeedWorld`: the real stores, the real content file and the real feed service, fed with a list of events.

No log, no replica, no process: events go straight into every fold, in order, and the state stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from millrace.base.actions import ActionSpace
from millrace.base.clock import ManualClock
from millrace.base.ids import IdKind
from millrace.events.envelope import AnyEvent
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.feed_state import FeedState
from millrace.mixer.home_models import FixedModels, HomeModels, Predictor
from millrace.mixer.home_pipeline import HomeParts
from millrace.mixer.pre_rankers.value_pre_ranker import PrePredictorOf, no_pre_ranker
from millrace.mixer.service import FeedService
from millrace.pipeline.outcome import PipelineObserver
from millrace.pipeline.result import PipelineResult
from millrace.stores.claims import ClaimStore, MemoryClaims
from millrace.stores.config import StoresConfig
from millrace.stores.content_overlay import ContentReader
from millrace.stores.content_store import ContentStore
from millrace.stores.sqlite_content import SqliteContentReads, SqliteContentWrites
from millrace.testing.builders import NOW_MS, a_batch_of, a_post_created

_KEY: Final = b"the same cursors in every world!"


class PatientClock(ManualClock):
    """Real time stands still as well: a machine that is busy, or compiles kernels first, misses no page's deadline."""

    def monotonic_s(self) -> float:
        """Return the same moment, always."""
        return 0.0


@dataclass(frozen=True, slots=True)
class StandingStill:
    """A reading of a state that nobody changes."""

    position: tuple[int, ...]


class CollectedServed:
    """Takes `Served` events and keeps them."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        """Keep the event."""
        self.events.append(event)


class FeedWorld:
    """A feed over everything that some events say.

    Parameters
    ----------
    folder
        Where the content file goes.
    events
        What happened, in order.
    now_ms
        Event time.
    claims, observer
        Shared or replaced where a test needs them.
    params
        Overrides at level ``config``.
    config
        Strict by default: what a stage raises is raised.
    model
        A learned ranker; None: counters alone.
    pre_ranker_of
        The learned pre-ranker of a request.
    versions
        Of the models, by kind.
    """

    def __init__(
        self,
        folder: Path,
        events: Iterable[AnyEvent] = (),
        *,
        now_ms: int = NOW_MS,
        claims: ClaimStore | None = None,
        observer: PipelineObserver | None = None,
        params: Mapping[str, object] | None = None,
        config: HomeConfig | None = None,
        model: Predictor | None = None,
        pre_ranker_of: PrePredictorOf = no_pre_ranker,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.clock = PatientClock(now_ms)
        self.state = FeedState(StoresConfig())
        self.served = CollectedServed()
        self.features = CollectedServed()
        self.position = 0
        self._content = ContentStore(SqliteContentWrites(folder / "content.db"), self.state.hasher)
        self.content = ContentReader(SqliteContentReads(folder / "content.db"), self.state.hasher)
        self.hear(events)
        parts = HomeParts(
            state=self.state,
            content=self.content,
            claims=claims or MemoryClaims(),
            actions=ActionSpace(),
            clock=self.clock,
            served_logger=self.served,
            features_logger=self.features,
            models=FixedModels(HomeModels(ranker=model, versions=versions or {})),
            pre_ranker_of=pre_ranker_of,
        )
        generous = HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, is_strict=True)
        self.service = FeedService(
            self, parts, self.state.hasher, config or generous, params=params, observer=observer, cursor_key=_KEY
        )

    def hear(self, events: Iterable[AnyEvent]) -> None:
        """Take further events into stores and content."""
        batch = a_batch_of(list(events), first_offset=self.position)
        for fold in self.state.folds():
            fold.apply(batch)
        self._content.hear(batch)
        self.position += len(batch)
        self._content.commit((self.position,))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[StandingStill]:
        """Hold the state still, which it does anyway."""
        yield StandingStill((self.position,))

    def page(self, viewer_id: str | int = 20, request_id: str = "r1", **more: Any) -> FeedResponse:
        """Return a page."""
        return self.page_with_result(viewer_id, request_id, **more)[0]

    def home(self, viewer_id: str | int = 20, request_id: str = "r1", **more: Any) -> FeedResponse:
        """Return what somebody who asks gets: a new page, or one that is kept."""
        return self._run(self.service.home, viewer_id, request_id, more)

    def following(self, viewer_id: str | int = 20, request_id: str = "r1", **more: Any) -> FeedResponse:
        """Return a page of the chronological timeline."""
        return self._run(self.service.following, viewer_id, request_id, more)

    def page_with_result(
        self, viewer_id: str | int = 20, request_id: str = "r1", **more: Any
    ) -> tuple[FeedResponse, PipelineResult]:
        """Return a page and what it was made from, side effects done."""

        async def run() -> tuple[FeedResponse, PipelineResult]:
            request = FeedRequest(viewer_id=str(viewer_id), request_id=request_id, **more)
            try:
                return await self.service.home_with_result(request)
            finally:
                await self.service.drain()

        return asyncio.run(run())

    def _run(
        self,
        serve: Callable[[FeedRequest], Awaitable[FeedResponse]],
        viewer_id: str | int,
        request_id: str,
        more: Mapping[str, Any],
    ) -> FeedResponse:
        async def run() -> FeedResponse:
            try:
                return await serve(FeedRequest(viewer_id=str(viewer_id), request_id=request_id, **more))
            finally:
                await self.service.drain()

        return asyncio.run(run())

    def post_id(self, text: str | int) -> int:
        """Return a post's inside id."""
        return self.state.hasher.one(IdKind.POST, str(text))

    def close(self) -> None:
        """Close the content file."""
        self.content.close()
        self._content.close()


def posts_by(author: int, *post_ids: int, hours_ago: float = 1, **fields: Any) -> list[AnyEvent]:
    """Posts of one author, a millisecond apart by their ids."""
    at_ms = NOW_MS - int(hours_ago * 3_600_000)
    return [a_post_created(p, author, text=f"text {p}", at_ms=at_ms - p, **fields) for p in post_ids]


def many_authors(n: int, first: int = 100) -> list[AnyEvent]:
    """One post each by ``n`` authors: author 100 wrote post 1100."""
    return [event for author in range(first, first + n) for event in posts_by(author, author + 1_000)]
