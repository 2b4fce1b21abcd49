"""Hypothesis strategies: random sequences of events over a small world, arbitrary cuts into batches, ticks.

Few users, posts and moments, so that the interesting things meet: repeats, undos before their do, late events,
engagements with posts that are not there yet or not any more, users who are erased and come back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from hypothesis import strategies as st

from millrace.base.actions import DERIVED, Action
from millrace.events.envelope import AnyEvent, Payload
from millrace.stores.fold import EventBatch
from millrace.testing import builders

HOUR_MS: Final = 3_600_000
SPAN_MS: Final = 12 * HOUR_MS

USERS: Final = ("u1", "u2", "u3", "u4", "u5", "u6")
POSTS: Final = ("p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8")
TOPICS: Final = ("music", "sport", "news", "cats")
LANGUAGES: Final = ("en", "zh", "ja", "es", "ar")
LABELS: Final = ("spam", "gore", "nsfw")
TEXTS: Final = ("a post", "an old mill on a stream", "no Spoiler, please", "東京タワー", "Ärger 🔥", "")
VECTORS: Final = (None, None, (0.5, -1.0) * 32, (1.0, 2.0))

SENDABLE_ACTIONS: Final = tuple(action.label for action in Action if action not in DERIVED)

user_ids: Final = st.sampled_from(USERS)
post_ids: Final = st.sampled_from(POSTS)

# Twelve-minute steps: events share moments often enough for ties to be met.
times_ms: Final = st.integers(0, 60).map(lambda step: builders.NOW_MS + step * SPAN_MS // 60)

_Builders = dict[str, st.SearchStrategy[AnyEvent]]


def _event_strategies() -> _Builders:
    subsets = st.lists(st.sampled_from(TOPICS), max_size=4, unique=True).map(tuple)
    # Topics of posts are spelt differently now and then, so that a post may name one topic twice.
    spellings = st.lists(st.sampled_from((*TOPICS, TOPICS[0].upper())), max_size=4, unique=True).map(tuple)
    languages = st.lists(st.sampled_from(LANGUAGES), max_size=3, unique=True).map(tuple)
    surfaces = st.sampled_from(("", "home", "following", "tv"))
    return {
        "PostCreated": st.builds(
            builders.a_post_created,
            post_ids,
            user_ids,
            kind=st.sampled_from(("original", "reply", "repost", "quote")),
            text=st.sampled_from(TEXTS),
            at_ms=times_ms,
        ),
        "PostEdited": st.builds(
            builders.a_post_edited, post_ids, is_sensitive=st.booleans(), text=st.text(max_size=8), at_ms=times_ms
        ),
        "PostDeleted": st.builds(builders.a_post_deleted, post_ids, at_ms=times_ms),
        "PostAnnotated": st.builds(
            builders.a_post_annotated,
            post_ids,
            language=st.none() | st.sampled_from(LANGUAGES),
            topics=st.none() | spellings,
            vector=st.sampled_from(VECTORS),
            at_ms=times_ms,
        ),
        "LabelChanged": st.one_of(
            st.builds(
                builders.a_label_changed,
                st.sampled_from(LABELS),
                post_id=post_ids,
                is_set=st.booleans(),
                at_ms=times_ms,
            ),
            st.builds(
                builders.a_label_changed,
                st.sampled_from(LABELS),
                user_id=user_ids,
                is_set=st.booleans(),
                at_ms=times_ms,
            ),
        ),
        "CountsObserved": st.builds(
            builders.a_counts_observed,
            post_ids,
            like=st.integers(0, 50),
            impression=st.integers(0, 900),
            at_ms=times_ms,
        ),
        "EditorialPicked": st.builds(
            builders.an_editorial_pick,
            post_ids,
            is_picked=st.sampled_from((True, True, False)),
            until_ms=st.none() | times_ms,
            at_ms=times_ms,
        ),
        "Engagement": st.builds(
            builders.an_engagement,
            user_ids,
            post_ids,
            # Mostly few actions, so that repeats and undos meet their like.
            st.sampled_from(("like", "like", "like", "repost", "repost", *SENDABLE_ACTIONS)),
            is_undo=st.sampled_from((False, False, True)),
            surface=surfaces,
            at_ms=times_ms,
        ),
        "Impression": st.builds(
            builders.an_impression,
            user_ids,
            post_ids,
            dwell_ms=st.sampled_from((0, 1_000, 2_999, 3_000, 6_000, 6_001, 9_000, 30_000, 10_000_000)),
            duration_ms=st.sampled_from((0, 0, 2_000, 9_000)),
            surface=surfaces,
            at_ms=times_ms,
        ),
        "Served": st.builds(builders.a_served, user_ids, st.lists(post_ids, max_size=4, unique=True), at_ms=times_ms),
        "ProfileUpdated": st.builds(
            builders.a_profile_updated,
            user_ids,
            languages=st.none() | languages,
            interests=st.none() | subsets,
            is_verified=st.none() | st.booleans(),
            settings=st.none()
            | st.sampled_from(
                (
                    {"sensitive_media": "show"},
                    {"sensitive_media": "hide", "other_languages": "show"},
                    {"other_languages": "hide"},
                    {"x": "y"},
                )
            ),
            at_ms=times_ms,
        ),
        "FollowChanged": st.builds(
            builders.a_follow,
            user_ids,
            user_ids,
            is_following=st.booleans(),
            list_id=st.none() | st.sampled_from(("l1", "l2")),
            at_ms=times_ms,
        ),
        "BlockChanged": st.builds(builders.a_block, user_ids, user_ids, is_blocked=st.booleans(), at_ms=times_ms),
        "MuteChanged": st.one_of(
            st.builds(builders.a_mute, user_ids, user_ids, is_muted=st.booleans(), at_ms=times_ms),
            st.builds(
                builders.a_mute,
                user_ids,
                keyword=st.sampled_from(("Spoiler", "spoiler", "Ärger")),
                is_muted=st.booleans(),
                at_ms=times_ms,
            ),
        ),
        "Search": st.builds(builders.a_search, user_ids, at_ms=times_ms),
        "UserErased": st.builds(builders.a_user_erased, user_ids, at_ms=times_ms),
        "ClockTick": times_ms.map(builders.a_clock_tick),
    }


_RARE: Final = {"UserErased", "PostDeleted"}


def events(types: Collection[type[Payload]] | None = None) -> st.SearchStrategy[AnyEvent]:
    """Return a strategy of single events, of some payload types or of all; erasures and deletions are rarer."""
    names = None if types is None else {kind.__name__ for kind in types}
    weighted: list[st.SearchStrategy[AnyEvent]] = []
    for name, strategy in _event_strategies().items():
        if names is None or name in names:
            weighted.extend([strategy] * (1 if name in _RARE else 4))
    return st.one_of(weighted)


def event_sequences(
    types: Collection[type[Payload]] | None = None, *, max_size: int = 60
) -> st.SearchStrategy[list[AnyEvent]]:
    """Return a strategy of event sequences in log order (times are in no order), of some payload types or of all."""
    return st.lists(events(types), max_size=max_size)


def cuts(n: int) -> st.SearchStrategy[list[int]]:
    """Return a strategy of ways to cut ``n`` events into batches: ascending end rows, the last one ``n``."""
    return st.lists(st.integers(0, n), max_size=6).map(lambda ends: [*sorted(ends), n])


def batches(events_in_order: Sequence[AnyEvent], ends: Sequence[int]) -> list[EventBatch]:
    """Return events cut into batches that end at these rows (see `cuts`); empty ones are left out."""
    starts = [0, *ends[:-1]]
    return [
        builders.a_batch_of(events_in_order[start:end], first_offset=start)
        for start, end in zip(starts, ends, strict=True)
        if end > start
    ]


def apply_cut(apply: Callable[[EventBatch], None], events_in_order: Sequence[AnyEvent], ends: Sequence[int]) -> None:
    """Apply events to a fold in batches that end at these rows."""
    for batch in batches(events_in_order, ends):
        apply(batch)
