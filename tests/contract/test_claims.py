import contextlib
import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from millrace.base.errors import ConfigError, StoreError
from millrace.stores.claims import ClaimStore, MemoryClaims
from millrace.stores.redis_claims import RedisClaims
from millrace.stores.sqlite_claims import SqliteClaims
from millrace.testing.claims_contract import (
    ClaimsContract,
    OpenAnother,
    Page,
    SharedClaimsContract,
    check_against_model,
    page_sequences,
)


@pytest.fixture
def sqlite_claims(tmp_path: Path) -> Iterator[ClaimStore]:
    store = SqliteClaims(tmp_path / "data" / "claims.db")
    yield store
    store.close()


@pytest.fixture
def redis_claims(redis_url: str) -> Iterator[ClaimStore]:
    store = RedisClaims(redis_url, prefix=f"millrace-test-{uuid.uuid4().hex}")
    yield store
    store.close()


class TestMemoryClaims(ClaimsContract):
    @pytest.fixture
    def claims(self) -> ClaimStore:
        return MemoryClaims()


class TestSqliteClaims(SharedClaimsContract):
    @pytest.fixture
    def claims(self, tmp_path: Path) -> Iterator[ClaimStore]:
        store = SqliteClaims(tmp_path / "data" / "claims.db")
        yield store
        store.close()

    @pytest.fixture
    def open_another(self, tmp_path: Path) -> OpenAnother:
        return lambda: SqliteClaims(tmp_path / "data" / "claims.db")


@pytest.mark.service
class TestRedisClaims(SharedClaimsContract):
    @pytest.fixture
    def prefix(self) -> str:
        return f"millrace-test-{uuid.uuid4().hex}"

    @pytest.fixture
    def claims(self, redis_url: str, prefix: str) -> Iterator[ClaimStore]:
        store = RedisClaims(redis_url, prefix=prefix)
        yield store
        store.close()

    @pytest.fixture
    def open_another(self, redis_url: str, prefix: str) -> OpenAnother:
        return lambda: RedisClaims(redis_url, prefix=prefix)


def claim(claims: ClaimStore, viewer_id: int, *content_ids: int, now_ms: int = 0, owner: str = "a") -> list[bool]:
    ids = np.array(content_ids, dtype=np.int64)
    granted = claims.claim(viewer_id, ids, ids, owner=owner, now_ms=now_ms, ttl_ms=1_000, max_claims=10_000)
    return granted.tolist()  # type: ignore[no-any-return]


def test_sqlite_claims_sweep_what_ran_out_a_minute_later(tmp_path: Path) -> None:
    claims = SqliteClaims(tmp_path / "claims.db")
    for viewer_id in range(20):
        claim(claims, viewer_id, *range(1, 50))
        claims.keep_page(viewer_id, "k", b"page", now_ms=0, ttl_ms=100)
    claim(claims, 99, 1, now_ms=61_000)
    claims.keep_page(99, "k", b"page", now_ms=61_000, ttl_ms=100)
    assert claims._claims.read("SELECT viewer_id FROM claimed", ()) == [(99,)]
    assert claims._pages.read("SELECT viewer_id FROM pages", ()) == [(99,)]
    claims.close()


def test_sqlite_claims_of_a_viewer_stay_few_rows(tmp_path: Path) -> None:
    claims = SqliteClaims(tmp_path / "claims.db")
    for number in range(1, 200):
        claim(claims, 7, number, owner=f"o{number}", now_ms=number // 100 * 1_000)
    ((n_rows, n_bytes),) = claims._claims.read("SELECT count(*), sum(length(claims)) FROM claimed", ())
    assert n_rows <= 33
    assert n_bytes < 132 * 32, "what ran out was written again"
    claims.close()


def test_sqlite_claims_wait_for_the_disk(tmp_path: Path) -> None:
    claims = SqliteClaims(tmp_path / "claims.db")
    assert claims._claims._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert claims._claims._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    claims.close()


def test_sqlite_claims_are_read_while_another_process_writes(tmp_path: Path) -> None:
    claims = SqliteClaims(tmp_path / "claims.db")
    claim(claims, 7, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "claims.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM claimed")
        assert claims.claimed(7, 0).content_ids.tolist() == [1]
        other.execute("ROLLBACK")
    claims.close()


def test_sqlite_claims_of_the_first_layout_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE claims (viewer_id INTEGER, post_id INTEGER, owner TEXT, expires_ms INTEGER)")
        old.execute("CREATE TABLE takes (key TEXT, taken_ms INTEGER, expires_ms INTEGER)")
        old.execute("INSERT INTO claims VALUES (7, 1, 'a', 1)")
        old.commit()
    for _ in range(2):
        claims = SqliteClaims(path)
        tables = {name for (name,) in claims._claims.read("SELECT name FROM sqlite_master WHERE type = 'table'", ())}
        assert tables == {"claimed", "floors"}
        claims.close()
    claims = SqliteClaims(path)
    assert claim(claims, 7, 1) == [True]
    claims.close()


def test_what_is_forgotten_is_in_no_sqlite_file_any_more(tmp_path: Path) -> None:
    claims = SqliteClaims(tmp_path / "claims.db")
    claim(claims, 0x1122334455667788, 1)
    claims.keep_page(8, "k", b"the words of erin", now_ms=0, ttl_ms=100)
    needles = (0x1122334455667788.to_bytes(8, "big"), b"the words of erin")
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert all(any(needle in data for data in files) for needle in needles)
    claims.forget(0x1122334455667788)
    files = [path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".db-shm"]
    assert not any(needle in data for data in files for needle in needles)
    claims.close()


def test_processes_that_race_are_granted_each_content_once_also_after_they_were_killed(tmp_path: Path) -> None:
    program = [sys.executable, str(Path(__file__).with_name("claiming_process.py")), str(tmp_path / "claims.db")]
    processes = [
        subprocess.Popen([*program, owner, "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for owner in ("a", "b")
    ]
    granted: list[list[int]] = []
    try:
        for process in processes:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == "ready"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        granted = [json.loads(process.stdout.readline()) for process in processes]  # type: ignore[union-attr]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sorted(granted[0] + granted[1]) == list(range(1, 61))
    claims = SqliteClaims(tmp_path / "claims.db")
    assert sorted(claims.claimed(7, 0).content_ids.tolist()) == list(range(1, 61))
    claims.close()


@given(pages=page_sequences())
@settings(max_examples=300, deadline=None)
def test_claims_in_memory_do_what_the_model_does(pages: list[Page]) -> None:
    check_against_model(MemoryClaims(), pages)


@given(pages=page_sequences())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_claims_in_sqlite_do_what_the_model_does(sqlite_claims: ClaimStore, pages: list[Page]) -> None:
    check_against_model(sqlite_claims, pages)


@pytest.mark.service
@given(pages=page_sequences())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_claims_in_redis_do_what_the_model_does(redis_claims: ClaimStore, pages: list[Page]) -> None:
    check_against_model(redis_claims, pages)


def test_sqlite_claims_name_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    path.write_bytes(b"not a database, surely" * 100)
    with pytest.raises(StoreError, match=r"claims\.db.*restore it from a backup"):
        SqliteClaims(path)


def test_redis_claims_name_a_server_that_does_not_answer() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1.*start it or correct the url"):
        RedisClaims("redis://127.0.0.1:1/0", timeout_s=0.2)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush@127.0.0.1:1/0",
        "redis://user:hush@127.0.0.1:1/0",
        "redis://127.0.0.1:1/0?password=hush",
    ],
)
def test_redis_claims_keep_the_password_to_themselves(url: str) -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1") as caught:
        RedisClaims(url, timeout_s=0.2)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:hu/sh@127.0.0.1:1/0", "http://:hush@127.0.0.1/0", "hush"])
def test_a_redis_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"claims\.redis_url") as caught:
        RedisClaims(url)
    assert "hu" not in str(caught.value)
