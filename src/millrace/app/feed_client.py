"""`HttpFeedClient`: a feed in virtual time over HTTP, for simulations and tools; a `FeedClient`.

It holds a few connections, and whoever accepts one answers on it for as long as it lives: one worker. A worker folds
the log by itself, so before a page is asked for on a connection, that very worker must have folded everything that was
sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import msgspec

from millrace.app.http_connection import Answer, Connection, CutError
from millrace.base.errors import FeedClientError
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import ClockTick
from millrace.mixer.feed import FeedResponse
from millrace.simulator.client import Page, PageRequest

SOURCE: Final = "simulation"
_BATCH_EVENTS: Final = 4_000
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.05
_HTTP_OK: Final = 200
_HTTP_REFUSED: Final = 422


class _Result(msgspec.Struct):
    status: str
    event_id: str = ""
    error: str = ""


class _Receipt(msgspec.Struct):
    state_offset: tuple[int, ...]
    results: tuple[_Result, ...]


class _Readiness(msgspec.Struct):
    is_ready: bool
    state_offset: tuple[int, ...]
    now_ms: int
    is_time_virtual: bool
    reason: str = ""


class HttpFeedClient:
    """Pages and events over HTTP.

    Parameters
    ----------
    url
        Of the server, without a path: ``http://127.0.0.1:8000``.
    codec
        What events are; the built-in types and the operator's own.
    n_connections
        How many requests for pages may be under way at once.
    timeout_s
        How long one call may take with all its retries, and how long `advance` waits.

    Raises
    ------
    FeedClientError
        If the server does not answer or is not in virtual time: a simulation would then mean nothing.

    Attributes
    ----------
    url
        As given.
    """

    def __init__(self, url: str, codec: EventCodec, *, n_connections: int = 4, timeout_s: float = 60.0) -> None:
        self.url = url
        self._encode = codec.encode_json
        self._timeout_s = timeout_s
        self._end = 0  # the log position after everything that was sent
        self._now_ms = 0
        self._advanced_ms = 0
        self._ticked_ms = 0  # the newest tick of ours: every worker must have heard it
        self._free: SimpleQueue[Connection] = SimpleQueue()
        self._connections = [Connection(url, timeout_s) for _ in range(n_connections)]
        for connection in self._connections:
            self._free.put(connection)
        self._threads = ThreadPoolExecutor(n_connections, thread_name_prefix="feed-client")
        self._receipts = msgspec.json.Decoder(_Receipt)
        self._readiness = msgspec.json.Decoder(_Readiness)
        self._responses = msgspec.json.Decoder(FeedResponse)
        try:
            self._check_virtual()
        except BaseException:
            self.close()
            raise
        self._advanced_ms = self._now_ms

    @property
    def now_ms(self) -> int:
        """Virtual time as far as this client moved it; else the server's when the client was made, 0 if it had none."""
        return self._now_ms

    def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Return a page for each request, in their order; every worker that answers has everything that was sent.

        Raises
        ------
        FeedClientError
            If a page cannot be had.
        """
        return list(self._threads.map(self._page, requests))

    def send(self, events: Sequence[AnyEvent]) -> None:
        """Take events in; they are durable when it returns. Sent again after a fault they are the same events.

        What has happened is not in the future: events later than virtual time move it on to the latest of them.

        Raises
        ------
        FeedClientError
            If an event is refused (those before it may be in already), or the server does not answer.
        """
        newest_ms = max((event.event_time_ms for event in events), default=0)
        if newest_ms > self._now_ms:
            # Before them, in one append with the first: see `VirtualClock.stamps`.
            self._post([_tick(newest_ms), *events])
            self._now_ms = self._ticked_ms = newest_ms
        else:
            self._post(events)

    def _post(self, events: Sequence[AnyEvent]) -> None:
        for start in range(0, len(events), _BATCH_EVENTS):
            body = b"\n".join(self._encode(event) for event in events[start : start + _BATCH_EVENTS])
            answer = self._on_any("/api/v1/events", body)
            if answer.status not in (_HTTP_OK, _HTTP_REFUSED):
                raise answer.error()
            receipt = self._receipts.decode(answer.body)
            for result in receipt.results:
                if result.status == "refused":
                    raise FeedClientError(
                        "event", value=result.event_id, problem=f"refused: {result.error}", remedy="correct its maker"
                    )
            self._end = max(self._end, sum(receipt.state_offset))

    def advance(self, now_ms: int) -> None:
        """Move virtual time on; return when every worker at the other end has the tick and everything sent before.

        Raises
        ------
        FeedClientError
            If the tick is refused (time never goes back), or a worker does not get there in time.
        """
        # Events that were sent may have moved time a little further already, within the step that ends here.
        if not self._advanced_ms <= now_ms < self._now_ms:
            self._post([_tick(now_ms)])
            self._now_ms = self._ticked_ms = now_ms
        self._advanced_ms = now_ms
        for connection in [self._free.get() for _ in self._connections]:
            try:
                self._let_catch_up(connection)
            finally:
                self._free.put(connection)

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    def _page(self, request: PageRequest) -> Page:
        path = f"/api/v1/timeline/home?viewer={quote(request.viewer_id, safe='')}&limit={request.limit}&debug=true"
        if request.cursor is not None:
            path += f"&cursor={quote(request.cursor, safe='')}"
        answer = self._ask_caught_up(path, {"X-Request-ID": request.request_id} if request.request_id else {})
        if answer.status != _HTTP_OK:
            raise answer.error()
        found = self._responses.decode(answer.body)
        debug = found.debug_info
        return Page(
            post_ids=tuple(post.post_id for post in found.posts),
            sources=tuple(post.sources for post in found.posts),
            scores=tuple(post.score for post in found.posts),
            cursor=found.cursor,
            n_candidates=0 if debug is None else debug.candidate_count,
            n_outcomes=0 if debug is None else len(debug.outcomes),
            served_request_id=found.request_id,
        )

    def _ask_caught_up(self, path: str, headers: dict[str, str]) -> Answer:
        """Ask a worker that has everything; where it is cut off, another one that has."""
        deadline_s = time.monotonic() + self._timeout_s
        connection = self._free.get()
        try:
            while True:
                self._let_catch_up(connection)  # raises where nobody is there any more
                try:
                    return connection.ask(path, headers=headers, reopens=False)
                except CutError as error:
                    if time.monotonic() > deadline_s:
                        raise FeedClientError(
                            "page",
                            value=path,
                            problem=f"cut off again and again ({error})",
                            remedy="see the server's log",
                        ) from error
        finally:
            self._free.put(connection)

    def _let_catch_up(self, connection: Connection) -> None:
        """Return once the worker at the other end has folded what was sent; at once, if it is known to have."""
        deadline_s = time.monotonic() + self._timeout_s
        pause_s = _FIRST_PAUSE_S
        while not self._is_current(connection):
            found = self._ready(connection)
            if found.is_ready:
                connection.reached, connection.reached_ms = sum(found.state_offset), found.now_ms
                if self._is_current(connection):
                    return
            if time.monotonic() > deadline_s:
                raise FeedClientError(
                    "server state",
                    value=(sum(found.state_offset), found.now_ms),
                    problem=f"has not come to log position {self._end} and event time {self._ticked_ms} within "
                    f"{self._timeout_s} s {found.reason}".rstrip(),
                    remedy="see the server's log, and /readyz; a busy machine takes a larger timeout_s",
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _is_current(self, connection: Connection) -> bool:
        return connection.reached >= self._end and connection.reached_ms >= self._ticked_ms

    def _ready(self, connection: Connection) -> _Readiness:
        answer = connection.ask("/readyz", retries=False)
        return self._readiness.decode(answer.body)

    def _on_any(self, path: str, body: bytes) -> Answer:
        connection = self._free.get()
        try:
            return connection.ask(path, body)
        finally:
            self._free.put(connection)

    def _check_virtual(self) -> None:
        connection = self._free.get()
        try:
            found = self._ready(connection)
        finally:
            self._free.put(connection)
        if not found.is_time_virtual:
            raise FeedClientError(
                "server",
                value=self.url,
                problem="is on real time",
                remedy="start it with `millrace serve --virtual-time`",
            )
        self._now_ms = found.now_ms if sum(found.state_offset) else 0


def _tick(now_ms: int) -> AnyEvent:
    payload = ClockTick(now_ms=now_ms)
    return Event(event_id=f"tick-{uuid4().hex}", event_time_ms=now_ms, source=SOURCE, payload=payload)
