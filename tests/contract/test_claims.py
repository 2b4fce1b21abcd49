import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.base.errors import StoreError
from millrace.stores.claims import ClaimStore, MemoryClaims, SqliteClaims
from millrace.stores.redis_claims import RedisClaims
from millrace.testing.claims_contract import ClaimsContract, OpenAnother, SharedClaimsContract

REDIS_URL = "redis://127.0.0.1:6379/0"


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
    def claims(self, prefix: str) -> Iterator[ClaimStore]:
        store = RedisClaims(REDIS_URL, prefix=prefix)
        yield store
        for key in store._redis.scan_iter(f"{prefix}:*"):
            store._redis.delete(key)
        store.close()

    @pytest.fixture
    def open_another(self, prefix: str) -> OpenAnother:
        return lambda: RedisClaims(REDIS_URL, prefix=prefix)


def test_sqlite_claims_sweep_what_ran_out_a_minute_later(tmp_path: Path) -> None:
    import numpy as np

    claims = SqliteClaims(tmp_path / "claims.db")
    posts = np.arange(1, 50, dtype=np.int64)
    for viewer_id in range(20):
        claims.claim(viewer_id, posts, owner="a", now_ms=0, ttl_ms=1_000)
    claims.claim(99, posts[:1], owner="b", now_ms=61_000, ttl_ms=1_000)
    assert claims._db.execute("SELECT count(*) FROM claims").fetchone() == (1,)
    claims.close()


def test_sqlite_claims_name_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    path.write_bytes(b"not a database, surely" * 100)
    with pytest.raises(StoreError, match=r"claims\.db.*it may be deleted"):
        SqliteClaims(path)


def test_redis_claims_name_a_server_that_does_not_answer() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1.*start it or correct the url"):
        RedisClaims("redis://127.0.0.1:1/0", timeout_s=0.2)
