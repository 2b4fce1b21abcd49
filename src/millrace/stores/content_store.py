"""The content store: texts, names and outside ids, in one SQLite file that the keeper alone writes.

Every row carries the log offset (``at``) of the event that wrote it, and the store's own log position is
committed in the same transaction: whatever kills the keeper, each event has changed the file once. Edits add a
row beside the old one until every reader is past it, so that a reader at position X sees the text of X. Deletes
and erasures remove the text at once.

An inside id that two texts share is a collision: here the second one is refused, never merged, and reported to the
caller, which keeps it as a dead letter. The folds know no texts and do merge: whatever the second post or user does is
counted for the first one's id (`millrace.base.ids` says how likely that is). Where the keeper folds content again
after a loss, the refusals are the same, but they are not reported a second time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.content_events import PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import ProfileUpdated, UserErased
from millrace.stores.content import PostContent, UserContent, created, edited, profiled, users_named
from millrace.stores.fold import EventBatch
from millrace.stream.log import Position, total

FORMAT_VERSION: Final = 2
_MAX_KNOWN_USERS: Final = 1_000_000
_IDS_PER_QUERY: Final = 500
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE posts (at INTEGER PRIMARY KEY, post_id INTEGER NOT NULL, author_id INTEGER NOT NULL, data BLOB);
CREATE INDEX posts_by_id ON posts (post_id);
CREATE TABLE profiles (at INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX profiles_by_id ON profiles (user_id);
CREATE TABLE users (user_id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE stale (at INTEGER PRIMARY KEY, since INTEGER NOT NULL);
CREATE TABLE marks (position INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);
CREATE TABLE erasures (at INTEGER PRIMARY KEY, user TEXT NOT NULL, posts TEXT NOT NULL,
                       scanned_to INTEGER NOT NULL DEFAULT 0, purged_at INTEGER NOT NULL DEFAULT 0);
INSERT INTO meta VALUES ('format', '2'), ('position', '[0]');
"""

encode = msgspec.msgpack.Encoder().encode
decode_post = msgspec.msgpack.Decoder(PostContent).decode
decode_user = msgspec.msgpack.Decoder(UserContent).decode

DELETED: Final = None
"""What stands in the place of a deleted post's content: the row stays, so that a late creation stays out."""


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


def connect(path: Path, *, is_writer: bool) -> sqlite3.Connection:
    """Return a connection to the content file: the keeper's, or one that can only read.

    Raises
    ------
    StoreError
        If the file cannot be opened or is of another format.
    """
    try:
        if is_writer:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # `ContentStore.flush` makes it durable
            connection.execute("PRAGMA secure_delete = ON")  # erased text leaves the file, not just the index
            connection.execute("PRAGMA cache_size = -65536")
            if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        else:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30.0)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cache_size = -16384")  # the upper pages of every index stay at hand
        found = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    except sqlite3.Error as error:
        raise StoreError(
            "content store",
            value=str(path),
            problem=f"cannot be opened ({error})",
            remedy="start the keeper first; if the file is damaged, remove it or restore it from a backup",
        ) from error
    if found is None or found[0] != str(FORMAT_VERSION):
        connection.close()
        raise StoreError(
            "content store",
            value=str(path),
            problem=f"has format {found and found[0]}, this version of Millrace reads {FORMAT_VERSION}",
            remedy="run the version that wrote it, or remove the file and let it be folded anew from the log",
        )
    return connection


def read_position(connection: sqlite3.Connection) -> Position:
    """Return the store's log position, as the connection's current snapshot has it."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'position'").fetchone()
    return tuple(msgspec.json.decode(row[0]))


def select_in(
    connection: sqlite3.Connection, head: str, ids: list[int], tail: str = "", args: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of ``head (ids) tail``, asking for a bounded number of ids at a time."""
    for start in range(0, len(ids), _IDS_PER_QUERY):
        some = ids[start : start + _IDS_PER_QUERY]
        marks = ",".join("?" * len(some))
        yield from connection.execute(f"{head} ({marks}) {tail}", (*some, *args))


class ContentStore:
    """The keeper's side: hears every event, commits with its own position.

    Parameters
    ----------
    path
        The SQLite file; made if missing.
    hasher
        Gives inside ids.
    """

    def __init__(self, path: Path, hasher: IdHasher) -> None:
        self._path = path
        self._hasher = hasher
        self._connection = connect(path, is_writer=True)
        self._position = read_position(self._connection)
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
        self._connection.execute(
            "UPDATE meta SET value = ? WHERE name = 'position'", (msgspec.json.encode(position).decode(),)
        )
        self._connection.execute("COMMIT")
        self._is_open = False
        self._position = position

    def flush(self) -> None:
        """Return once everything committed is on disk: a checkpoint must never be ahead of its content."""
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("UPDATE meta SET value = value WHERE name = 'position'")
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def tidy(self, *, seen_by_all: Position, position: Position, now_ms: int, retention_ms: int) -> None:
        """Remove rows replaced before ``seen_by_all`` and posts taken in longer than ``retention_ms`` ago."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            self._remove_old(seen_by_all, position, now_ms, retention_ms)
        except BaseException:
            run("ROLLBACK")
            raise
        run("COMMIT")

    def _remove_old(self, seen_by_all: Position, position: Position, now_ms: int, retention_ms: int) -> None:
        run = self._connection.execute
        for table in ("posts", "profiles"):
            run(
                f"DELETE FROM {table} WHERE at IN (SELECT at FROM stale WHERE since < ?)",  # noqa: S608
                (total(seen_by_all),),
            )
        run("DELETE FROM stale WHERE since < ?", (total(seen_by_all),))
        run("INSERT OR IGNORE INTO marks VALUES (?, ?)", (total(position), now_ms))
        run("DELETE FROM posts WHERE at < ?", (self.position_at(now_ms - retention_ms),))

    def position_at(self, time_ms: int) -> int:
        """Return a log offset before which everything was taken in before ``time_ms``; 0 if unknown."""
        row = self._connection.execute("SELECT max(position) FROM marks WHERE at_ms < ?", (time_ms,)).fetchone()
        return int(row[0] or 0)

    def pending_erasures(self) -> list[PendingErasure]:
        """Return the erasures that are not finished, oldest first."""
        rows = self._connection.execute("SELECT at, user, posts, scanned_to, purged_at FROM erasures ORDER BY at")
        return [
            PendingErasure(at, user, tuple(msgspec.json.decode(posts)), scanned_to, purged_at)
            for at, user, posts, scanned_to, purged_at in rows
        ]

    def note_scanned(self, erasures: Iterable[PendingErasure], scanned_to: int) -> None:
        """Remember how far the log has been purged of these users."""
        self._connection.executemany(
            "UPDATE erasures SET scanned_to = ? WHERE at = ?", [(scanned_to, e.at) for e in erasures]
        )

    def note_posts(self, posts_by_erasure: Mapping[int, Collection[str]]) -> None:
        """Remember the posts of users to be forgotten, by the log offset of the erasure."""
        rows = [(msgspec.json.encode(sorted(posts)).decode(), at) for at, posts in posts_by_erasure.items()]
        self._connection.executemany("UPDATE erasures SET posts = ?1 WHERE at = ?2 AND posts <> ?1", rows)

    def note_purged(self, erasures: Iterable[PendingErasure], position: Position) -> None:
        """Remember that nothing but the `UserErased` record is left of these users, and clean the WAL file.

        ``position`` is that of the checkpoint that was written meanwhile.
        """
        marks = [(total(position), e.at) for e in erasures]
        self._connection.executemany("UPDATE erasures SET purged_at = ? WHERE at = ?", marks)
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def forget_erasures(self, erasures: Iterable[PendingErasure]) -> None:
        """Remove finished erasures: the last place that names these users."""
        self._connection.executemany("DELETE FROM erasures WHERE at = ?", [(e.at,) for e in erasures])
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file; what was not committed is heard again after the next start."""
        if self._is_open:
            self._connection.execute("ROLLBACK")
            self._is_open = False
        self._connection.close()

    def _begin(self) -> None:
        if not self._is_open:
            self._connection.execute("BEGIN IMMEDIATE")
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
        many = self._connection.executemany
        many("INSERT INTO posts VALUES (?, ?, ?, ?)", post_rows)
        many("DELETE FROM posts WHERE post_id = ? AND at < ?", deleted)
        many("INSERT OR REPLACE INTO stale VALUES (?, ?)", stale)
        if profile_rows:
            self._write_profiles([(batch.events[row].payload, int(batch.offsets[row])) for row in profile_rows])

    def _write_profiles(self, updates: list[tuple[ProfileUpdated, int]]) -> None:
        ids = self._hasher.users(payload.user_id for payload, _ in updates).tolist()
        select = "SELECT user_id, at, data FROM profiles WHERE user_id IN"
        latest: dict[int, tuple[int, UserContent]] = {}
        for user_id, at, data in select_in(self._connection, select, list(set(ids)), "ORDER BY at"):
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
        self._connection.executemany("INSERT INTO profiles VALUES (?, ?, ?)", rows)
        self._connection.executemany("INSERT OR REPLACE INTO stale VALUES (?, ?)", stale)

    def _write_users(self, events: list[AnyEvent]) -> set[str]:
        """Write the outside ids of users; return those that clash with others."""
        new = [text for text in users_named(events) if text not in self._known_users]
        if not new:
            return set()
        ids = self._hasher.users(new).tolist()
        select = "SELECT user_id, text FROM users WHERE user_id IN"
        text_by_id: dict[int, str] = dict(select_in(self._connection, select, ids))
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
        self._connection.executemany("INSERT OR IGNORE INTO users VALUES (?, ?)", inserts)
        if clashing:
            for event in events:
                for text in users_named([event]) & clashing.keys():
                    self._collide(event, "user id", text, clashing[text])
        return set(clashing)

    def _latest_posts(self, ids: set[int]) -> dict[int, tuple[int, PostContent | None]]:
        latest: dict[int, tuple[int, PostContent | None]] = {}
        select = "SELECT post_id, at, data FROM posts WHERE post_id IN"
        for post_id, at, data in select_in(self._connection, select, list(ids), "ORDER BY at"):
            latest[post_id] = (at, DELETED if data is None else decode_post(data))
        return latest

    def _erase(self, payload: UserErased, at: int) -> None:
        user_id = self._hasher.one(IdKind.USER, payload.user_id)
        run = self._connection.execute
        rows = run("SELECT data FROM posts WHERE author_id = ?", (user_id,))
        posts = {decode_post(data).post_id for (data,) in rows}
        run("DELETE FROM posts WHERE author_id = ?", (user_id,))
        run("DELETE FROM profiles WHERE user_id = ?", (user_id,))
        run("DELETE FROM users WHERE user_id = ?", (user_id,))
        self._known_users.pop(payload.user_id, None)
        mentions = run("SELECT at, data FROM posts WHERE instr(data, ?) > 0", (payload.user_id.encode(),)).fetchall()
        for row_at, data in mentions:
            content = decode_post(data)
            if content.parent_author_id == payload.user_id:
                anonymous = msgspec.structs.replace(content, parent_author_id=None)
                run("UPDATE posts SET data = ? WHERE at = ?", (encode(anonymous), row_at))
        known = msgspec.json.encode(sorted(posts)).decode()
        run("INSERT OR IGNORE INTO erasures (at, user, posts) VALUES (?, ?, ?)", (at, payload.user_id, known))

    def _collide(self, event: AnyEvent, thing: str, text: str, kept: str) -> None:
        problem = f"has the same inside id as {kept!r}"
        reason = StoreError(thing, value=text, problem=problem, remedy="give it another id")
        self._collisions.append(Collision(event, str(reason)))
