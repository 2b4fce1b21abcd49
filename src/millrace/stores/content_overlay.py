"""Reading content at one log position: the keeper's file, and on top what it does not hold yet.

A worker may be ahead of the keeper. It therefore remembers the content events that it has folded itself, until
the keeper's file has taken them in. A read takes the file's position and its rows in one snapshot, and lays over
them exactly the events between that position and the reader's own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.content_events import PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import ProfileUpdated, UserErased
from millrace.stores.content import PostContent, UserContent, created, edited, profiled, users_named
from millrace.stores.content_store import DELETED, connect, decode_post, decode_user, read_position, select_in
from millrace.stores.fold import EventBatch
from millrace.stream.log import Position, total

_HEARD = (PostCreated, PostEdited, PostDeleted, ProfileUpdated, UserErased)

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

    @property
    def base(self) -> int:
        """Everything since this log offset is here; the file must have reached it."""
        return self._base

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
    path
        The keeper's file; opened at the first read, so that a process may fork before it.
    overlay
        What this process has folded beyond the file; by default an empty one.
    hasher
        Gives inside ids.
    """

    def __init__(self, path: Path, hasher: IdHasher, overlay: ContentOverlay | None = None) -> None:
        self._path = path
        self.overlay = overlay or ContentOverlay(hasher)
        self._opened: sqlite3.Connection | None = None

    def position(self) -> Position:
        """Return how far the keeper's file has come; ``(0,)`` as long as there is none."""
        connection = self._connection()
        return (0,) if connection is None else read_position(connection)

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
        select = "SELECT post_id, data FROM posts WHERE post_id IN"
        start, rows = self._read(select, ids, stop)
        found = {post_id: DELETED if data is None else decode_post(data) for post_id, data in rows}
        return [
            self.overlay.post(post_id, found.get(post_id), start, stop, is_known=post_id in found) for post_id in ids
        ]

    def users(self, user_ids: Int64Array, at: Position) -> list[UserContent | None]:
        """Return users as they were at a log position; None for those never heard of."""
        stop = total(at)
        ids = user_ids.tolist()
        start, rows = self._read("SELECT user_id, data FROM profiles WHERE user_id IN", ids, stop)
        found: dict[int, UserContent] = {user_id: decode_user(data) for user_id, data in rows}
        for user_id, text in self._texts([i for i in ids if i not in found]):
            found[user_id] = UserContent(user_id=text)
        return [self.overlay.user(user_id, found.get(user_id), start, stop) for user_id in ids]

    def user_texts(self, user_ids: Int64Array, at: Position) -> list[str | None]:
        """Return users' outside ids; None for those never heard of."""
        return [None if user is None else user.user_id for user in self.users(user_ids, at)]

    def post_texts(self, post_ids: Int64Array, at: Position) -> list[str | None]:
        """Return posts' outside ids; None for those that cannot be shown."""
        return [None if post is None else post.post_id for post in self.posts(post_ids, at)]

    def start_at(self, position: Position) -> None:
        """Begin anew with a state that stands at ``position``: what the file holds is left to it."""
        self.overlay.start_at(max(total(position), total(self.position())))

    def refresh(self) -> None:
        """Let go of what the file has taken in meanwhile."""
        self.overlay.release(total(self.position()))

    def is_covered(self) -> bool:
        """Whether file and overlay together hold everything."""
        return total(self.position()) >= self.overlay.base

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _connection(self) -> sqlite3.Connection | None:
        """Return the file's connection; None as long as the keeper has not made the file."""
        if self._opened is None and self._path.exists():
            with sqlite3.connect(f"file:{self._path}?mode=ro", uri=True) as probe:
                is_made = probe.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
            probe.close()
            if is_made:
                self._opened = connect(self._path, is_writer=False)
        return self._opened

    def _read(self, select: str, ids: list[int], stop: int) -> tuple[int, list[tuple[Any, ...]]]:
        """Return the file's position and rows newest last, both of one snapshot."""
        connection = self._connection()
        if connection is None:
            return 0, []
        connection.execute("BEGIN")
        try:
            start = total(read_position(connection))
            rows = list(select_in(connection, select, ids, "AND at < ? ORDER BY at", (stop,)))
        finally:
            connection.execute("COMMIT")
        return start, rows

    def _texts(self, ids: list[int]) -> list[tuple[Any, ...]]:
        connection = self._connection()
        if connection is None:
            return []
        return list(select_in(connection, "SELECT user_id, text FROM users WHERE user_id IN", ids))
