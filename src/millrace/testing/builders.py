"""Builders of events with sensible defaults: a test names only what it is about.

Every builder returns a complete `Event`; ids may be given as text or as whole numbers. Event ids count up within
the process unless they are given, so that two built events are never duplicates by accident.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from millrace.base.ids import IdKind, hash_id
from millrace.events.content_events import (
    CountsObserved,
    EditorialPicked,
    LabelChanged,
    Media,
    PostAnnotated,
    PostCreated,
    PostDeleted,
    PostEdited,
    PostKind,
)
from millrace.events.envelope import AnyEvent, Context, Event, Payload
from millrace.events.feature_events import (
    AUTHORS,
    CONTENTS,
    HISTORY,
    POSTS,
    WHOLE,
    CandidatesLogged,
    FeaturesLogged,
    InputsLogged,
)
from millrace.events.feed_events import ClockTick, Engagement, Impression, Served, ServedItem
from millrace.events.model_events import ModelWithdrawn
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.packed import pack_arrays
from millrace.events.sample_events import SamplesJoined
from millrace.events.traffic_events import TrafficFlagged
from millrace.events.user_events import (
    BlockChanged,
    FollowChanged,
    MuteChanged,
    ProfileUpdated,
    Search,
    UserErased,
)
from millrace.stores.fold import EventBatch

NOW_MS: Final = 1_800_000_000_000
"""The moment at which built events happen: one fixed instant in January 2027."""

Id = str | int

_numbers = itertools.count(1)


def an_event(payload: Payload, *, at_ms: int = NOW_MS, event_id: str | None = None, source: str = "test") -> AnyEvent:
    """Return an event around any payload."""
    return Event(
        event_id=event_id if event_id is not None else f"e{next(_numbers)}",
        event_time_ms=at_ms,
        source=source,
        payload=payload,
    )


def a_batch_of(
    events: Sequence[AnyEvent], *, first_offset: int = 0, appended_ms: int | Sequence[int] | None = None
) -> EventBatch:
    """Return events as a batch for folds; each was appended at its own time unless ``appended_ms`` says otherwise."""
    n = len(events)
    if appended_ms is None:
        appended = np.array([event.event_time_ms for event in events], dtype=np.int64)
    else:
        appended = np.broadcast_to(np.asarray(appended_ms, dtype=np.int64), n).copy()
    return EventBatch(list(events), np.arange(first_offset, first_offset + n, dtype=np.int64), appended)


def a_post_created(
    post_id: Id = 1,
    author_id: Id = 10,
    *,
    kind: PostKind = "original",
    parent_id: Id | None = None,
    parent_author_id: Id | None = None,
    conversation_id: Id | None = None,
    text: str = "a post",
    media: tuple[Media, ...] = (),
    is_sensitive: bool = False,
    created_at_ms: int | None = None,
    at_ms: int = NOW_MS,
    **envelope: Any,
) -> AnyEvent:
    """Return a `PostCreated`; a parent is made up (``"parent"``) for kinds that need one and are given none."""
    if kind != "original" and parent_id is None:
        parent_id = "parent"
    payload = PostCreated(
        post_id=str(post_id),
        author_id=str(author_id),
        kind=kind,
        text=text,
        media=media,
        parent_id=_text(parent_id),
        parent_author_id=_text(parent_author_id),
        conversation_id=_text(conversation_id),
        is_sensitive=is_sensitive,
        created_at_ms=created_at_ms,
    )
    return an_event(payload, at_ms=at_ms, **envelope)


def a_video(duration_ms: int = 30_000) -> Media:
    """Return a video attachment."""
    return Media(kind="video", url="https://example.org/v.mp4", duration_ms=duration_ms)


def a_post_edited(post_id: Id = 1, *, at_ms: int = NOW_MS, event_id: str | None = None, **fields: Any) -> AnyEvent:
    """Return a `PostEdited`."""
    return an_event(PostEdited(post_id=str(post_id), **fields), at_ms=at_ms, event_id=event_id)


def a_post_deleted(post_id: Id = 1, *, at_ms: int = NOW_MS, event_id: str | None = None) -> AnyEvent:
    """Return a `PostDeleted`."""
    return an_event(PostDeleted(post_id=str(post_id)), at_ms=at_ms, event_id=event_id)


def a_post_annotated(
    post_id: Id = 1,
    *,
    language: str | None = None,
    topics: tuple[str, ...] | None = None,
    producer: str = "test-rule",
    at_ms: int = NOW_MS,
    event_id: str | None = None,
    **fields: Any,
) -> AnyEvent:
    """Return a `PostAnnotated`."""
    payload = PostAnnotated(post_id=str(post_id), producer=producer, language=language, topics=topics, **fields)
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_label_changed(
    label: str = "spam",
    *,
    post_id: Id | None = None,
    user_id: Id | None = None,
    is_set: bool = True,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `LabelChanged`, on post 1 unless a post or user is given."""
    if post_id is None and user_id is None:
        post_id = 1
    payload = LabelChanged(label=label, post_id=_text(post_id), user_id=_text(user_id), is_set=is_set)
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_counts_observed(post_id: Id = 1, *, at_ms: int = NOW_MS, event_id: str | None = None, **counts: int) -> AnyEvent:
    """Return a `CountsObserved`: ``a_counts_observed(7, like=3, impression=100)``."""
    return an_event(CountsObserved(post_id=str(post_id), counts=counts), at_ms=at_ms, event_id=event_id)


def an_editorial_pick(
    post_id: Id = 1,
    *,
    is_picked: bool = True,
    until_ms: int | None = None,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return an `EditorialPicked`."""
    payload = EditorialPicked(post_id=str(post_id), is_picked=is_picked, until_ms=until_ms)
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def an_engagement(
    viewer_id: Id = 20,
    post_id: Id = 1,
    action: str = "like",
    *,
    is_undo: bool = False,
    amount: float | None = None,
    request_id: str | None = None,
    position: int | None = None,
    surface: str = "",
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return an `Engagement`."""
    payload = Engagement(
        viewer_id=str(viewer_id),
        post_id=str(post_id),
        action=action,
        is_undo=is_undo,
        amount=amount,
        request_id=request_id,
        position=position,
        context=Context(surface=surface),
    )
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def an_impression(
    viewer_id: Id = 20,
    post_id: Id = 1,
    *,
    dwell_ms: int = 4_000,
    duration_ms: int = 0,
    request_id: str | None = None,
    position: int | None = None,
    surface: str = "",
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return an `Impression`; its default dwell is neither short nor a valid view."""
    payload = Impression(
        viewer_id=str(viewer_id),
        post_id=str(post_id),
        dwell_ms=dwell_ms,
        duration_ms=duration_ms,
        request_id=request_id,
        position=position,
        context=Context(surface=surface),
    )
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_served(
    viewer_id: Id = 20,
    post_ids: Sequence[Id] = (1,),
    *,
    author_id: Id = 10,
    request_id: str = "r1",
    pipeline: str = "home",
    sources: tuple[str, ...] = ("in_network",),
    state_offset: tuple[int, ...] = (0,),
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `Served` page of these posts, all by one author."""
    items = tuple(
        ServedItem(post_id=str(post_id), author_id=str(author_id), position=position, sources=sources)
        for position, post_id in enumerate(post_ids)
    )
    payload = Served(
        request_id=request_id,
        viewer_id=str(viewer_id),
        pipeline=pipeline,
        state_offset=state_offset,
        items=items,
        n_candidates=len(items),
    )
    return an_event(payload, at_ms=at_ms, event_id=event_id, source="server")


def a_features_logged(
    viewer_id: Id = 20,
    post_ids: Sequence[Id] = (1,),
    *,
    author_id: Id = 10,
    history: Mapping[Id, Id] | None = None,
    request_id: str = "r1",
    state_offset: tuple[int, ...] = (0,),
    kind: type[InputsLogged] = FeaturesLogged,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return the features of a page of these posts, all by one author; ``history`` maps posts to their authors.

    It holds ids alone: for erasure, not for samples.
    """
    past = history or {}
    posts = np.array([hash_id(IdKind.POST, str(post)) for post in post_ids], dtype=np.int64)
    payload = kind(
        request_id=request_id,
        viewer_id=str(viewer_id),
        pipeline="home",
        schema="ids alone",
        state_offset=state_offset,
        arrays=pack_arrays(
            {
                POSTS: posts,
                CONTENTS: posts,
                AUTHORS: np.full(len(posts), hash_id(IdKind.USER, str(author_id)), dtype=np.int64),
                HISTORY + POSTS: np.array([hash_id(IdKind.POST, str(post)) for post in past], dtype=np.int64),
                HISTORY + AUTHORS: np.array([hash_id(IdKind.USER, str(a)) for a in past.values()], dtype=np.int64),
                WHOLE + "newest_ms": np.array([1], dtype=np.int64),
            }
        ),
    )
    return an_event(payload, at_ms=at_ms, event_id=event_id, source="server")


def a_candidates_logged(viewer_id: Id = 20, post_ids: Sequence[Id] = (1,), *, request_id: str = "r1") -> AnyEvent:
    """Return the features of a request's candidates; see `a_features_logged`."""
    return a_features_logged(viewer_id, post_ids, request_id=request_id, kind=CandidatesLogged)


def a_profile_updated(user_id: Id = 20, *, at_ms: int = NOW_MS, event_id: str | None = None, **fields: Any) -> AnyEvent:
    """Return a `ProfileUpdated` with the given fields."""
    return an_event(ProfileUpdated(user_id=str(user_id), **fields), at_ms=at_ms, event_id=event_id)


def a_follow(
    follower_id: Id = 20,
    followee_id: Id = 10,
    *,
    is_following: bool = True,
    list_id: Id | None = None,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `FollowChanged`."""
    payload = FollowChanged(
        follower_id=str(follower_id),
        followee_id=str(followee_id),
        is_following=is_following,
        list_id=_text(list_id),
    )
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_block(
    blocker_id: Id = 20,
    blocked_id: Id = 10,
    *,
    is_blocked: bool = True,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `BlockChanged`."""
    payload = BlockChanged(blocker_id=str(blocker_id), blocked_id=str(blocked_id), is_blocked=is_blocked)
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_mute(
    muter_id: Id = 20,
    muted_id: Id | None = None,
    *,
    keyword: str | None = None,
    is_muted: bool = True,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `MuteChanged`, of account 10 unless an account or a keyword is given."""
    if muted_id is None and keyword is None:
        muted_id = 10
    payload = MuteChanged(muter_id=str(muter_id), muted_id=_text(muted_id), keyword=keyword, is_muted=is_muted)
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_search(
    user_id: Id = 20,
    query: str = "millrace",
    *,
    n_results: int = 3,
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `Search`."""
    payload = Search(user_id=str(user_id), query=query, n_results=n_results)
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_user_erased(user_id: Id = 20, *, at_ms: int = NOW_MS, event_id: str | None = None) -> AnyEvent:
    """Return a `UserErased`."""
    return an_event(UserErased(user_id=str(user_id)), at_ms=at_ms, event_id=event_id)


def a_clock_tick(now_ms: int = NOW_MS, *, event_id: str | None = None) -> AnyEvent:
    """Return a `ClockTick`."""
    return an_event(ClockTick(now_ms=now_ms), at_ms=now_ms, event_id=event_id)


def a_traffic_flag(
    viewer_id: Id = 20,
    *,
    events: tuple[str, ...] = ("e1",),
    requests: tuple[str, ...] = (),
    span_ms: tuple[int, int] = (0, 0),
    at_ms: int = NOW_MS,
    event_id: str | None = None,
) -> AnyEvent:
    """Return a `TrafficFlagged`; without a span as the first releases wrote it."""
    payload = TrafficFlagged(
        viewer_id=str(viewer_id),
        client="viewer/20",
        reason="burst",
        events=events,
        value=6.0,
        limit=5.0,
        requests=requests,
        first_ms=span_ms[0],
        last_ms=span_ms[1],
    )
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_samples_joined(
    viewer: int = 20, request: int = 7, *, at_ms: int = NOW_MS, event_id: str | None = None
) -> AnyEvent:
    """Return a `SamplesJoined` without rows."""
    payload = SamplesJoined(request=request, viewer=viewer, epoch=0, page_offset=0, page_ms=at_ms, rows=b"")
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_model_withdrawn(version: str = "v1", *, at_ms: int = NOW_MS, event_id: str | None = None) -> AnyEvent:
    """Return a `ModelWithdrawn` of a ranker."""
    payload = ModelWithdrawn(kind="ranker", version=version, guard="auc_drop", reason="guard auc_drop of like")
    return an_event(payload, at_ms=at_ms, event_id=event_id)


def a_near_line_update(model: str = "v1", *, at_ms: int = NOW_MS, event_id: str | None = None) -> AnyEvent:
    """Return a `NearLineUpdated` without arrays."""
    return an_event(NearLineUpdated(model=model, n_slots=64, arrays=b""), at_ms=at_ms, event_id=event_id)


def _text(raw: Id | None) -> str | None:
    return None if raw is None else str(raw)
