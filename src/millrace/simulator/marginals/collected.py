"""`collect`: a stream of events into columns, in one pass; a few dictionary look-ups an event, about 40 bytes a row."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import FollowChanged, ProfileUpdated
from millrace.simulator.marginals.statistics import Int64Array

NONE: Final = -1
KINDS: Final = ("original", "reply", "repost", "quote")
ORIGINAL, REPLY, REPOST, QUOTE = range(4)

UNSPACED: Final = frozenset({"zh", "ja", "th"})
"""Languages that put no blanks between words: theirs are not counted."""


class Rows:
    """Whole numbers by named column, growing row by row.

    Parameters
    ----------
    names
        The columns.

    Examples
    --------
    >>> rows = Rows("user", "time_ms")
    >>> rows.add(3, 100)
    >>> rows["time_ms"].tolist()
    [100]
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._values = array("q")

    def add(self, *values: int) -> None:
        """Append one row, its values in the order of the columns."""
        self._values.extend(values)

    def __len__(self) -> int:
        return len(self._values) // len(self._names)

    def __getitem__(self, name: str) -> Int64Array:
        """Return a copy of one column, shape (n,)."""
        flat = np.frombuffer(self._values, dtype=np.int64) if self._values else np.empty(0, dtype=np.int64)
        return flat.reshape(-1, len(self._names))[:, self._names.index(name)].copy()


class Codes(dict[str, int]):
    """Texts numbered in the order of their first use."""

    def __missing__(self, text: str) -> int:
        self[text] = code = len(self)
        return code


@dataclass(frozen=True, slots=True)
class Collected:
    """What a stream of events held that marginals need; ids are codes, -1 stands for none.

    An action that was taken back counts as done: it was done. Follows are as they stand at the end.
    """

    users: Codes = field(default_factory=Codes)
    posts: Codes = field(default_factory=Codes)
    requests: Codes = field(default_factory=Codes)
    actions: Codes = field(default_factory=Codes)
    languages: Codes = field(default_factory=Codes)
    follows: Rows = field(default_factory=lambda: Rows("follower", "followee", "is_following"))
    impressions: Rows = field(default_factory=lambda: Rows("viewer", "post", "time_ms", "position", "request"))
    engagements: Rows = field(default_factory=lambda: Rows("viewer", "post", "time_ms", "action"))
    written: Rows = field(
        default_factory=lambda: Rows("post", "author", "kind", "parent", "time_ms", "n_chars", "n_words")
    )
    annotated: Rows = field(default_factory=lambda: Rows("post", "language"))

    def edges(self) -> tuple[Int64Array, Int64Array]:
        """Return who follows whom at the end, shape (n_edges,) each."""
        key = self.follows["follower"] * max(len(self.users), 1) + self.follows["followee"]
        # The first of each pair in reversed order is the last that was said about it.
        last, at = np.unique(key[::-1], return_index=True)
        kept = last[self.follows["is_following"][::-1][at] == 1]
        return kept // max(len(self.users), 1), kept % max(len(self.users), 1)

    def language_of_posts(self) -> Int64Array:
        """Return the language code of each post code, -1 where no annotation named one; shape (n_posts,)."""
        found = np.full(len(self.posts), NONE, dtype=np.int64)
        found[self.annotated["post"]] = self.annotated["language"]
        return found

    def span_ms(self) -> int:
        """Return the time from the first post, impression or engagement to the last."""
        times = [rows["time_ms"] for rows in (self.impressions, self.engagements, self.written) if len(rows)]
        return int(max(t.max() for t in times) - min(t.min() for t in times)) if times else 0

    def did(self, *names: str) -> Int64Array:
        """Return the rows of engagements with one of these actions."""
        codes = [self.actions[name] for name in names if name in self.actions]
        return np.flatnonzero(np.isin(self.engagements["action"], codes))


def collect(events: Iterable[AnyEvent]) -> Collected:
    """Return the columns of a stream, read once and not kept."""
    found = Collected()
    users, posts = found.users, found.posts
    for event in events:
        payload = event.payload
        if isinstance(payload, Impression):
            found.impressions.add(
                users[payload.viewer_id],
                posts[payload.post_id],
                event.event_time_ms,
                NONE if payload.position is None else payload.position,
                NONE if payload.request_id is None else found.requests[payload.request_id],
            )
        elif isinstance(payload, Engagement):
            if not payload.is_undo:
                found.engagements.add(
                    users[payload.viewer_id],
                    posts[payload.post_id],
                    event.event_time_ms,
                    found.actions[payload.action],
                )
        elif isinstance(payload, FollowChanged):
            found.follows.add(users[payload.follower_id], users[payload.followee_id], int(payload.is_following))
        elif isinstance(payload, PostCreated):
            _add_post(found, payload, event.event_time_ms)
        elif isinstance(payload, PostAnnotated):
            if payload.language is not None:
                found.annotated.add(posts[payload.post_id], found.languages[payload.language])
        elif isinstance(payload, ProfileUpdated):
            users[payload.user_id]  # who never does anything counts too
    return found


def _add_post(found: Collected, payload: PostCreated, event_time_ms: int) -> None:
    found.written.add(
        found.posts[payload.post_id],
        found.users[payload.author_id],
        KINDS.index(payload.kind),
        NONE if payload.parent_id is None else found.posts[payload.parent_id],
        event_time_ms if payload.created_at_ms is None else payload.created_at_ms,
        len(payload.text),
        len(payload.text.split()),
    )
