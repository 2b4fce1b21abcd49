"""Whom an event is about: the rule by which erasure decides what has to go.

An event is *about* a user who is named in one of its own user fields (viewer, author, follower, followee...), and
about the author of the post that it edits, deletes, annotates, labels, counts or picks. It merely *mentions* a user as
the author of a post that somebody else answered, was served, or acted on before (`InputsLogged`). What is about an
erased user is removed; mentions are taken out of what stays.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
import numpy as np

from millrace.base.errors import SchemaError
from millrace.base.ids import IdKind, Int64Array, hash_id
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
from millrace.events.feature_events import InputsLogged, names_any, without
from millrace.events.feed_events import Served
from millrace.events.sample_events import SamplesJoined, posts_of

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
        self._user_ids = _inside(IdKind.USER, self.users)
        self._post_ids = _inside(IdKind.POST, self.posts)

    def is_about(self, payload: Payload) -> bool:
        """Whether the event belongs to one of the users."""
        kind = type(payload)
        if isinstance(payload, SamplesJoined):
            return payload.viewer in self._user_ids
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
        if isinstance(payload, InputsLogged):
            return names_any(payload, self._user_ids, self._inside_posts())
        if isinstance(payload, SamplesJoined):
            try:
                return bool(np.isin(posts_of(payload), self._inside_posts()).any())
            except SchemaError:
                return True  # of damaged rows nobody can tell
        return isinstance(payload, Served) and any(item.author_id in self.users for item in payload.items)

    def shows_posts(self, payload: Payload) -> bool:
        """Whether this is a page with one of the users' posts on it, whenever it was served."""
        if isinstance(payload, InputsLogged | SamplesJoined):
            return self.mentions(payload)
        return isinstance(payload, Served) and any(item.post_id in self.posts for item in payload.items)

    def is_of_before(self, payload: Payload, at: int) -> bool:
        """Whether this is what models saw of one of the users, at a log position up to ``at``, logged whenever."""
        if isinstance(payload, SamplesJoined):
            return self.is_about(payload) and payload.page_offset < at
        if not isinstance(payload, InputsLogged) or payload.viewer_id not in self.users:
            return False
        return bool(payload.state_offset) and payload.state_offset[0] <= at

    def without_posts(self, payload: Payload) -> Payload:
        """Return a page without the users' posts."""
        if isinstance(payload, InputsLogged):
            return self.without_mentions(payload)
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
        if isinstance(payload, InputsLogged):
            return without(payload, self._user_ids, self._inside_posts())
        return payload

    def _inside_posts(self) -> Int64Array:
        if len(self._post_ids) != len(self.posts):
            self._post_ids = _inside(IdKind.POST, self.posts)
        return self._post_ids


def user_fields(kind: type[Payload]) -> tuple[str, ...]:
    """Return the fields of a payload type that say whom it is about."""
    info: Any = msgspec.inspect.type_info(kind)
    return tuple(f.name for f in info.fields if f.name not in _MENTIONS and _is_user_id(f.type))


def _is_user_id(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_is_user_id(member) for member in kind.types)
    return isinstance(kind, msgspec.inspect.Metadata) and (kind.extra or {}).get("id") == "user"


def _inside(kind: IdKind, texts: Collection[str]) -> Int64Array:
    return np.array(sorted(hash_id(kind, text) for text in texts), dtype=np.int64)
