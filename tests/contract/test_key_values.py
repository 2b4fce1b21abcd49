from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError, StoreError
from millrace.stores.key_value import SWEEP_EVERY_MS, KeyValueStore, MemoryKeyValue
from millrace.stores.redis_key_value import RedisKeyValue
from millrace.stores.sqlite_key_value import SqliteKeyValue
from millrace.testing.key_value_contract import (
    KeyValueContract,
    OpenAnother,
    SharedKeyValueContract,
    Step,
    check_against_model,
    steps,
)

NOW_MS = 1_800_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_MS)


@pytest.fixture
def prefix() -> str:
    return f"millrace-test-{uuid.uuid4().hex}"


class TestMemoryKeyValue(KeyValueContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> KeyValueStore:
        return MemoryKeyValue(clock)


class TestSqliteKeyValue(SharedKeyValueContract):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock) -> Iterator[KeyValueStore]:
        store = SqliteKeyValue(tmp_path / "data" / "held.db", clock)
        yield store
        store.close()

    @pytest.fixture
    def open_another(self, tmp_path: Path, clock: ManualClock) -> OpenAnother:
        return lambda: SqliteKeyValue(tmp_path / "data" / "held.db", clock)


@pytest.mark.service
class TestRedisKeyValue(SharedKeyValueContract):
    @pytest.fixture
    def store(self, redis_url: str, clock: ManualClock, prefix: str) -> Iterator[KeyValueStore]:
        store = RedisKeyValue(redis_url, clock, prefix=prefix)
        yield store
        store.close()

    @pytest.fixture
    def open_another(self, redis_url: str, clock: ManualClock, prefix: str) -> OpenAnother:
        return lambda: RedisKeyValue(redis_url, clock, prefix=prefix)


@settings(max_examples=60, deadline=None)
@given(steps())
def test_memory_is_a_dictionary_with_ends(calls: list[Step]) -> None:
    clock = ManualClock(NOW_MS)
    check_against_model(MemoryKeyValue(clock), clock, calls)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps())
def test_sqlite_is_a_dictionary_with_ends(tmp_path: Path, calls: list[Step]) -> None:
    clock = ManualClock(NOW_MS)
    store = SqliteKeyValue(tmp_path / f"{uuid.uuid4().hex}.db", clock)
    check_against_model(store, clock, calls)
    store.close()


@pytest.mark.service
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps())
def test_redis_is_a_dictionary_with_ends(redis_url: str, calls: list[Step]) -> None:
    clock = ManualClock(NOW_MS)
    store = RedisKeyValue(redis_url, clock, prefix=f"millrace-test-{next(_NUMBERS)}")
    check_against_model(store, clock, calls)
    store.close()


_NUMBERS = itertools.count()


def test_what_has_run_out_leaves_the_file_without_being_asked_for(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteKeyValue(tmp_path / "held.db", clock)
    store.set_many({b"a": b"the first secret"}, ttl_ms=10)
    clock.advance_ms(SWEEP_EVERY_MS)
    store.set_many({b"b": b"the second"})
    store.close()
    assert b"the first secret" not in (tmp_path / "held.db").read_bytes()
    assert b"the second" in (tmp_path / "held.db").read_bytes()


def test_a_file_that_is_none_is_told(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "held.db").write_bytes(b"this is no database, however long one looks at it" * 100)
    with pytest.raises(StoreError, match=r"key-value file .*held\.db.*: did not do as asked"):
        SqliteKeyValue(tmp_path / "held.db", clock)


@pytest.mark.parametrize("ttl_ms", [0, -1])
def test_a_life_of_nothing_is_refused(clock: ManualClock, ttl_ms: int) -> None:
    with pytest.raises(ValueError, match="ttl_ms"):
        MemoryKeyValue(clock).set_many({b"a": b"1"}, ttl_ms=ttl_ms)


def test_a_server_that_is_not_there_is_told_without_its_password(clock: ManualClock) -> None:
    store = RedisKeyValue("redis://user:pass-word@127.0.0.1:1/0", clock)
    with pytest.raises(StoreError, match="did not do as asked") as told:
        store.get_many([b"a"])
    assert "pass-word" not in str(told.value)
    store.close()


def test_a_url_that_is_none_is_told(clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match="not a redis URL"):
        RedisKeyValue("http://127.0.0.1", clock)


@pytest.mark.service
def test_redis_lets_go_of_what_has_run_out_by_itself(redis_url: str, clock: ManualClock, prefix: str) -> None:
    import redis

    store = RedisKeyValue(redis_url, clock, prefix=prefix)
    store.set_many({b"a": b"1"}, ttl_ms=1_000)
    store.set_many({b"b": b"1"})
    client = redis.Redis.from_url(redis_url)
    left_ms = [client.pttl(f"{prefix}:{key}") for key in "ab"]
    client.close()
    store.close()
    assert 1_000 < left_ms[0] <= 6_000
    assert left_ms[1] == -1
