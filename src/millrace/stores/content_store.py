"""The content store: texts, names and outside ids, in one database that the keeper alone writes.

Every row carries the log offset (``at``) of the event that wrote it, and the store's own log position is
committed in the same transaction: whatever kills the keeper, each event has changed it once. Edits add a
row beside the old one until every reader is past it, so that a reader at position X sees the text of X. Deletes
and erasures remove the text at once.

An inside id that two texts share is a collision: here the second one is refused, never merged, and reported to the
caller, which keeps it as a dead letter. The folds know no texts and do merge: whatever the second post or user does is
counted for the first one's id (`millrace.base.ids` says how likely that is). Where the keeper folds content again
after a loss, the refusals are the same, but they are not reported a second time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.content_events import PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import ProfileUpdated, UserErased
from millrace.stores.content import PostContent, UserContent, created, edited, profiled, users_named
from millrace.stores.content_database import (
    DELETED,
    ContentWrites,
    decode_post,
    decode_user,
    encode,
    encode_position,
)
from millrace.stores.fold import EventBatch
from millrace.stream.log import Position, total

_MAX_KNOWN_USERS: Final = 1_000_000
_REPLACED: Final = "INSERT INTO stale VALUES (?, ?) ON CONFLICT (at) DO UPDATE SET since = excluded.since"


@dataclass(frozen=True, slots=True)
class Collision:
    """An event whose id has the same inside id as another text."""

    event: AnyEvent
    reason: str


@dataclass(frozen=True, slots=True)
class PendingErasure:
    """A user to be forgotten, and how far that has come.

    Attributes
    ----------
    at
        Log offset of the `UserErased` event.
    user
        Outside id.
    posts
        Outside ids of their posts.
    scanned_to
        The log has been purged up to here.
    purged_at
        Log position of the checkpoint with which log, warehouse and old checkpoints became clean, so that only the
        `UserErased` record itself is left; 0 as long as they are not.
    """

    at: int
    user: str
    posts: tuple[str, ...]
    scanned_to: int
    purged_at: int

    @property
    def is_purged(self) -> bool:
        """Whether only the `UserErased` record itself is left."""
        return self.purged_at > 0


class ContentStore:
    """The keeper's side: hears every event, commits with its own position.

    Parameters
    ----------
    database
        Where it is kept; closed with the store.
    hasher
        Gives inside ids.
    """

    def __init__(self, database: ContentWrites, hasher: IdHasher) -> None:
        self._database = database
        self._hasher = hasher
        self._position = database.position()
        self._known_users: dict[str, int] = {}
        self._collisions: list[Collision] = []
        self._is_open = False

    @property
    def position(self) -> Position:
        """The next record of the log to take in, as committed."""
        return self._position

    def hear(self, batch: EventBatch) -> None:
        """Take in events, in log order, those already in the file left out; `commit` makes them visible."""
        done = total(self._position)
        if len(batch) and int(batch.offsets[-1]) < done:
            return
        if len(batch) and int(batch.offsets[0]) < done:
            batch = batch.slice(int((batch.offsets < done).sum()), len(batch))
        rows = batch.rows_of((PostCreated, PostEdited, PostDeleted, ProfileUpdated, UserErased))
        if not len(batch):
            return
        self._begin()
        start = 0
        for row in [r for r in rows if isinstance(batch.events[r].payload, UserErased)]:
            # An erasure looks at what the file holds, so everything before it is written first.
            self._write(batch, [r for r in rows if start <= r < row], batch.events[start:row])
            self._erase(batch.events[row].payload, int(batch.offsets[row]))
            start = row + 1
        self._write(batch, [r for r in rows if r >= start], batch.events[start:])

    @property
    def collisions(self) -> tuple[Collision, ...]:
        """The events refused since the last commit."""
        return tuple(self._collisions)

    def commit(self, position: Position) -> None:
        """Make what was heard visible, together with the position (which never goes back)."""
        self._collisions.clear()
        if total(position) <= total(self._position):
            return
        self._begin()
        self._database.run("UPDATE meta SET value = ? WHERE name = 'position'", (encode_position(position),))
        self._database.commit()
        self._is_open = False
        self._position = position

    def flush(self) -> None:
        """Return once everything committed is on disk: a checkpoint must never be ahead of its content."""
        self._database.flush()

    def tidy(self, *, seen_by_all: Position, position: Position, now_ms: int, retention_ms: int) -> None:
        """Remove rows replaced before ``seen_by_all`` and posts taken in longer than ``retention_ms`` ago."""
        self._database.begin()
        try:
            self._remove_old(seen_by_all, position, now_ms, retention_ms)
        except BaseException:
            with suppress(StoreError):  # a server that is gone has undone it
                self._database.rollback()
            raise
        self._database.commit()

    def _remove_old(self, seen_by_all: Position, position: Position, now_ms: int, retention_ms: int) -> None:
        run = self._database.run
        for table in ("posts", "profiles"):
            run(
                f"DELETE FROM {table} WHERE at IN (SELECT at FROM stale WHERE since < ?)",  # noqa: S608
                (total(seen_by_all),),
            )
        run("DELETE FROM stale WHERE since < ?", (total(seen_by_all),))
        run("INSERT INTO marks VALUES (?, ?) ON CONFLICT DO NOTHING", (total(position), now_ms))
        run("DELETE FROM posts WHERE at < ?", (self.position_at(now_ms - retention_ms),))

    def position_at(self, time_ms: int) -> int:
        """Return a log offset before which everything was taken in before ``time_ms``; 0 if unknown."""
        ((position,),) = self._database.run("SELECT max(position) FROM marks WHERE at_ms < ?", (time_ms,))
        return int(position or 0)

    def pending_erasures(self) -> list[PendingErasure]:
        """Return the erasures that are not finished, oldest first."""
        rows = self._database.run('SELECT at, "user", posts, scanned_to, purged_at FROM erasures ORDER BY at')
        return [
            PendingErasure(at, user, tuple(msgspec.json.decode(posts)), scanned_to, purged_at)
            for at, user, posts, scanned_to, purged_at in rows
        ]

    def note_scanned(self, erasures: Iterable[PendingErasure], scanned_to: int) -> None:
        """Remember how far the log has been purged of these users."""
        rows = [(scanned_to, e.at) for e in erasures]
        self._database.run_many("UPDATE erasures SET scanned_to = ? WHERE at = ?", rows)

    def note_posts(self, posts_by_erasure: Mapping[int, Collection[str]]) -> None:
        """Remember the posts of users to be forgotten, by the log offset of the erasure."""
        texts = {at: msgspec.json.encode(sorted(posts)).decode() for at, posts in posts_by_erasure.items()}
        rows = [(text, at, text) for at, text in texts.items()]
        self._database.run_many("UPDATE erasures SET posts = ? WHERE at = ? AND posts <> ?", rows)

    def note_purged(self, erasures: Iterable[PendingErasure], position: Position) -> None:
        """Remember that nothing but the `UserErased` record is left of these users, and clean up.

        ``position`` is that of the checkpoint that was written meanwhile.
        """
        marks = [(total(position), e.at) for e in erasures]
        self._database.run_many("UPDATE erasures SET purged_at = ? WHERE at = ?", marks)
        self._database.clean()

    def forget_erasures(self, erasures: Iterable[PendingErasure]) -> None:
        """Remove finished erasures: the last place that names these users."""
        self._database.run_many("DELETE FROM erasures WHERE at = ?", [(e.at,) for e in erasures])
        self._database.clean()

    def close(self) -> None:
        """Close the database; what was not committed is heard again after the next start."""
        self._is_open = False
        self._database.close()

    def _begin(self) -> None:
        if not self._is_open:
            self._database.begin()
            self._is_open = True

    def _write(self, batch: EventBatch, rows: list[int], events: list[AnyEvent]) -> None:
        clashing = self._write_users(events)
        if clashing:
            rows = [row for row in rows if not clashing & users_named([batch.events[row]])]
        if not rows:
            return
        hash_post = self._hasher.one
        latest = self._latest_posts(
            {
                hash_post(IdKind.POST, payload.post_id)
                for r in rows
                if not isinstance(payload := batch.events[r].payload, ProfileUpdated)
            }
        )
        post_rows: list[tuple[int, int, int, bytes | None]] = []
        profile_rows: list[int] = []
        stale: list[tuple[int, int]] = []
        deleted: list[tuple[int, int]] = []
        for row in rows:
            event, at = batch.events[row], int(batch.offsets[row])
            payload = event.payload
            if isinstance(payload, ProfileUpdated):
                profile_rows.append(row)
                continue
            post_id = hash_post(IdKind.POST, payload.post_id)
            before = latest.get(post_id)
            if before is not None and before[1] is not DELETED and before[1].post_id != payload.post_id:
                self._collide(event, "post id", payload.post_id, before[1].post_id)
            elif isinstance(payload, PostCreated):
                if before is None:  # the first creation wins; a deleted post is never shown again
                    content = created(event, payload, int(batch.appended_ms[row]))
                    latest[post_id] = (at, content)
                    author_id = self._hasher.one(IdKind.USER, payload.author_id)
                    post_rows.append((at, post_id, author_id, encode(content)))
            elif isinstance(payload, PostDeleted):
                latest[post_id] = (at, DELETED)
                deleted.append((post_id, at))
                post_rows.append((at, post_id, 0, DELETED))
            elif before is not None and before[1] is not DELETED:
                now = edited(before[1], payload, event.event_time_ms)
                latest[post_id] = (at, now)
                author_id = self._hasher.one(IdKind.USER, now.author_id)
                post_rows.append((at, post_id, author_id, encode(now)))
                stale.append((before[0], at))
        many = self._database.run_many
        many("INSERT INTO posts VALUES (?, ?, ?, ?)", post_rows)
        many("DELETE FROM posts WHERE post_id = ? AND at < ?", deleted)
        many(_REPLACED, stale)
        if profile_rows:
            self._write_profiles([(batch.events[row].payload, int(batch.offsets[row])) for row in profile_rows])

    def _write_profiles(self, updates: list[tuple[ProfileUpdated, int]]) -> None:
        ids = self._hasher.users(payload.user_id for payload, _ in updates).tolist()
        select = "SELECT user_id, at, data FROM profiles WHERE user_id"
        latest: dict[int, tuple[int, UserContent]] = {}
        for user_id, at, data in self._database.select_in(select, list(set(ids)), "ORDER BY at"):
            latest[user_id] = (at, decode_user(data))
        rows: list[tuple[int, int, bytes]] = []
        stale: list[tuple[int, int]] = []
        for user_id, (payload, at) in zip(ids, updates, strict=True):
            before_at, before = latest.get(user_id, (-1, UserContent(user_id=payload.user_id)))
            now = profiled(before, payload)
            if before_at >= 0 and now == before:
                continue
            latest[user_id] = (at, now)
            rows.append((at, user_id, encode(now)))
            if before_at >= 0:
                stale.append((before_at, at))
        self._database.run_many("INSERT INTO profiles VALUES (?, ?, ?)", rows)
        self._database.run_many(_REPLACED, stale)

    def _write_users(self, events: list[AnyEvent]) -> set[str]:
        """Write the outside ids of users; return those that clash with others."""
        new = [text for text in users_named(events) if text not in self._known_users]
        if not new:
            return set()
        ids = self._hasher.users(new).tolist()
        select = "SELECT user_id, text FROM users WHERE user_id"
        text_by_id: dict[int, str] = dict(self._database.select_in(select, ids))
        inserts: list[tuple[int, str]] = []
        if len(self._known_users) > _MAX_KNOWN_USERS:
            self._known_users.clear()
        clashing: dict[str, str] = {}
        for user_id, text in zip(ids, new, strict=True):
            kept = text_by_id.setdefault(user_id, text)
            if kept != text:
                clashing[text] = kept
                continue
            self._known_users[text] = user_id
            inserts.append((user_id, text))
        self._database.run_many("INSERT INTO users VALUES (?, ?) ON CONFLICT DO NOTHING", inserts)
        if clashing:
            for event in events:
                for text in users_named([event]) & clashing.keys():
                    self._collide(event, "user id", text, clashing[text])
        return set(clashing)

    def _latest_posts(self, ids: set[int]) -> dict[int, tuple[int, PostContent | None]]:
        latest: dict[int, tuple[int, PostContent | None]] = {}
        select = "SELECT post_id, at, data FROM posts WHERE post_id"
        for post_id, at, data in self._database.select_in(select, list(ids), "ORDER BY at"):
            latest[post_id] = (at, DELETED if data is None else decode_post(data))
        return latest

    def _erase(self, payload: UserErased, at: int) -> None:
        user_id = self._hasher.one(IdKind.USER, payload.user_id)
        run = self._database.run
        rows = run("SELECT data FROM posts WHERE author_id = ?", (user_id,))
        posts = {decode_post(data).post_id for (data,) in rows}
        run("DELETE FROM posts WHERE author_id = ?", (user_id,))
        run("DELETE FROM profiles WHERE user_id = ?", (user_id,))
        run("DELETE FROM users WHERE user_id = ?", (user_id,))
        self._known_users.pop(payload.user_id, None)
        for row_at, data in self._database.mentioning(payload.user_id.encode()):
            content = decode_post(data)
            if content.parent_author_id == payload.user_id:
                anonymous = msgspec.structs.replace(content, parent_author_id=None)
                run("UPDATE posts SET data = ? WHERE at = ?", (encode(anonymous), row_at))
        known = msgspec.json.encode(sorted(posts)).decode()
        insert = 'INSERT INTO erasures (at, "user", posts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING'
        run(insert, (at, payload.user_id, known))

    def _collide(self, event: AnyEvent, thing: str, text: str, kept: str) -> None:
        problem = f"has the same inside id as {kept!r}"
        reason = StoreError(thing, value=text, problem=problem, remedy="give it another id")
        self._collisions.append(Collision(event, str(reason)))
