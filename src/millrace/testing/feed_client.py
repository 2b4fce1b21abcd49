"""A feed for the simulated world that is simple enough to be known by heart: the newest posts first, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from millrace.events.content_events import PostCreated, PostDeleted
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Impression
from millrace.simulator.client import Page, PageRequest


class NewestFeedClient:
    """A `FeedClient` that serves everybody's posts, newest first, and none twice to anybody who has seen it.

    Parameters
    ----------
    events
        What has happened before.
    oldest_first
        Serve the other end.
    max_posts
        Posts that a feed has at most, all its pages together.

    Attributes
    ----------
    requests
        Every request, in order.
    sent
        Every event that came, in order, those before the beginning left out.
    now_ms
        To where time has gone on.
    """

    def __init__(
        self, events: Iterable[AnyEvent] = (), *, oldest_first: bool = False, max_posts: int = 1_000_000
    ) -> None:
        self._oldest_first = oldest_first
        self._max_posts = max_posts
        self._post_by_id: dict[str, tuple[int, str]] = {}
        self._seen: defaultdict[str, set[str]] = defaultdict(set)
        self._in_order: list[str] = []
        self.now_ms = 0
        self.requests: list[PageRequest] = []
        self.sent: list[AnyEvent] = []
        self._waiting: list[AnyEvent] = list(events)
        self._fold()

    def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Return a page for each request from the posts that were known when time last advanced."""
        self.requests.extend(requests)
        return [self._page(request) for request in requests]

    def send(self, events: Sequence[AnyEvent]) -> None:
        """Take events in; no page shows them before time advances."""
        self.sent.extend(events)
        self._waiting.extend(events)

    def advance(self, now_ms: int) -> None:
        """Let what was sent become what is known."""
        self.now_ms = now_ms
        self._fold()

    def close(self) -> None:
        """Do nothing."""

    def _page(self, request: PageRequest) -> Page:
        seen = self._seen[request.viewer_id]
        theirs = [p for p in self._in_order if self._post_by_id[p][1] != request.viewer_id and p not in seen]
        feed = theirs[: self._max_posts]
        first = int(request.cursor or 0)
        posts = feed[first : first + request.limit]
        more = first + request.limit < len(feed)
        return Page(
            post_ids=tuple(posts),
            sources=(("newest",),) * len(posts),
            scores=tuple(float(-first - i) for i in range(len(posts))),
            cursor=str(first + request.limit) if more else None,
            n_candidates=len(theirs),
            n_outcomes=0,
            served_request_id=request.request_id,
        )

    def _fold(self) -> None:
        for event in self._waiting:
            match event.payload:
                case PostCreated(post_id=post_id, author_id=author_id):
                    self._post_by_id[post_id] = (event.event_time_ms, author_id)
                case PostDeleted(post_id=post_id):
                    self._post_by_id.pop(post_id, None)
                case Impression(viewer_id=viewer_id, post_id=post_id):
                    self._seen[viewer_id].add(post_id)
                case _:
                    pass
        self._waiting = []
        sign = 1 if self._oldest_first else -1
        self._in_order = sorted(self._post_by_id, key=lambda p: (sign * self._post_by_id[p][0], p))
