"""`EventClient`: sends a program's events to Millrace, and keeps them on disk while the server is away.

Needs nothing but Python. ``send`` writes into a small SQLite file and returns; a thread sends batches. What the server
has given a result for is removed, and nothing else, so that a batch may be sent twice (the server knows its events by
their ids) and none is lost: not when the server is down, not when the program is killed.

>>> client = EventClient("http://127.0.0.1:8000", Path("events.db"), api_key="...")  # doctest: +SKIP
>>> client.send({"type": "Engagement", "viewer_id": "vic", "post_id": "42", "action": "like"})  # doctest: +SKIP
>>> client.close()  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import math
import random
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from millrace.app.event_buffer import EventBuffer

EVENTS_PATH: Final = "/api/v1/events"
SENT_HEADER: Final = "X-Millrace-Sent"
_TAKEN: Final = (200, 422)
"""The answer says of every event what became of it, if it is a Millrace that answers."""
_STATUSES: Final = ("accepted", "duplicate", "refused")
_AGAIN: Final = (408, 425, 429, 500, 502, 503, 504, 507)
"""Nothing was taken; later it may be."""
_TOO_MUCH: Final = 413
_NO_ANSWER: Final = (OSError, http.client.HTTPException, ValueError)
"""What comes of a server that is away, too slow, cut off in the middle of an answer, or that speaks no HTTP."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to a batch.

    Attributes
    ----------
    status
        HTTP status; 0 where nobody answered.
    body
        As it came.
    retry_after_s
        When to come again, if it said so.
    """

    status: int
    body: bytes = b""
    retry_after_s: float | None = None


Post = Callable[[bytes, Mapping[str, str]], Answer]
"""Sends a body with headers; answers in every case. What it raises all the same counts as no answer."""


class EventClient:
    """Sends events in batches, again until the server has answered for each. Safe to use from several threads.

    Parameters
    ----------
    url
        Of the server.
    buffer_path
        The SQLite file that keeps what is not answered for; one program at a time uses it.
    api_key, token
        Credentials, where the server asks for some: an API key of role ingest, or a viewer's token.
    max_batch
        Events of one request.
    max_wait_s
        How long an event waits for others.
    max_buffer_bytes
        Beyond it the oldest events are dropped, and counted.
    longest_pause_s
        Between tries while the server is away: from a quarter of a second on twice as long each time, up to this.
    post
        Stands in for HTTP.
    on_refused
        Hears of every event that the server refuses for good, with the reason. What it raises is logged.

    Attributes
    ----------
    n_sent, n_refused
        Events that the server has taken, and that it has refused for good.
    n_failures
        Tries that came to nothing since the last that did not; also those that failed on this side.
    """

    def __init__(
        self,
        url: str,
        buffer_path: Path,
        *,
        api_key: str = "",
        token: str = "",
        max_batch: int = 500,
        max_wait_s: float = 0.5,
        max_buffer_bytes: int = 256 << 20,
        longest_pause_s: float = 30.0,
        timeout_s: float = 10.0,
        post: Post | None = None,
        on_refused: Callable[[bytes, str], None] = lambda _event, _reason: None,
    ) -> None:
        self._buffer = EventBuffer(buffer_path, max_buffer_bytes)
        self._headers = {"content-type": "application/x-ndjson"}
        if credential := token or api_key:
            self._headers["authorization"] = f"Bearer {credential}"
        self._post = post or _http_post(url.rstrip("/") + EVENTS_PATH, timeout_s)
        self._max_batch = self._n_next = max_batch
        self._max_wait_s = max_wait_s
        self._longest_pause_s = longest_pause_s
        self._on_refused = on_refused
        self._something = threading.Event()
        self._sending = threading.Lock()
        self._is_closing = threading.Event()
        self._jitter = random.Random()  # noqa: S311 - only spreads clients out
        self.n_sent = self.n_refused = self.n_failures = 0
        self._thread = threading.Thread(target=self._run, name="millrace-events", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Events that no server has answered for yet."""
        return len(self._buffer)

    @property
    def n_dropped(self) -> int:
        """Events that the full buffer has dropped since it was opened."""
        return self._buffer.n_dropped

    def send(self, payload: Mapping[str, Any], *, event_id: str | None = None, event_time_ms: int | None = None) -> str:
        """Keep an event until the server has it; return its id. It outlives this program.

        Parameters
        ----------
        payload
            ``{"type": "Impression", …}``, see ``millrace events schema``.
        event_id
            Its id, if the caller has one that is its own for ever; else one is drawn.
        event_time_ms
            When it happened, by this machine's clock; None: now.
        """
        event = {
            "event_id": event_id or uuid.uuid4().hex,
            "event_time_ms": _now_ms() if event_time_ms is None else event_time_ms,
            "payload": payload,
        }
        self._buffer.add(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
        self._something.set()
        return str(event["event_id"])

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Send what waits, now; return whether nothing waits any more."""
        deadline_s = time.monotonic() + timeout_s
        while self.n_waiting and time.monotonic() < deadline_s:
            pause_s = self._try_batch()
            if pause_s and self._is_closing.wait(min(pause_s, max(0.0, deadline_s - time.monotonic()))):
                break
        return not self.n_waiting

    def close(self, timeout_s: float = 10.0) -> bool:
        """Try to send what waits, end the thread, and return whether everything was sent; the rest stays on disk."""
        is_done = self.flush(timeout_s)
        self._is_closing.set()
        self._something.set()
        self._thread.join(timeout_s)
        with self._sending:
            self._buffer.close()
        return is_done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._is_closing.is_set():
            if not self.n_waiting:
                self._something.wait()
                self._something.clear()
                if self.n_waiting < self._max_batch:
                    self._is_closing.wait(self._max_wait_s)
                continue
            pause_s = self._try_batch()
            if pause_s:
                self._is_closing.wait(pause_s)

    def _try_batch(self) -> float:
        """Send one batch, whatever goes wrong; return how long to wait before the next, 0 for not at all."""
        try:
            return self._send_batch()
        except Exception:  # a full disk must not end the only thread that sends
            logger.exception("a batch of events could not be sent; it is kept")
            self.n_failures += 1
            return self._pause_s(Answer(0))

    def _send_batch(self) -> float:
        """Send one batch; return how long to wait before the next, 0 for not at all."""
        with self._sending:
            if self._is_closing.is_set():
                return 0.0
            numbers, events = self._buffer.oldest(self._n_next)
            if not events:
                return 0.0
            answer = self._post(b"\n".join(events) + b"\n", {**self._headers, SENT_HEADER: str(_now_ms())})
            if answer.status in _TAKEN:
                if self._account(numbers, events, answer.body):
                    self.n_failures = 0
                    self._n_next = min(self._n_next * 2, self._max_batch)
                    return 0.0
                logger.error("events are kept: a %d without their results, from no Millrace, or cut", answer.status)
            if answer.status == _TOO_MUCH and len(events) == 1:
                self._refuse(events[0], "larger than the server takes")
                self._buffer.remove(numbers)
                return 0.0
            self.n_failures += 1
            if answer.status == _TOO_MUCH or (answer.status == 429 and len(events) > 1):
                self._n_next = max(len(events) // 2, 1)  # less at once is sooner allowed
            if answer.status and answer.status not in (*_TAKEN, *_AGAIN, _TOO_MUCH):
                logger.error("events are kept: the server answers %d: %s", answer.status, answer.body[:300])
            return self._pause_s(answer)

    def _pause_s(self, answer: Answer) -> float:
        if answer.retry_after_s is not None:
            return min(answer.retry_after_s, self._longest_pause_s)
        longest_s = min(0.25 * 2.0 ** min(self.n_failures - 1, 30), self._longest_pause_s)
        return longest_s * self._jitter.uniform(0.5, 1.0)  # so that clients do not come back all at once

    def _account(self, numbers: list[int], events: list[bytes], body: bytes) -> bool:
        """Take leave of the events that an answer has a result for; return whether that is all of them."""
        statuses = _results(body)[: len(events)]
        for event, (status, reason) in zip(events, statuses, strict=False):
            if status == "refused":
                self._refuse(event, reason)
        self._buffer.remove(numbers[: len(statuses)])
        self.n_sent += sum(status != "refused" for status, _ in statuses)
        return len(statuses) == len(events)

    def _refuse(self, event: bytes, reason: str) -> None:
        self.n_refused += 1
        logger.warning("the server refuses an event: %s", reason)
        try:
            self._on_refused(event, reason)
        except Exception:  # the caller's own; the event is answered for, and must not come again for it
            logger.exception("on_refused failed")


def _results(body: bytes) -> list[tuple[str, str]]:
    """Return status and reason of each event, up to where a body is not what the door answers: perhaps of none."""
    found: list[tuple[str, str]] = []
    try:
        for result in json.loads(body)["results"]:
            if (status := result["status"]) not in _STATUSES:
                break
            found.append((status, str(result.get("error", ""))))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # a captive portal's page, say
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would follow one with a GET, whose answer says nothing of the events."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _http_post(url: str, timeout_s: float) -> Post:
    opener = urllib.request.build_opener(_NoRedirects)

    def post(body: bytes, headers: Mapping[str, str]) -> Answer:
        request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - the caller's own server
        try:
            with opener.open(request, timeout=timeout_s) as response:
                return Answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            return _told(error)
        except _NO_ANSWER as error:
            logger.debug("no answer: %s", error)
            return Answer(0)

    return post


def _told(error: urllib.error.HTTPError) -> Answer:
    """Return a server's answer that is not a success; its status counts, also where its body breaks off."""
    retry_after_s = None
    with contextlib.suppress(ValueError):  # a date, or nothing
        retry_after_s = float(error.headers.get("retry-after", ""))
    if retry_after_s is not None and not (math.isfinite(retry_after_s) and retry_after_s >= 0):
        retry_after_s = None
    with error:
        try:
            body = error.read()
        except _NO_ANSWER:
            body = b""
    return Answer(error.code, body, retry_after_s)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
