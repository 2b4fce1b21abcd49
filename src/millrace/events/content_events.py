"""Events about posts: creation, edits, deletion, what was derived from them, labels, picks, totals from elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from millrace.events.envelope import Name, Payload, PostId, Text, TimeMs, UserId

PostKind = Literal["original", "reply", "repost", "quote"]


class Media(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attachment of a post."""

    kind: Literal["image", "video", "audio"]
    url: Annotated[str, Meta(max_length=2048)] = ""
    duration_ms: Annotated[int, Meta(ge=0)] = 0
    alt_text: Annotated[str, Meta(max_length=4096)] = ""


class PostCreated(Payload, frozen=True, kw_only=True):
    """An author published a post.

    ``parent_id`` is the post replied to, reposted or quoted; it is required for those kinds and absent for
    originals. ``conversation_id`` is the root of the thread; absent means the post is its own root.
    ``created_at_ms`` absent means the event's own time.
    """

    post_id: PostId
    author_id: UserId
    kind: PostKind = "original"
    text: Text = ""
    media: tuple[Media, ...] = ()
    parent_id: PostId | None = None
    parent_author_id: UserId | None = None
    conversation_id: PostId | None = None
    is_sensitive: bool = False
    link: Annotated[str, Meta(max_length=2048)] = ""
    created_at_ms: TimeMs | None = None


class PostEdited(Payload, frozen=True, kw_only=True):
    """The author changed a post; absent fields stay as they were."""

    post_id: PostId
    text: Text | None = None
    media: tuple[Media, ...] | None = None
    is_sensitive: bool | None = None


class PostDeleted(Payload, frozen=True, kw_only=True):
    """A post is gone, by its author's or a moderator's hand. It is never shown again."""

    post_id: PostId
    reason: Annotated[str, Meta(max_length=256)] = ""


class PostAnnotated(Payload, frozen=True, kw_only=True):
    """What a rule or a model derived from a post: written once, never recomputed differently elsewhere.

    Absent fields (None) leave what earlier annotations said. ``topics`` come strongest first.
    """

    post_id: PostId
    producer: Name
    producer_version: Annotated[str, Meta(max_length=64)] = ""
    language: Annotated[str, Meta(max_length=16, description="BCP 47 tag")] | None = None
    topics: tuple[Name, ...] | None = None
    token_hashes: tuple[int, ...] | None = None
    vector: tuple[float, ...] | None = None


class LabelChanged(Payload, frozen=True, kw_only=True):
    """A safety label was put on, or taken off, a post or an account; exactly one of the two ids is given."""

    label: Name
    post_id: PostId | None = None
    user_id: UserId | None = None
    is_set: bool = True
    reason: Annotated[str, Meta(max_length=256)] = ""


class EditorialPicked(Payload, frozen=True, kw_only=True):
    """The operator put a post into the editorial pool, or took it out.

    ``until_ms`` absent means as long as the post lives.
    """

    post_id: PostId
    is_picked: bool = True
    until_ms: TimeMs | None = None
    note: Annotated[str, Meta(max_length=256)] = ""


class CountsObserved(Payload, frozen=True, kw_only=True):
    """Totals known from elsewhere (an import, another system); they replace earlier observed totals.

    ``counts`` maps action names to totals; the name ``impression`` counts views.
    """

    post_id: PostId
    counts: dict[Name, Annotated[int, Meta(ge=0)]]
