"""Events about the feed itself: what was served, what was seen, what people did."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.events.envelope import Context, Name, Payload, PostId, RequestId, TimeMs, UserId


class ServedItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of a served page.

    ``sources`` are the names of all sources that found the post. ``scores`` maps a stage's score name to its
    value as the stage saw it.
    """

    post_id: PostId
    author_id: UserId
    position: Annotated[int, Meta(ge=0)]
    sources: tuple[str, ...] = ()
    scores: dict[str, float] = {}


class ComponentOutcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A component that failed, was late or was skipped while the page was made."""

    stage: str
    component: str
    fate: str
    detail: str = ""


class Served(Payload, frozen=True, kw_only=True):
    """A page was sent to a viewer. Written by the server only; refused at the door.

    ``state_offset`` is the log position that all stores were read at; with it the page can be replayed.
    ``params`` holds the values that differed from their defaults, ``param_levels`` who decided them; ``models`` the
    versions of the learned models that it was made with, by kind.
    """

    request_id: RequestId
    viewer_id: UserId
    pipeline: Name
    plan: Name = "full"
    state_offset: tuple[int, ...] = ()
    params: dict[str, float] = {}
    param_levels: dict[str, str] = {}
    items: tuple[ServedItem, ...] = ()
    outcomes: tuple[ComponentOutcome, ...] = ()
    n_candidates: int = 0
    context: Context = Context()
    models: dict[Name, str] = {}


class Impression(Payload, frozen=True, kw_only=True):
    """A post was on a viewer's screen.

    ``dwell_ms`` is how long; the dwell family of actions is derived from it. ``duration_ms`` is the length of
    the video or audio, where there is one.
    """

    viewer_id: UserId
    post_id: PostId
    dwell_ms: Annotated[int, Meta(ge=0)] = 0
    duration_ms: Annotated[int, Meta(ge=0)] = 0
    request_id: RequestId | None = None
    position: Annotated[int, Meta(ge=0)] | None = None
    context: Context = Context()


class Engagement(Payload, frozen=True, kw_only=True):
    """A viewer acted on a post, or took the action back (``is_undo``).

    ``action`` is the name of an `Action` that may be sent, or of a business action (which carries ``amount``).
    It labels and counts; it never changes who follows, mutes or blocks whom: `FollowChanged` and its like do.
    """

    viewer_id: UserId
    post_id: PostId
    action: Name
    is_undo: bool = False
    amount: float | None = None
    request_id: RequestId | None = None
    position: Annotated[int, Meta(ge=0)] | None = None
    context: Context = Context()


class ClockTick(Payload, frozen=True, kw_only=True):
    """Event time has come this far although nothing else happened (heartbeats, simulations)."""

    now_ms: TimeMs
