"""`FeedClient`: how a simulation reaches a feed, in this process or over HTTP, and nothing else of it.

A simulation does what people do: it asks for pages and sends events. It also moves virtual time on, which people
cannot. An event counts at its own time only if virtual time has come that far: move the time, then send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from millrace.events.envelope import AnyEvent


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Somebody opens the feed.

    Attributes
    ----------
    viewer_id
        Outside id of the reader.
    request_id
        The client's own id of the request (``X-Request-ID``); the same one gives the same first page for a while. Empty:
        a page that is not kept, and cannot be asked for again.
    now_ms
        Virtual time of the request. Over HTTP the server's clock decides: `FeedClient.advance` moves it.
    limit
        Posts at most.
    cursor
        Of an earlier page: the next one.
    arm
        Which policy of the run makes the page; in process only.
    """

    viewer_id: str
    request_id: str
    now_ms: int
    limit: int
    cursor: str | None = None
    arm: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """What came back.

    Attributes
    ----------
    post_ids
        Best first.
    sources
        For each post, the sources that found it.
    scores
        For each post, what it was ranked by.
    cursor
        Where the next page begins; None at the end of the feed.
    n_candidates
        Posts that all sources together found.
    n_outcomes
        Components that failed or were late.
    served_request_id
        The server's id of the request, for `Impression.request_id`.
    """

    post_ids: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    scores: tuple[float, ...]
    cursor: str | None
    n_candidates: int
    n_outcomes: int
    served_request_id: str = ""


class FeedClient(Protocol):
    """A feed, as a simulation uses it."""

    def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Return a page for each request, in their order; all read the state as it is now."""

    def send(self, events: Sequence[AnyEvent]) -> None:
        """Take events in; they are durable when it returns."""

    def advance(self, now_ms: int) -> None:
        """Move virtual time on; return when the state has everything that was sent."""

    def close(self) -> None:
        """Let go of what the client holds."""
