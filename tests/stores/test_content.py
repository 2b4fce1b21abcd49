"""What is the SQLite file's alone; all else that content does: `millrace.testing.content_contract`."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.errors import StoreError
from millrace.stores.content_store import ContentStore
from millrace.stores.sqlite_content import SqliteContentReads, SqliteContentWrites
from millrace.testing.builders import a_post_created, a_post_deleted, a_profile_updated, a_user_erased
from millrace.testing.content_contract import HASHER, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "content.db"


@pytest.fixture
def store(path: Path):  # type: ignore[no-untyped-def]
    store = ContentStore(SqliteContentWrites(path), HASHER)
    yield store
    store.close()


def test_the_text_of_a_deleted_post_leaves_the_file(store: ContentStore, path: Path) -> None:
    write(store, [a_post_created(1, text="first"), a_post_deleted(1)])
    assert b"first" not in path.read_bytes()


def test_erasure_removes_a_user_from_the_file(store: ContentStore, path: Path) -> None:
    events = [
        a_post_created(1, "erin", text="the secret of erin"),
        a_profile_updated("erin", name="Erin Example"),
        a_user_erased("erin"),
    ]
    write(store, events)
    store.note_purged(store.pending_erasures(), (3,))
    assert b"the secret of erin" not in path.read_bytes()
    assert b"Erin Example" not in path.read_bytes()


def test_a_file_that_is_none_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database, however long one looks at it" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteContentWrites(path)


def test_a_file_of_another_format_is_refused(store: ContentStore, path: Path) -> None:
    other = SqliteContentWrites(path)
    other.run("UPDATE meta SET value = '1' WHERE name = 'format'")
    other.close()
    with pytest.raises(StoreError, match="has format 1, this version of Millrace reads 2"):
        SqliteContentWrites(path)
    with pytest.raises(StoreError, match="has format 1, this version of Millrace reads 2"):
        SqliteContentReads(path).position()
