"""Whom an event is about: the rule by which erasure decides what has to go.

An event is *about* a user who is named in one of its own user fields (viewer, author, follower, followee...), and
about the author of the post that it edits, deletes, annotates, labels, counts or picks. It merely *mentions* a user as
the author of a post that somebody else answered or was served. What is about an erased user is removed; mentions
are taken out of what stays.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from millrace.events.content_events import (
    CountsObserved,
    EditorialPicked,
    LabelChanged,
    PostAnnotated,
    PostCreated,
    PostDeleted,
    PostEdited,
)
from millrace.events.envelope import Payload
from millrace.events.feed_events import Served

ABOUT_POSTS: Final = (PostEdited, PostDeleted, PostAnnotated, LabelChanged, CountsObserved, EditorialPicked)
"""Payload types that belong to the author of their ``post_id``."""

_MENTIONS: Final = frozenset({"parent_author_id"})


class SubjectRule:
    """Tells what has to go with some users.

    Parameters
    ----------
    users
        Outside ids of the users.
    posts
        Outside ids of posts known to be theirs; grows by what `is_about` sees.
    """

    def __init__(self, users: Collection[str], posts: Collection[str] = ()) -> None:
        self.users = frozenset(users)
        self.posts = set(posts)
        self._fields: dict[type[Payload], tuple[str, ...]] = {}

    def is_about(self, payload: Payload) -> bool:
        """Whether the event belongs to one of the users."""
        kind = type(payload)
        fields = self._fields.get(kind)
        if fields is None:
            fields = self._fields[kind] = user_fields(kind)
        if any(getattr(payload, name) in self.users for name in fields):
            if isinstance(payload, PostCreated):
                self.posts.add(payload.post_id)
            return True
        return isinstance(payload, ABOUT_POSTS) and payload.post_id in self.posts

    def mentions(self, payload: Payload) -> bool:
        """Whether somebody else's event names one of the users."""
        if isinstance(payload, PostCreated):
            return payload.parent_author_id in self.users
        return isinstance(payload, Served) and any(item.author_id in self.users for item in payload.items)

    def shows_posts(self, payload: Payload) -> bool:
        """Whether this is a page with one of the users' posts on it, whenever it was served."""
        return isinstance(payload, Served) and any(item.post_id in self.posts for item in payload.items)

    def without_posts(self, payload: Payload) -> Payload:
        """Return a page without the users' posts."""
        if not isinstance(payload, Served):
            return payload
        kept = tuple(item for item in payload.items if item.post_id not in self.posts)
        return msgspec.structs.replace(payload, items=kept)

    def without_mentions(self, payload: Payload) -> Payload:
        """Return somebody else's event without the users' names."""
        if isinstance(payload, PostCreated) and payload.parent_author_id in self.users:
            return msgspec.structs.replace(payload, parent_author_id=None)
        if isinstance(payload, Served):
            kept = tuple(item for item in payload.items if item.author_id not in self.users)
            return msgspec.structs.replace(payload, items=kept)
        return payload


def user_fields(kind: type[Payload]) -> tuple[str, ...]:
    """Return the fields of a payload type that say whom it is about."""
    info: Any = msgspec.inspect.type_info(kind)
    return tuple(f.name for f in info.fields if f.name not in _MENTIONS and _is_user_id(f.type))


def _is_user_id(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_is_user_id(member) for member in kind.types)
    return isinstance(kind, msgspec.inspect.Metadata) and (kind.extra or {}).get("id") == "user"
