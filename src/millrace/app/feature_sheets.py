"""Feature sheets: every feature of a post or a user, by name, for people and programs; now, or as of a log offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from millrace.app import wiring
from millrace.app.as_of import begin_before
from millrace.app.settings import Settings
from millrace.base.actions import ActionSpace
from millrace.base.errors import NotFoundError
from millrace.base.ids import IdKind, Int64Array, normalise_id
from millrace.features.store.feature import FeatureRows
from millrace.features.store.feature_store import FeatureStore
from millrace.stores.histories import History
from millrace.stream.log import Position, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from millrace.mixer.feed_state import FeedState
    from millrace.stores.content_overlay import ContentReader
    from millrace.stores.replica import Replica

Grain = Literal["newest_50", "days_7", "days_30", "long_term"]
"""A length of history: `millrace.features.store.user_features.GRAINS`."""

Numbers = dict[str, float]

GONE = ""
"""Stands for a post or user whose text id nobody keeps any more."""


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a user did.

    Attributes
    ----------
    post_id, author_id
        Empty where they were deleted, or are past what the content store keeps.
    action, at_ms, dwell_ms
        What, when, and for dwelling how long.
    """

    post_id: str
    author_id: str
    action: str
    at_ms: int
    dwell_ms: int


class PostFeatureSheet(msgspec.Struct, frozen=True, kw_only=True):
    """A post's features.

    Attributes
    ----------
    post_id, author_id, content_id
        Who and what; of a repost ``content_id`` is what it carries. Empty where not known.
    state_offset, now_ms
        The log position that all stores were read at, and the moment as of which ages and counters are told.
    created_ms, language, topics
        When it was published, and what it is in and about.
    semantic_id
        By the codebooks that serve, coarsest level first; -1 at each where none do, or it has no text, or they learned
        from posts that came later than the position that was asked for.
    numbers
        Every feature that is one number.
    counts
        Every feature with a number an action, by name and action; what is 0 is left out.
    """

    post_id: str
    author_id: str
    content_id: str
    state_offset: tuple[int, ...]
    now_ms: int
    created_ms: int
    language: str
    topics: tuple[str, ...]
    semantic_id: tuple[int, ...]
    numbers: Numbers
    counts: dict[str, Numbers]


class UserFeatureSheet(msgspec.Struct, frozen=True, kw_only=True):
    """A user's features.

    Attributes
    ----------
    user_id, state_offset, now_ms, numbers, counts
        As of a post.
    languages, interests
        As the user told.
    liked_topics, liked_authors
        Topics and ids of authors that the history speaks for, most liked first.
    history
        Entries of the asked-for grain, oldest first.
    """

    user_id: str
    state_offset: tuple[int, ...]
    now_ms: int
    languages: tuple[str, ...]
    interests: tuple[str, ...]
    liked_topics: tuple[str, ...]
    liked_authors: tuple[str, ...]
    numbers: Numbers
    counts: dict[str, Numbers]
    history: tuple[HistoryEntry, ...]


@dataclass(frozen=True, slots=True)
class FeatureSheets:
    """Reads sheets from one replica, which stands still meanwhile.

    Attributes
    ----------
    replica
        Its state, and what is known of texts and names by its position.
    store, actions
        Over that state; the known actions.
    now_ms
        The moment as of which ages and counters are told.
    patience_s
        What texts and names do not come in, they count as missing.
    """

    replica: Replica[FeedState]
    store: FeatureStore
    actions: ActionSpace
    now_ms: int
    patience_s: float

    @classmethod
    def of(
        cls, settings: Settings, replica: Replica[FeedState], now_ms: int, *, is_past: bool = False
    ) -> FeatureSheets:
        """Return sheets of a replica's state; one that stands in the past is not told what was learned since."""
        codebooks = wiring.serving_codebooks(settings)
        if is_past and codebooks is not None:
            learned_before = codebooks.settings.learned_before or total(replica.position) + 1  # not told: later
            codebooks = codebooks if learned_before <= total(replica.position) else None
        store = wiring.build_feature_store(settings, replica.state, codebooks)
        patience_s = settings.config.content_store.timeout_ms / 1_000
        return cls(replica, store, wiring.build_actions(settings), now_ms, patience_s)

    async def post(self, post: str) -> PostFeatureSheet:
        """Return a post's features.

        Raises
        ------
        NotFoundError
            If the post store does not have it.
        """
        post = normalise_id(post, "post id")
        rows = self.store.posts.read(self._ids(IdKind.POST, post), self.now_ms)
        if not rows.is_known[0]:
            raise NotFoundError("post", value=post, problem="is not live", remedy="check the id, or its age")
        numbers, counts = _told(rows)
        codes = self.replica.state.codes
        content_id = rows.columns["content_id"]
        (author,) = await self._users(rows.columns["author_id"])  # type: ignore[arg-type]
        is_own = content_id[0] == rows.ids[0]
        return PostFeatureSheet(
            post_id=post,
            author_id=author,
            content_id=post if is_own else (await self._posts(content_id))[0],  # type: ignore[arg-type]
            state_offset=tuple(self.replica.position),
            now_ms=self.now_ms,
            created_ms=int(rows.columns["created_ms"][0]),
            language=codes.languages.name(int(rows.columns["language"][0])),
            topics=_names(codes.topics.name, rows.columns["topics"][0]),
            semantic_id=tuple(int(code) for code in np.asarray(rows.columns["semantic_id"][0])),
            numbers=numbers,
            counts=counts,
        )

    async def user(self, user: str, grain: Grain = "newest_50") -> UserFeatureSheet:
        """Return a user's features, and their history at a grain.

        Raises
        ------
        NotFoundError
            If no event has named them.
        """
        user = normalise_id(user, "user id")
        ids = self._ids(IdKind.USER, user)
        rows = self.store.users.read(ids, self.now_ms)
        if not rows.is_known[0]:
            raise NotFoundError("user", value=user, problem="never heard of", remedy="check the id")
        numbers, counts = _told(rows)
        codes, columns = self.replica.state.codes, rows.columns
        liked: Int64Array = columns["liked_authors"][0]
        authors = await self._users(liked[liked != 0])
        history: History = getattr(self.store.users.histories(int(ids[0]), self.now_ms), grain)
        return UserFeatureSheet(
            user_id=user,
            state_offset=tuple(self.replica.position),
            now_ms=self.now_ms,
            languages=_names(codes.languages.name, columns["languages"][0]),
            interests=_names(codes.topics.name, columns["interests"][0]),
            liked_topics=_names(codes.topics.name, columns["liked_topics"][0]),
            liked_authors=tuple(filter(None, authors)),
            numbers=numbers,
            counts=counts,
            history=await self._entries(history),
        )

    async def _entries(self, history: History) -> tuple[HistoryEntry, ...]:
        posts, authors = await self._posts(history.post_ids), await self._users(history.author_ids)
        columns = (posts, authors, history.actions.tolist(), history.times_ms.tolist(), history.dwell_ms.tolist())
        return tuple(
            HistoryEntry(
                post_id=post, author_id=author, action=self.actions.names[action], at_ms=at_ms, dwell_ms=dwell_ms
            )
            for post, author, action, at_ms, dwell_ms in zip(*columns, strict=True)
        )

    def _ids(self, kind: IdKind, text: str) -> Int64Array:
        return np.array([self.replica.state.hasher.one(kind, text)], dtype=np.int64)

    def _content(self) -> ContentReader:
        if self.replica.content is None:
            raise NotFoundError("content", problem="not read by this process", remedy="build the replica with it")
        return self.replica.content

    async def _posts(self, ids: Int64Array) -> list[str]:
        if not len(ids):
            return []
        found = await self._content().posts_async(ids, self.replica.position, self.patience_s)
        return [post.post_id if post is not None else GONE for post in found]

    async def _users(self, ids: Int64Array) -> list[str]:
        if not len(ids):
            return []
        found = await self._content().users_async(ids, self.replica.position, self.patience_s)
        return [user.user_id if user is not None else GONE for user in found]


@contextmanager
def sheets_as_of(
    settings: Settings, position: Position, on_progress: Callable[[int, int], None] | None = None
) -> Iterator[FeatureSheets]:
    """Give the feature sheets as of a log position: nothing at or after it is known to them.

    The log is folded up to the position, from the newest checkpoint that is not beyond it. Ages and counters are told
    as of the newest event time that the log had reached there.

    Raises
    ------
    StoreError
        If the log was trimmed, and no checkpoint is so old.
    """
    log = wiring.build_log(settings)
    replica = wiring.build_replica(settings, log)
    try:
        begin_before(replica, total(position))
        first, last = total(replica.position), total(position)
        while (at := total(replica.position)) < last:
            replica.step(replica.config.catch_up_records, before=position)
            if total(replica.position) == at:
                break
            if on_progress is not None:
                on_progress(total(replica.position) - first, last - first)
        yield FeatureSheets.of(settings, replica, replica.state.watermark.events_ms, is_past=True)
    finally:
        replica.close()
        log.close()


def _told(rows: FeatureRows) -> tuple[Numbers, dict[str, Numbers]]:
    """Return the first row's numbers, and its counts without what is 0."""
    numbers: Numbers = {}
    counts: dict[str, Numbers] = {}
    for feature in rows.table:
        if not feature.is_dense:
            continue
        values: Any = rows[feature.name][0]
        if feature.shape:
            labelled = zip(feature.labels, values.tolist(), strict=True)
            counts[feature.name] = {label: value for label, value in labelled if value}
        else:
            numbers[feature.name] = float(values)
    return numbers, counts


def _names(name_of: Callable[[int], str], codes: Sequence[int] | Any) -> tuple[str, ...]:
    return tuple(name_of(int(code)) for code in codes if code)
