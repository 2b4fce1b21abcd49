"""A PostgreSQL server of the run's own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg
import pytest

from millrace.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.service


def test_tests_find_a_database_that_keeps_what_is_written(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as one, psycopg.connect(postgres_url) as other:
        one.execute("CREATE TABLE kept_here (number bigint)")
        one.execute("INSERT INTO kept_here VALUES (7)")
        one.commit()
        assert other.execute("SELECT number FROM kept_here").fetchall() == [(7,)]
        other.rollback()
        one.execute("DROP TABLE kept_here")


def test_a_fresh_schema_is_empty_and_is_where_tables_are_made(fresh_postgres_url: str) -> None:
    with psycopg.connect(fresh_postgres_url) as connection:
        count = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
        assert connection.execute(count).fetchall() == [(0,)]
        connection.execute("CREATE TABLE mine ()")
        assert connection.execute(count).fetchall() == [(1,)]


def test_nothing_is_left_of_a_server_that_ended() -> None:
    with PostgresServer(work_mem="3MB") as server:
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW work_mem").fetchall() == [("3MB",)]
            folder = Path(connection.execute("SHOW data_directory").fetchall()[0][0]).parent
        assert folder.is_dir()
        url = server.url
    assert not folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with pytest.raises(RuntimeError, match="work_mem"), PostgresServer(work_mem="nonsense"):
            pass
        assert list(Path(folder).iterdir()) == []
