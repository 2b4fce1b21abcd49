"""What a viewer's token may send: that viewer's own events, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from millrace.base.errors import ForbiddenError, SchemaError
from millrace.base.ids import normalise_id
from millrace.events.content_events import PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent, Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import BlockChanged, FollowChanged, MuteChanged, ProfileUpdated, Search

SOURCE: Final = "viewer"

_WHOSE: Final[dict[type[Payload], str]] = {
    PostCreated: "author_id",
    ProfileUpdated: "user_id",
    FollowChanged: "follower_id",
    BlockChanged: "blocker_id",
    MuteChanged: "muter_id",
    Search: "user_id",
    Impression: "viewer_id",
    Engagement: "viewer_id",
}
"""The field that says whose event it is. A type that is neither here nor an edit is not for viewers."""

_EDIT_NAMES: Final = ("PostEdited", "PostDeleted")
_EDIT_BYTES: Final = tuple(name.encode() for name in _EDIT_NAMES)
_FOR_VIEWERS: Final = ", ".join((*(kind.__name__ for kind in _WHOSE), *_EDIT_NAMES))


class _EditPayload(msgspec.Struct):
    type: str = ""
    post_id: str | int = ""


class _Edit(msgspec.Struct):
    payload: _EditPayload


_PEEK: Final = msgspec.json.Decoder(_Edit)


class OwnEvents:
    """Admits one viewer's own events; a `millrace.stream.checks.Admit`.

    Parameters
    ----------
    viewer
        Whose token it is.
    author_by_post
        Authors of the posts that may be edited or deleted, as far as they are known.
    """

    def __init__(self, viewer: str, author_by_post: Mapping[str, str]) -> None:
        self._viewer = viewer
        self._author_by_post = author_by_post

    def __call__(self, event: AnyEvent) -> AnyEvent:
        """Return the event as it enters the log: said to come from a viewer, its id the viewer's own.

        Two viewers may choose one id, and neither can keep the other's event, or a producer's, out as a duplicate.

        Raises
        ------
        ForbiddenError
            If it is not this viewer's to send.
        """
        self._check(event.payload)
        # Ids hold no control characters, so this tells every pair of viewer and id apart.
        own = hashlib.blake2b(f"{self._viewer}\0{event.event_id}".encode(), digest_size=16).hexdigest()
        return msgspec.structs.replace(event, event_id=f"v-{own}", source=SOURCE)

    def _check(self, payload: Payload) -> None:
        kind = type(payload)
        if isinstance(payload, PostEdited | PostDeleted):
            author = self._author_by_post.get(payload.post_id)
            if author is None:
                raise ForbiddenError(
                    "post id",
                    value=payload.post_id,
                    problem="not a post that is known and there",
                    remedy="send it again when a page's state_offset has reached that of the post's creation",
                )
            self._check_owner(kind, "post_id", author)
        elif kind in _WHOSE:
            self._check_owner(kind, _WHOSE[kind], getattr(payload, _WHOSE[kind]))
            if isinstance(payload, ProfileUpdated) and payload.is_verified is not None:
                raise ForbiddenError(
                    "is_verified", value=payload.is_verified, problem="is not for viewers to say", remedy="leave it out"
                )
        else:
            raise ForbiddenError(
                "event type",
                value=kind.__name__,
                problem="is not for viewers",
                remedy=f"send some of {_FOR_VIEWERS}",
            )

    def _check_owner(self, kind: type[Payload], field: str, owner: str) -> None:
        if owner != self._viewer:
            raise ForbiddenError(
                f"{kind.__name__}.{field}",
                value=owner,
                problem="is somebody else's",
                remedy=f"a token of {self._viewer!r} sends that viewer's own events",
            )


def may_edit(lines: Iterable[bytes]) -> bool:
    """Tell whether some line may edit or delete a post, without reading it."""
    return any(name in line for line in lines for name in _EDIT_BYTES)


def edited_posts(lines: Iterable[bytes]) -> list[str]:
    """Return the ids of the posts that events would edit or delete; lines that say nothing of the kind are passed over.

    Whoever is not found here has no known author later, and is refused.
    """
    found: dict[str, None] = {}
    for line in lines:
        if not may_edit((line,)):
            continue
        try:
            payload = _PEEK.decode(line).payload
            if payload.type in _EDIT_NAMES:
                found[normalise_id(payload.post_id, "post_id")] = None
        except (ValueError, RecursionError, SchemaError):  # the door says what is wrong with it
            continue
    return list(found)
