import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.base.errors import ConfigError, StoreError
from millrace.stores.claims import ClaimStore, MemoryClaims, SqliteClaims
from millrace.stores.redis_claims import RedisClaims
from millrace.testing.claims_contract import ClaimsContract, OpenAnother, SharedClaimsContract


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
