"""What the system knows of a post or a user, from all stores, for people who look into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from millrace.base.actions import ActionSpace
from millrace.base.errors import NotFoundError
from millrace.base.ids import IdKind, Int64Array, normalise_id
from millrace.mixer.kinds import KIND_NAMES
from millrace.mixer.trace_answers import GONE
from millrace.stores.labels import MAX_LABELS

if TYPE_CHECKING:
    from millrace.mixer.feed_state import FeedState
    from millrace.stores.content_overlay import ContentReader
    from millrace.stores.replica import Replica

_N_NAMED: Final = 5
_LONGEST_WINDOW: Final = -1
_SHOWN_FRAC: Final = 0.005
"""Decayed counts below this are as good as none."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A user by id and name; the name is empty where none is known."""

    user_id: str
    name: str


class PostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A post.

    Attributes
    ----------
    stores
        Where it is: ``content`` (its text), ``posts`` (live: a source may return it), ``engagements`` (somebody
        acted on it), ``labels``.
    is_deleted
        Deleted within the retention.
    counts
        Viewers who did each action, faded by their age; ``impression`` last.
    observed
        Totals known from elsewhere.
    n_engagers, engagers
        How many of the newest actions on it are indexed by different people, and the newest few of them.
    """

    post_id: str
    stores: tuple[str, ...]
    is_deleted: bool
    author: Person | None
    kind: str
    text: str
    created_at_ms: int
    edited_at_ms: int
    media: tuple[str, ...]
    is_sensitive: bool
    parent_id: str | None
    conversation_id: str | None
    language: str
    topics: tuple[str, ...]
    labels: tuple[str, ...]
    counts: dict[str, float]
    observed: dict[str, float]
    n_engagers: int
    engagers: tuple[Person, ...]


class Liking(msgspec.Struct, frozen=True, kw_only=True):
    """An author whom a user likes, by the user's own actions, faded by their age."""

    author: Person
    affinity: float


class UserFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A user.

    Attributes
    ----------
    known_since_ms
        The time of the first event that named the user; 0 if none did.
    n_live_posts
        Posts of theirs that a source may return.
    n_seen, n_served
        Posts seen by them, and sent to them, within the windows in which those do not come again.
    actions
        How often each action is in the history that is kept.
    likes
        The authors they like most.
    """

    user_id: str
    name: str
    bio: str
    known_since_ms: int
    is_verified: bool
    languages: tuple[str, ...]
    interests: tuple[str, ...]
    shows_sensitive: bool
    labels: tuple[str, ...]
    n_following: int
    n_followers: int
    n_blocked: int
    n_blocked_by: int
    n_muted: int
    n_muted_keywords: int
    n_live_posts: int
    n_seen: int
    n_served: int
    n_actions: int
    last_action_ms: int
    actions: dict[str, int]
    likes: tuple[Liking, ...]


class Facts:
    """Looks things up in one replica, which stands still meanwhile.

    Parameters
    ----------
    replica
        With content reads.
    actions
        The known actions.
    now_ms
        The moment as of which counts are faded and windows end.
    """

    def __init__(self, replica: Replica[FeedState], actions: ActionSpace, now_ms: int) -> None:
        if replica.content is None:
            raise NotFoundError("content", problem="not read by this process", remedy="build the replica with it")
        self._content: ContentReader = replica.content
        self._state = replica.state
        self._position = replica.position
        self._actions = actions
        self._now_ms = now_ms

    def post(self, post: str) -> PostFacts:
        """Return what is known of a post.

        Raises
        ------
        NotFoundError
            If no store has heard of it.
        """
        post = normalise_id(post, "post id")
        state, post_id = self._state, self._state.hasher.one(IdKind.POST, post)
        ids = np.array([post_id], dtype=np.int64)
        (content,) = self._content.posts(ids, self._position)
        row = state.posts.find(ids)
        is_live = bool(row[0] >= 0)
        columns = state.posts.gather(row)
        counters = state.engagements.counters
        counts = self._counted(counters.post_counts(ids, self._now_ms)[0, _LONGEST_WINDOW])
        observed = self._counted(counters.observed_counts(ids)[0])
        engager_ids = state.engagements.index.engagers(post_id).user_ids[::-1]
        labels = self._labels(int(state.labels.post_labels(ids)[0]))
        stores = (
            *(("content",) if content is not None else ()),
            *(("posts",) if is_live else ()),
            *(("engagements",) if counts or observed or len(engager_ids) else ()),
            *(("labels",) if labels else ()),
        )
        is_deleted = bool(state.posts.is_deleted(ids)[0])
        if not stores and not is_deleted:
            raise NotFoundError("post", value=post, problem="never heard of, or past its retention", remedy="check it")
        newest_first = list(dict.fromkeys(engager_ids.tolist()))
        language, topics = int(columns.language[0]), columns.topics[0].tolist()
        return PostFacts(
            post_id=post,
            stores=stores,
            is_deleted=is_deleted,
            author=self._author(content.author_id) if content is not None else None,
            kind=content.kind if content is not None else KIND_NAMES[int(columns.kind[0])] if is_live else "",
            text=content.text if content is not None else "",
            created_at_ms=content.created_at_ms if content is not None else int(columns.created_ms[0]),
            edited_at_ms=content.edited_at_ms if content is not None else 0,
            media=tuple(item.kind for item in content.media) if content is not None else (),
            is_sensitive=bool(columns.is_sensitive[0]) or (content is not None and content.is_sensitive),
            parent_id=content.parent_id if content is not None else None,
            conversation_id=content.conversation_id if content is not None else None,
            language=state.codes.languages.name(language),
            topics=tuple(state.codes.topics.name(code) for code in topics if code),
            labels=labels,
            counts=counts,
            observed=observed,
            n_engagers=len(newest_first),
            engagers=self._people(np.array(newest_first[:_N_NAMED], dtype=np.int64)),
        )

    def user(self, user: str) -> UserFacts:
        """Return what is known of a user.

        Raises
        ------
        NotFoundError
            If no store has heard of them.
        """
        user = normalise_id(user, "user id")
        state, user_id = self._state, self._state.hasher.one(IdKind.USER, user)
        ids = np.array([user_id], dtype=np.int64)
        (content,) = self._content.users(ids, self._position)
        profile, history = state.profiles.profile(user_id), state.engagements.histories.history(user_id)
        if content is None and not profile.is_known and not history:
            raise NotFoundError("user", value=user, problem="never heard of", remedy="check the id")
        relations, seen = state.relations, state.seen
        n_by_code = np.bincount(history.actions, minlength=len(self._actions)).tolist()
        return UserFacts(
            user_id=user,
            name=content.name if content is not None else "",
            bio=content.bio if content is not None else "",
            known_since_ms=profile.created_ms,
            is_verified=profile.is_verified,
            languages=tuple(map(state.codes.languages.name, profile.languages.tolist())),
            interests=tuple(map(state.codes.topics.name, profile.interests.tolist())),
            shows_sensitive=profile.shows_sensitive,
            labels=self._labels(int(state.labels.user_labels(ids)[0])),
            n_following=int(state.follow_graph.n_following(ids)[0]),
            n_followers=int(state.follow_graph.n_followers(ids)[0]),
            n_blocked=len(relations.blocked(user_id)),
            n_blocked_by=len(relations.blocked_by(user_id)),
            n_muted=len(relations.muted(user_id)),
            n_muted_keywords=len(relations.muted_keywords(user_id)),
            n_live_posts=len(state.posts.rows_of(user_id)),
            n_seen=len(seen.seen(user_id, self._now_ms)),
            n_served=len(seen.served(user_id, self._now_ms)),
            n_actions=len(history.actions),
            last_action_ms=int(history.times_ms.max(initial=0)),
            actions={name: n for name, n in zip(self._actions.names, n_by_code, strict=True) if n},
            likes=self._likes(user_id, np.unique(history.author_ids)),
        )

    def _likes(self, user_id: int, author_ids: Int64Array) -> tuple[Liking, ...]:
        author_ids = author_ids[author_ids != 0]
        affinity = self._state.engagements.histories.author_affinity(user_id, author_ids, self._now_ms)
        best = np.argsort(-affinity, kind="stable")[:_N_NAMED]
        best = best[affinity[best] > 0]
        found = zip(self._people(author_ids[best]), affinity[best].tolist(), strict=True)
        return tuple(Liking(author=author, affinity=liking) for author, liking in found)

    def _author(self, author: str) -> Person:
        ids = np.array([self._state.hasher.one(IdKind.USER, author)], dtype=np.int64)
        (found,) = self._content.users(ids, self._position)
        return Person(user_id=author, name=found.name if found is not None else "")

    def _people(self, user_ids: Int64Array) -> tuple[Person, ...]:
        found = self._content.users(user_ids, self._position) if len(user_ids) else []
        return tuple(Person(user_id=u.user_id, name=u.name) if u else Person(user_id=GONE, name="") for u in found)

    def _counted(self, counts: Sequence[float]) -> dict[str, float]:
        names = (*self._actions.names, "impression")
        return {name: float(n) for name, n in zip(names, counts, strict=True) if n > _SHOWN_FRAC}

    def _labels(self, mask: int) -> tuple[str, ...]:
        names = self._state.codes.labels.names()[:MAX_LABELS]
        return tuple(name for code, name in enumerate(names, start=1) if mask >> code & 1)
