"""What is the PostgreSQL server's alone; all else that content does: `millrace.testing.content_contract`."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from millrace.base.errors import StoreError
from millrace.stores import postgres_content
from millrace.stores.content_overlay import ContentReader
from millrace.stores.content_store import ContentStore
from millrace.stores.postgres_content import PostgresContentReads, PostgresContentWrites
from millrace.testing.builders import a_post_created, a_user_erased
from millrace.testing.content_contract import HASHER, texts, write
from millrace.testing.postgres_server import PostgresServer
from millrace.testing.told_clock import ToldClock


@pytest.fixture
def schema(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"the {request.node.name[:30]}"
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@pytest.mark.service
def test_of_two_keepers_the_second_is_refused_until_the_first_has_ended(
    postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PostgresContentWrites(postgres_url, schema)
    monkeypatch.setattr(postgres_content, "_LOCK_PATIENCE_S", 0.05)
    with pytest.raises(StoreError, match="cannot be had for writing"):
        PostgresContentWrites(postgres_url, schema)
    other = PostgresContentWrites(postgres_url, schema + "2")
    first.close()
    PostgresContentWrites(postgres_url, schema).close()
    other.run(f'DROP SCHEMA "{schema}2" CASCADE')
    other.close()


@pytest.mark.service
def test_tables_of_another_format_are_refused(postgres_url: str, schema: str) -> None:
    writes = PostgresContentWrites(postgres_url, schema)
    writes.run("UPDATE meta SET value = '1' WHERE name = 'format'")
    writes.close()
    with pytest.raises(StoreError, match="has format 1, this version of Millrace reads 2"):
        PostgresContentWrites(postgres_url, schema)
    with pytest.raises(StoreError, match="has format 1, this version of Millrace reads 2"):
        PostgresContentReads(postgres_url, schema).position()


@pytest.mark.service
def test_a_reader_whose_connection_was_cut_connects_again_and_a_writer_does_not(postgres_url: str, schema: str) -> None:
    store = ContentStore(PostgresContentWrites(postgres_url, schema), HASHER)
    write(store, [a_post_created(1, text="one")])
    reader = ContentReader(PostgresContentReads(postgres_url, schema), HASHER)
    assert texts(reader, 1, 1) == ["one"]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        connection.execute(f"{others} AND usename = current_user")
    assert texts(reader, 1, 1) == ["one"]
    with pytest.raises(StoreError, match="did not do as asked"):
        write(store, [a_post_created(2, text="two")], first=1)
    store.close()
    again = ContentStore(PostgresContentWrites(postgres_url, schema), HASHER)
    assert again.position == (1,)
    again.close()
    reader.close()


@pytest.mark.service
def test_a_read_that_takes_too_long_is_given_up(postgres_url: str, schema: str) -> None:
    writes = PostgresContentWrites(postgres_url, schema)
    reads = PostgresContentReads(postgres_url, schema, timeout_s=0.05)
    assert reads.position() == (0,)
    writes.begin()
    writes.run("LOCK TABLE posts")
    with pytest.raises(StoreError, match="timeout"):
        reads.posts([1], 1)
    writes.rollback()
    assert reads.posts([1], 1) == (0, {})
    reads.close()
    writes.close()


@pytest.mark.service
def test_an_erasure_leaves_no_dead_rows(postgres_url: str, schema: str) -> None:
    store = ContentStore(PostgresContentWrites(postgres_url, schema), HASHER)
    write(store, [a_post_created(1, "erin", text="the secret"), a_user_erased("erin")])
    store.note_purged(store.pending_erasures(), (2,))
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE EXTENSION pageinspect")
        pages = f"""SELECT bool_or(position('the secret'::bytea IN t_data) > 0)
                    FROM heap_page_items(get_raw_page('"{schema}".posts', 0))"""
        try:
            found = connection.execute(pages).fetchone()
        except psycopg.Error:  # the table has no page left
            found = None
        connection.rollback()
    assert found in (None, (None,), (False,))
    store.close()


@pytest.mark.service
def test_a_server_that_went_away_is_tried_again_after_a_moment() -> None:
    clock = ToldClock()
    with PostgresServer() as server:
        url = server.url
        reads = PostgresContentReads(url, clock=clock)
        assert reads.position() == (0,)
    for problem in ("did not do as asked", "is tried again in a moment"):
        with pytest.raises(StoreError, match=problem):
            reads.position()
    clock.s += 10
    with pytest.raises(StoreError, match="did not do as asked"):
        reads.position()


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    reads = PostgresContentReads("postgresql://user:pass-word@127.0.0.1:1/db", "feed")
    with pytest.raises(StoreError, match=r"content server '.*127\.0\.0\.1:1/db schema feed'") as told:
        reads.position()
    assert "pass-word" not in str(told.value)
