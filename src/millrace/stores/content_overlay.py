"""Reading content at one log position: what the keeper has written, and on top what it has not yet.

A worker may be ahead of the keeper. It therefore remembers the content events that it has folded itself, until
the keeper has taken them in. A read takes the keeper's position and its rows in one snapshot, and lays over
them exactly the events between that position and the reader's own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.content_events import PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import ProfileUpdated, UserErased
from millrace.stores.content import PostContent, UserContent, created, edited, profiled, users_named
from millrace.stores.content_database import DELETED, ContentReads, decode_post, read_users
from millrace.stores.fold import EventBatch
from millrace.stream.log import Position, total

if TYPE_CHECKING:
    from millrace.stores.content_cache import ContentCache

_HEARD = (PostCreated, PostEdited, PostDeleted, ProfileUpdated, UserErased)

logger = logging.getLogger(__name__)

Op = tuple[int, AnyEvent, int]
"""Log offset, event, append time."""


@dataclass(slots=True)
class _Generation:
    """Content events of one stretch of the log, by inside id; ``users`` has texts and when they were named."""

    end: int = 0
    post_ops: dict[int, list[Op]] = field(default_factory=dict)
    profile_ops: dict[int, list[Op]] = field(default_factory=dict)
    erasures: dict[int, list[int]] = field(default_factory=dict)
    users: dict[int, tuple[str, int]] = field(default_factory=dict)
    n_ops: int = 0


class ContentOverlay:
    """Content events that this process has folded and the keeper's file may not hold yet.

    Parameters
    ----------
    hasher
        Gives inside ids.
    """

    def __init__(self, hasher: IdHasher) -> None:
        self._hasher = hasher
        self._base = 0
        self._old = _Generation()
        self._new = _Generation()
        self.last_erasure = -1
        """Log offset of the newest erasure that was heard; -1: of none."""

    @property
    def base(self) -> int:
        """Everything since this log offset is here; the file must have reached it."""
        return self._base

    @property
    def middle(self) -> int:
        """Everything since this log offset stays here when `release` lets go the next time."""
        return self._old.end

    @property
    def n_ops(self) -> int:
        """How many content events are remembered."""
        return self._old.n_ops + self._new.n_ops

    def start_at(self, offset: int) -> None:
        """Forget everything; events before ``offset`` are left to the file."""
        self._base = offset
        self._old, self._new = _Generation(offset), _Generation(offset)

    def hear(self, batch: EventBatch) -> None:
        """Remember content events, in log order."""
        if not len(batch) or int(batch.offsets[-1]) < self._base:
            return
        new = self._new
        one = self._hasher.one
        start = 0
        for stop in [*(row + 1 for row in batch.rows_of((UserErased,))), len(batch)]:
            # Who was named before and who after an erasure is told apart by where each stretch ends.
            if stop > start:
                last = int(batch.offsets[stop - 1])
                for text in users_named(batch.events[start:stop]):
                    new.users[one(IdKind.USER, text)] = (text, last)
            start = stop
        for row in batch.rows_of(_HEARD):
            event, at = batch.events[row], int(batch.offsets[row])
            payload = event.payload
            if at < self._base:
                continue
            op = (at, event, int(batch.appended_ms[row]))
            if isinstance(payload, UserErased):
                new.erasures.setdefault(one(IdKind.USER, payload.user_id), []).append(at)
                self.last_erasure = at
            elif isinstance(payload, ProfileUpdated):
                new.profile_ops.setdefault(one(IdKind.USER, payload.user_id), []).append(op)
            else:
                new.post_ops.setdefault(one(IdKind.POST, payload.post_id), []).append(op)
            new.n_ops += 1
        new.end = int(batch.offsets[-1]) + 1

    def release(self, held_by_file: int) -> None:
        """Let go of what the file holds: ``held_by_file`` is its position."""
        if held_by_file < self._old.end or held_by_file < self._base:
            return
        self._base = max(self._base, self._old.end)
        self._old, self._new = self._new, _Generation(self._new.end)

    def post(
        self, post_id: int, content: PostContent | None, start: int, stop: int, *, is_known: bool
    ) -> PostContent | None:
        """Return a post's content at offset ``stop``, given the file's at ``start``.

        ``is_known`` says whether the file has heard of the post: it may know that it is deleted.
        """
        since = start
        for at, event, appended_ms in self._ops(self._old.post_ops, self._new.post_ops, post_id, start, stop):
            payload = event.payload
            if content is not None and self._is_author_erased(content, since, at):
                content, is_known = None, False
            if isinstance(payload, PostCreated):
                if not is_known:
                    content, is_known, since = created(event, payload, appended_ms), True, at
            elif isinstance(payload, PostDeleted):
                content, is_known = DELETED, True
            elif content is not None and content.post_id == payload.post_id:
                content = edited(content, payload, event.event_time_ms)
        return None if content is None or self._is_author_erased(content, since, stop) else content

    def user(self, user_id: int, content: UserContent | None, start: int, stop: int) -> UserContent | None:
        """Return a user's content at offset ``stop``, given the file's at ``start``."""
        erased_at = self._last_erasure(user_id, start, stop)
        text, named_at = self._new.users.get(user_id) or self._old.users.get(user_id) or ("", -1)
        if erased_at >= 0 or content is None:
            content = UserContent(user_id=text) if named_at >= max(start, erased_at + 1) else None
        for at, event, _ in self._ops(self._old.profile_ops, self._new.profile_ops, user_id, start, stop):
            if at > erased_at:
                content = profiled(content or UserContent(user_id=event.payload.user_id), event.payload)
        return content

    def _is_author_erased(self, content: PostContent, start: int, stop: int) -> bool:
        return self._last_erasure(self._hasher.one(IdKind.USER, content.author_id), start, stop) >= 0

    def _last_erasure(self, user_id: int, start: int, stop: int) -> int:
        """Return the offset of a user's newest erasure from ``start`` to ``stop``, -1 if there is none."""
        found = (*self._old.erasures.get(user_id, ()), *self._new.erasures.get(user_id, ()))
        return max((at for at in found if start <= at < stop), default=-1)

    @staticmethod
    def _ops(old: dict[int, list[Op]], new: dict[int, list[Op]], key: int, start: int, stop: int) -> Sequence[Op]:
        return [op for ops in (old.get(key), new.get(key)) if ops for op in ops if start <= op[0] < stop]


class ContentReader:
    """Reads content at a log position, from any process.

    Parameters
    ----------
    database
        The keeper's file or server; opened at the first read, so that a process may fork before it.
    hasher
        Gives inside ids.
    overlay
        What this process has folded beyond the keeper; by default an empty one.
    cache
        What this process keeps of what it has read; None: it reads everything anew.
    """

    def __init__(
        self,
        database: ContentReads,
        hasher: IdHasher,
        overlay: ContentOverlay | None = None,
        cache: ContentCache | None = None,
    ) -> None:
        self._database = database
        self.overlay = overlay or ContentOverlay(hasher)
        self.cache = cache
        self._held: Position = (0,)
        self._is_away = False

    @property
    def is_remote(self) -> bool:
        """Whether a read may wait for another machine."""
        return self._database.is_remote

    def position(self) -> Position:
        """Return how far the keeper has come; ``(0,)`` as long as it has written nothing."""
        self._held = self._database.position()
        return self._held

    def posts(self, post_ids: Int64Array, at: Position) -> list[PostContent | None]:
        """Return posts as they were at a log position; None where deleted, erased or never there.

        Parameters
        ----------
        post_ids
            Inside ids, shape (n,).
        at
            Every event before this position is seen, no other.
        """
        stop = total(at)
        ids = post_ids.tolist()
        if self.cache is not None:
            return self.cache.posts.get_many(self._database, self.overlay, ids, stop)
        start, rows = self._database.posts(ids, stop)
        found = {post_id: DELETED if data is None else decode_post(data) for post_id, data in rows.items()}
        return [
            self.overlay.post(post_id, found.get(post_id), start, stop, is_known=post_id in found) for post_id in ids
        ]

    async def posts_async(self, post_ids: Int64Array, at: Position, timeout_s: float) -> list[PostContent | None]:
        """Return the same without holding up the event loop; posts that do not come in time count as missing."""
        if self.cache is None:
            return self.posts(post_ids, at)
        return await self.cache.posts.get_many_async(
            self._database, self.overlay, post_ids.tolist(), total(at), timeout_s
        )

    def users(self, user_ids: Int64Array, at: Position) -> list[UserContent | None]:
        """Return users as they were at a log position; None for those never heard of."""
        stop = total(at)
        ids = user_ids.tolist()
        if self.cache is not None:
            return self.cache.users.get_many(self._database, self.overlay, ids, stop)
        start, found = read_users(self._database, ids, stop)
        return [self.overlay.user(user_id, found.get(user_id), start, stop) for user_id in ids]

    async def users_async(self, user_ids: Int64Array, at: Position, timeout_s: float) -> list[UserContent | None]:
        """Return the same without holding up the event loop; users that do not come in time count as missing."""
        if self.cache is None:
            return self.users(user_ids, at)
        return await self.cache.users.get_many_async(
            self._database, self.overlay, user_ids.tolist(), total(at), timeout_s
        )

    def user_texts(self, user_ids: Int64Array, at: Position) -> list[str | None]:
        """Return users' outside ids; None for those never heard of."""
        return [None if user is None else user.user_id for user in self.users(user_ids, at)]

    def post_texts(self, post_ids: Int64Array, at: Position) -> list[str | None]:
        """Return posts' outside ids; None for those that cannot be shown."""
        return [None if post is None else post.post_id for post in self.posts(post_ids, at)]

    def start_at(self, position: Position) -> None:
        """Begin anew with a state that stands at ``position``: what the keeper holds is left to it."""
        if self.cache is not None:
            self.cache.clear()
        self.overlay.start_at(max(total(position), total(self.position())))

    def refresh(self) -> None:
        """Let go of what the keeper has taken in meanwhile."""
        # With a cache not sooner than what was read is too old to be used: what happened since is laid over that.
        if self.cache is None or self.cache.may_release():
            self.overlay.release(self._how_far())

    def is_covered(self) -> bool:
        """Whether the keeper's content and the overlay together hold everything."""
        return self._how_far() >= self.overlay.base

    def _how_far(self) -> int:
        """Return how far the keeper has come; as it was known last, where a server does not answer."""
        try:
            self.position()
        except StoreError as error:
            if not self.is_remote:
                raise
            if not self._is_away:
                logger.warning("%s", error)
            self._is_away = True
        else:
            if self._is_away:
                logger.warning("the content server is back: pages show all texts and names again")
            self._is_away = False
        return total(self._held)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
        if self.cache is not None:
            self.cache.close()
