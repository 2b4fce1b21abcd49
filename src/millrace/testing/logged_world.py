"""A small world around pages whose inputs are logged: what came before them, what comes after, and two forms compared.

What a live page logs must be what an offline replay encodes, byte for byte; what happens after the page must not show
in it. `before` fills every kind of input of a page, `later` changes every one of them, and `differences` names the
columns that two sets of samples do not share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from millrace.events.envelope import AnyEvent
from millrace.flywheel.sample_set import SampleSet
from millrace.testing.builders import (
    NOW_MS,
    a_follow,
    a_post_annotated,
    a_post_created,
    a_post_edited,
    a_profile_updated,
    a_video,
    an_engagement,
    an_impression,
)

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
_NOT_LOGGED_EXACTLY: Final = ("meta", "baseline")
_N_POSTS: Final = 15


class Kept:
    """Takes events, as what logs them does, and keeps them."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        """Keep an event."""
        self.events.append(event)

    def take_all(self) -> list[AnyEvent]:
        """Return what was kept, and keep it no more."""
        events, self.events[:] = list(self.events), []
        return events


def before() -> list[AnyEvent]:
    """Return posts of every kind, follows, a profile, a few likes: all of it an hour before the first page."""
    at_ms = NOW_MS - HOUR_MS
    posts = [
        a_post_created(i, 10 + i % 4, text=f"post number {i} about {('cats', 'dogs', 'mills')[i % 3]}", at_ms=at_ms + i)
        for i in range(1, _N_POSTS + 1)
    ]
    return [
        *posts,
        a_post_created(30, 11, text="a film", media=(a_video(),), at_ms=at_ms + 30),
        a_post_created(31, 12, kind="repost", parent_id=3, parent_author_id=13, at_ms=at_ms + 31),
        a_post_created(32, 13, kind="quote", parent_id=4, parent_author_id=10, text="see", at_ms=at_ms + 32),
        *(a_follow(viewer, author, at_ms=at_ms + 40) for viewer in (20, 21) for author in (10, 11, 12)),
        a_profile_updated(20, bio="mills and cats", languages=("en", "de"), is_verified=True, at_ms=at_ms + 41),
        an_engagement(20, 2, at_ms=at_ms + 50),
        an_impression(21, 5, dwell_ms=9_000, surface="search", at_ms=at_ms + 51),
        an_engagement(22, 6, "reply", at_ms=at_ms + 52),
    ]


def later(now_ms: int) -> list[AnyEvent]:
    """Return what happens a second after a page, and before it is logged: a leak would show it."""
    at_ms = now_ms + 1_000
    return [
        an_engagement(20, 7, at_ms=at_ms, event_id="later-1"),
        an_engagement(21, 8, "repost", at_ms=at_ms, event_id="later-2"),
        *(
            a_post_edited(i, text=f"other words {i}", at_ms=at_ms, event_id=f"later-e{i}")
            for i in range(1, _N_POSTS + 1)
        ),
        *(
            a_post_annotated(i, language="fr", vector=(0.5, -1.0) * 32, at_ms=at_ms, event_id=f"later-a{i}")
            for i in range(1, _N_POSTS + 1)
        ),
        a_follow(20, 13, at_ms=at_ms, event_id="later-f"),
        a_profile_updated(20, bio="changed", at_ms=at_ms, event_id="later-p"),
    ]


def looks(viewer: int, request: str, posts: Sequence[str], now_ms: int) -> list[AnyEvent]:
    """Return how a page is read: all but the last post are seen, and the second is liked."""
    seen = [
        an_impression(
            viewer, post, request_id=request, position=i, surface="home", at_ms=now_ms + i,
            event_id=f"{viewer}-{request}-i{i}",
        )
        for i, post in enumerate(posts[:-1])
    ]  # fmt: skip
    like = an_engagement(
        viewer, posts[1], request_id=request, surface="home", at_ms=now_ms + 9, event_id=f"{viewer}-{request}-e"
    )
    return [*seen, like]


def differences(one: SampleSet, other: SampleSet) -> list[str]:
    """Return the columns that are not the same, byte for byte.

    The counters-based rates are no such column: they lean towards those of all candidates, whom a replay does not have.
    """
    names = [field.name for field in fields(SampleSet) if field.name not in _NOT_LOGGED_EXACTLY]
    return [
        name
        for name in names
        if (getattr(one, name).dtype, getattr(one, name).shape)
        != (getattr(other, name).dtype, getattr(other, name).shape)
        or getattr(one, name).tobytes() != getattr(other, name).tobytes()
    ]
