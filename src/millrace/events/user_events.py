"""Events about people: profiles, follows, blocks, mutes, searches, erasure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from millrace.events.envelope import Context, ListId, Name, Payload, Text, UserId


class ProfileUpdated(Payload, frozen=True, kw_only=True):
    """A user's profile as it is now; absent fields (None) stay as they were.

    ``age`` and ``gender`` are carried for operators who need them; nothing uses them unless switched on.
    ``settings`` are the viewer's own switches, such as ``{"sensitive_media": "show"}``; see docs/events.md.
    """

    user_id: UserId
    name: Annotated[str, Meta(max_length=256)] | None = None
    bio: Text | None = None
    interests: tuple[Name, ...] | None = None
    languages: tuple[Annotated[str, Meta(max_length=16)], ...] | None = None
    is_verified: bool | None = None
    settings: dict[Name, str] | None = None
    age: Annotated[int, Meta(ge=0, le=150)] | None = None
    gender: Annotated[str, Meta(max_length=32)] | None = None


class FollowChanged(Payload, frozen=True, kw_only=True):
    """One user follows, or stops following, another; perhaps in a list or group."""

    follower_id: UserId
    followee_id: UserId
    is_following: bool = True
    list_id: ListId | None = None


class BlockChanged(Payload, frozen=True, kw_only=True):
    """One user blocks, or unblocks, another: neither sees the other's posts."""

    blocker_id: UserId
    blocked_id: UserId
    is_blocked: bool = True


class MuteChanged(Payload, frozen=True, kw_only=True):
    """One user mutes, or unmutes, an account or a keyword; exactly one of the two is given."""

    muter_id: UserId
    muted_id: UserId | None = None
    keyword: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    is_muted: bool = True


class Search(Payload, frozen=True, kw_only=True):
    """A user searched."""

    user_id: UserId
    query: Annotated[str, Meta(max_length=1024)]
    n_results: Annotated[int, Meta(ge=0)] = 0
    context: Context = Context()


class UserErased(Payload, frozen=True, kw_only=True):
    """A user is to be forgotten: purged from state, content, log and warehouse."""

    user_id: UserId
