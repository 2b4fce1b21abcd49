"""Paging: where a page stands in its timeline, whether it was made before, and whether another one follows.

A page that somebody can ask for once more, by its cursor or (a first page) by the client's ``X-Request-ID``, is kept
for a while: asked for again, in whichever worker, it is the same page. Two requests for it at once both make one; the
first that is kept wins, and the other's claims are given back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from millrace.base.errors import NotReadyError, StoreError
from millrace.base.ids import IdKind, hash_id
from millrace.features.query_fields import BEGINNING, Boundary
from millrace.mixer.cursor import Cursor, CursorCodec
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.outcome import Fate
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import OnError
from millrace.stores.claims import ClaimStore

_COMPRESSION: Final = 1  # to a sixth or so within a millisecond; harder saves little and costs more
_DIGEST_BYTES: Final = 16
_LAYOUT: Final = hashlib.blake2b(
    msgspec.json.encode(msgspec.json.schema(FeedResponse)), digest_size=_DIGEST_BYTES
).hexdigest()
"""Follows from the fields of a page, so that nobody can forget to raise it."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Place(NamedTuple):
    """Which page is asked for.

    Attributes
    ----------
    cursor
        Where it stands.
    key
        Under which it is kept; empty for a page that nobody can ask for again.
    """

    cursor: Cursor
    key: str


class End(NamedTuple):
    """What comes after a page.

    Attributes
    ----------
    is_exhausted
        Nothing: every post there is was looked at, and none is left for a further page.
    boundary
        Where the next page begins, for chronological timelines.
    """

    is_exhausted: bool
    boundary: Boundary = BEGINNING


class Pager:
    """Finds and keeps pages.

    Parameters
    ----------
    pages
        Shared by all workers.
    cursors
        Reads and writes cursors.
    ttl_ms, timeout_ms
        How long pages are kept, and how long one request waits for that.
    """

    def __init__(self, pages: ClaimStore, cursors: CursorCodec, *, ttl_ms: int, timeout_ms: float) -> None:
        self._pages = pages
        self._cursors = cursors
        self._ttl_ms = ttl_ms
        self._timeout_s = timeout_ms / 1000
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(FeedResponse).decode
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pages")

    def place(self, timeline: str, viewer_id: int, request: FeedRequest) -> Place:
        """Return which page a request asks for.

        Raises
        ------
        SchemaError
            If its cursor is none of ours, or another viewer's or timeline's.
        """
        if request.cursor is not None:
            cursor = self._cursors.decode(request.cursor, timeline, viewer_id)
            key = _key(timeline, "cursor", request.cursor)
        else:
            cursor = Cursor(timeline, viewer_id, hash_id(IdKind.REQUEST, request.request_id), 0)
            key = _key(timeline, "first", request.correlation_id) if request.correlation_id else ""
        # What a dry run looks at is not claimed: kept, it would be sent to whoever asks for that page in earnest.
        return Place(cursor, "" if request.is_dry_run else key)

    def cursor_after(self, place: Place, end: End) -> str | None:
        """Return the cursor of the page after this one; None if there is none."""
        return None if end.is_exhausted else self._cursors.encode(place.cursor.next(end.boundary))

    async def find(self, place: Place, now_ms: int) -> FeedResponse | None:
        """Return the page that is kept for a place; None if there is none.

        Raises
        ------
        NotReadyError
            If the store does not answer.
        """
        if not place.key:
            return None
        look = partial(self._pages.page, place.cursor.viewer_id, place.key, now_ms)
        try:
            kept = await self._in_thread(look) if self._pages.is_remote else look()
        except StoreError as error:
            raise store_is_silent(str(error)) from error
        return None if kept is None else self._read(kept)

    async def keep(self, place: Place, page: FeedResponse, now_ms: int) -> FeedResponse:
        """Keep a page and return it; or the one that another request has kept meanwhile.

        Raises
        ------
        NotReadyError
            If the store does not answer. The page may be kept or not, so its claims must not be given back.
        """
        if not place.key:
            return page
        data = zlib.compress(self._encode(page), _COMPRESSION)
        keep = partial(
            self._pages.keep_page, place.cursor.viewer_id, place.key, data, now_ms=now_ms, ttl_ms=self._ttl_ms
        )
        try:
            kept = await self._in_thread(keep)
        except StoreError as error:
            raise store_is_silent(str(error)) from error
        return page if kept == data else self._read(kept) or page

    def _read(self, kept: bytes) -> FeedResponse | None:
        """Return a page as it was kept; None where that cannot be read: it is then as if there were none."""
        try:
            return self._decode(zlib.decompress(kept))
        except (msgspec.DecodeError, zlib.error):
            logger.exception("a kept page of %d bytes cannot be read; it is made anew", len(kept))
            return None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        waiting = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.wait_for(waiting, self._timeout_s)
        except TimeoutError as error:
            raise store_is_silent(f"no answer within {self._timeout_s * 1000:g} ms") from error


class PoolEnd:
    """Says whether a page was the last one that its pool has posts for.

    Parameters
    ----------
    stages
        Of the pipeline that makes the pages.
    """

    def __init__(self, stages: Stages) -> None:
        filters = (*stages.filters, *stages.late_filters)
        self._pre_rankers = tuple(stage.name for stage in stages.pre_rankers)
        self._closed = {stage.name for stage in filters if stage.on_error is OnError.DROP_ALL}
        self._last_resorts = {s.name: s.cap for s in stages.sources if s.only_below is not None and s.cap is not None}

    def __call__(self, result: PipelineResult) -> End:
        """Return the end: a short page, nobody left in reserve, nothing that could have hidden posts, all looked at."""
        n_left = int(np.count_nonzero(result.dropped_by == 0)) - result.slate.n
        if self._pre_rankers:  # what they cut may come onto a further page
            n_dropped = result.n_dropped_by_name()
            n_left += sum(n_dropped.get(name, 0) for name in self._pre_rankers)
        is_short = result.slate.n < result.query.limit and n_left <= 0
        return End(is_short and not self._has_more(result) and not self.may_hide(result))

    def _has_more(self, result: PipelineResult) -> bool:
        """Whether a last resort gave all that it may: it then stopped looking before it came to its end."""
        for name, keys in result.retrieved:
            if name in self._last_resorts:
                cap = result.query.params.get_int(self._last_resorts[name])
                if 0 < cap <= len(keys):
                    return True
        return False

    def may_hide(self, result: PipelineResult) -> bool:
        """Whether a component failed without which posts are not found, or not shown."""
        for outcome in result.report.outcomes:
            if outcome.fate is not Fate.FALLBACK and (
                outcome.stage in ("query hydrator", "source")
                or (outcome.stage == "filter" and outcome.component in self._closed)
            ):
                return True
        return False


def store_is_silent(problem: str) -> NotReadyError:
    """Return the error for a request that cannot be answered because the claim store does not."""
    return NotReadyError(
        "claims", problem=f"the store does not do its work: {problem}", remedy="nothing was sent; ask again in a moment"
    )


def _key(timeline: str, kind: str, text: str) -> str:
    """Return a key that names the layout too: to workers of another release a page that they cannot read is none."""
    digest = hashlib.blake2b(f"{_LAYOUT}\0{kind}\0{text}".encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{timeline}/{digest}"
