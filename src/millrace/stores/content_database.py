"""What the content store needs of a database: one writer, and reads that see a position and its rows together.

`millrace.stores.sqlite_content` is a file of one machine, `millrace.stores.postgres_content` a server that several
machines share. What each event changes is decided once, in `millrace.stores.content_store`, and written in SQL that
both understand; what differs between them stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from millrace.stores.content import PostContent, UserContent
from millrace.stream.log import Position

FORMAT_VERSION: Final = 2

DELETED: Final = None
"""What stands in the place of a deleted post's content: the row stays, so that a late creation stays out."""

Row = tuple[Any, ...]

encode = msgspec.msgpack.Encoder().encode
decode_post = msgspec.msgpack.Decoder(PostContent).decode
decode_user = msgspec.msgpack.Decoder(UserContent).decode


def encode_position(position: Position) -> str:
    """Return a log position as the table ``meta`` keeps it."""
    return msgspec.json.encode(position).decode()


def decode_position(text: str) -> Position:
    """Return the log position of a row of ``meta``."""
    return tuple(msgspec.json.decode(text))


class ContentWrites(Protocol):
    """The writer's connection: the only one, so nothing here meets another transaction.

    SQL has ``?`` for parameters and the tables ``meta``, ``posts``, ``profiles``, ``users``, ``stale``, ``marks`` and
    ``erasures``. Outside of `begin` and `commit` each statement is a transaction of its own.
    """

    def position(self) -> Position:
        """Return the log position that was committed last."""

    def run(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return its rows."""

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run one statement for each row of parameters."""

    def select_in(self, head: str, ids: Sequence[int], tail: str = "") -> Iterable[Row]:
        """Return the rows of ``head IN (ids) tail``, however many ids there are."""

    def mentioning(self, text: bytes) -> list[Row]:
        """Return ``(at, data)`` of the posts whose encoded content has these bytes anywhere."""

    def begin(self) -> None:
        """Begin a transaction."""

    def commit(self) -> None:
        """Make the transaction visible to readers, as a whole."""

    def rollback(self) -> None:
        """Undo the transaction."""

    def flush(self) -> None:
        """Return once everything committed is on disk."""

    def clean(self) -> None:
        """Let no copies of deleted rows stand where the database keeps what it does not need any more."""

    def close(self) -> None:
        """Undo what was not committed, and let somebody else write."""


class ContentReads(Protocol):
    """One process's reads; nothing is opened before the first one, so that the process may fork before it.

    Attributes
    ----------
    is_remote
        Whether a read waits for another machine: those who must not wait read in a thread.
    """

    is_remote: bool

    def position(self) -> Position:
        """Return how far the writer has come; ``(0,)`` as long as there was none."""

    def posts(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes | None]]:
        """Return what stands for posts before log offset ``stop``, by inside id; None for what is deleted.

        With it comes the writer's total position, both as of one moment.
        """

    def profiles(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes]]:
        """Return users' profiles in the same way."""

    def user_texts(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the outside ids of users, by inside id."""

    def close(self) -> None:
        """Close the connection; a later read opens another."""


def read_users(database: ContentReads, ids: Sequence[int], stop: int) -> tuple[int, dict[int, UserContent]]:
    """Return users before log offset ``stop`` by inside id, those that have no profile too; and the position."""
    start, rows = database.profiles(ids, stop)
    found = {user_id: decode_user(data) for user_id, data in rows.items()}
    for user_id, text in database.user_texts([i for i in ids if i not in found]).items():
        found[user_id] = UserContent(user_id=text)
    return start, found
