"""`FeedClient`: how the world talks to the feed, in process or over HTTP; nothing else of the feed is known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.events.envelope import AnyEvent


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page that is wanted.

    Attributes
    ----------
    viewer_id
        Outside id.
    request_id
        The client's own id of the request (``X-Request-ID``).
    now_ms
        Virtual time of the request.
    limit
        Posts wanted.
    cursor
        Of the page, as the page before gave it.
    arm
        Which policy of the run; in process only.
    """

    viewer_id: str
    request_id: str
    now_ms: int
    limit: int
    cursor: str | None = None
    arm: int = 0


@dataclass(frozen=True, slots=True)
class Inside:
    """What only a client in this process can tell of a page, for the judge; ids are inside ids.

    Attributes
    ----------
    candidates
        What the sources found, shape (n,).
    filtered
        What the filters left, shape (m,).
    preranked
        What pre-ranking left; the same as ``filtered`` where there is none.
    ranked
        The ranker's own first posts, best first, as many as were wanted.
    predictions
        P(action) of the page's posts in `Action` order, shape (n_posts, n_actions); NaN where nothing was predicted.
    """

    candidates: Int64Array
    filtered: Int64Array
    preranked: Int64Array
    ranked: Int64Array
    predictions: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it came.

    Attributes
    ----------
    post_ids
        Outside ids in order.
    sources, scores
        Of each post.
    cursor
        Of the next page; None at the end of the feed.
    n_candidates
        How many posts the sources found.
    n_outcomes
        Components that failed or were late.
    served_request_id
        The server's id of the request, for `Impression.request_id`.
    inside
        For the judge; None over HTTP.
    """

    post_ids: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    scores: tuple[float, ...]
    cursor: str | None
    n_candidates: int
    n_outcomes: int
    served_request_id: str = ""
    inside: Inside | None = None


class FeedClient(Protocol):
    """A feed, from outside."""

    def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Return a page for each request; all read the state as it is now."""

    def send(self, events: Sequence[AnyEvent]) -> None:
        """Take events in; they are durable when it returns."""

    def advance(self, now_ms: int) -> None:
        """Let virtual time go on; the state has everything that was sent when it returns."""

    def close(self) -> None:
        """Let go of the feed."""
