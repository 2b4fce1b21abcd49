"""What the slate needs beyond the hot arrays, and what each event changes about it.

Shared by the two halves of the content store: the keeper's file (`millrace.stores.content_store`) and every
process's memory of what the file does not hold yet (`millrace.stores.content_overlay`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from millrace.events.content_events import Media, PostCreated, PostEdited
from millrace.events.envelope import AnyEvent, Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import FollowChanged, ProfileUpdated


class PostContent(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A post as people see it. Fields are only ever appended: the file keeps them by place.

    Attributes
    ----------
    post_id, author_id
        Outside ids.
    created_at_ms
        As the producer says, never later than the append.
    edited_at_ms
        0 if it never was.
    """

    post_id: str
    author_id: str
    kind: str
    text: str
    created_at_ms: int
    media: tuple[Media, ...] = ()
    parent_id: str | None = None
    parent_author_id: str | None = None
    conversation_id: str | None = None
    is_sensitive: bool = False
    link: str = ""
    edited_at_ms: int = 0


class UserContent(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A user as people see them; ``name`` is empty where no profile gave one."""

    user_id: str
    name: str = ""
    bio: str = ""


def created(event: AnyEvent, payload: PostCreated, appended_ms: int) -> PostContent:
    """Return the content of a new post."""
    said_ms = payload.created_at_ms if payload.created_at_ms is not None else event.event_time_ms
    return PostContent(
        post_id=payload.post_id,
        author_id=payload.author_id,
        kind=payload.kind,
        text=payload.text,
        created_at_ms=min(said_ms, appended_ms),
        media=payload.media,
        parent_id=payload.parent_id,
        parent_author_id=payload.parent_author_id,
        conversation_id=payload.conversation_id,
        is_sensitive=payload.is_sensitive,
        link=payload.link,
    )


def edited(content: PostContent, payload: PostEdited, edited_at_ms: int) -> PostContent:
    """Return the content after an edit; absent fields stay."""
    return msgspec.structs.replace(
        content,
        text=content.text if payload.text is None else payload.text,
        media=content.media if payload.media is None else payload.media,
        is_sensitive=content.is_sensitive if payload.is_sensitive is None else payload.is_sensitive,
        edited_at_ms=edited_at_ms,
    )


def profiled(content: UserContent, payload: ProfileUpdated) -> UserContent:
    """Return the content after a profile update; absent fields stay."""
    return UserContent(
        user_id=payload.user_id,
        name=content.name if payload.name is None else payload.name,
        bio=content.bio if payload.bio is None else payload.bio,
    )


USER_FIELDS: Final[dict[type[Payload], tuple[str, ...]]] = {
    PostCreated: ("author_id",),
    FollowChanged: ("follower_id", "followee_id"),
    Engagement: ("viewer_id",),
    Impression: ("viewer_id",),
    ProfileUpdated: ("user_id",),
}
"""Payload types, and the fields that hold users whom a page may have to name because of such an event."""


def users_named(events: Iterable[AnyEvent]) -> set[str]:
    """Return the ids of all users whom a page may have to name because of these events."""
    found: set[str] = set()
    for event in events:
        payload = event.payload
        for name in USER_FIELDS.get(type(payload), ()):
            found.add(getattr(payload, name))
    return found
