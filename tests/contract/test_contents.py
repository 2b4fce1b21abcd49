from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.stores.content_cache import ContentCache
from millrace.stores.content_overlay import ContentReader
from millrace.stores.content_store import ContentStore
from millrace.stores.key_value import MemoryKeyValue
from millrace.stores.postgres_content import PostgresContentReads, PostgresContentWrites
from millrace.stores.sqlite_content import SqliteContentReads, SqliteContentWrites
from millrace.testing.content_contract import (
    ContentContract,
    ContentPlace,
    check_all_along,
    check_splits,
    histories,
)
from millrace.testing.told_clock import ToldClock

_NUMBERS = itertools.count()
KEEP_S = 10.0


class Places:
    """Opens places, and closes whatever was opened in them."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.clock = ToldClock()

    def sqlite(self, folder: Path, *, is_cached: bool = False) -> ContentPlace:
        path = folder / f"content-{next(_NUMBERS)}.db"
        return self._place(lambda: SqliteContentWrites(path), lambda: SqliteContentReads(path), is_cached)

    def postgres(self, url: str, *, is_cached: bool = False) -> ContentPlace:
        schema = f"content_{next(_NUMBERS)}"
        return self._place(
            lambda: PostgresContentWrites(url, schema),
            lambda: PostgresContentReads(url, schema, timeout_s=30),
            is_cached,
        )

    def _place(self, writes: Callable[[], Any], reads: Callable[[], Any], is_cached: bool) -> ContentPlace:
        shared = MemoryKeyValue(self.clock)

        def open_store(hasher: IdHasher) -> ContentStore:
            store = ContentStore(writes(), hasher)
            self.stack.callback(store.close)
            return store

        def open_reader(hasher: IdHasher) -> ContentReader:
            cache = ContentCache(100_000, self.clock, keep_s=KEEP_S, shared=lambda: shared) if is_cached else None
            reader = ContentReader(reads(), hasher, cache=cache)
            self.stack.callback(reader.close)
            return reader

        return ContentPlace(open_store, open_reader)

    def pass_time(self) -> None:
        self.clock.s += KEEP_S


@pytest.fixture
def places() -> Iterator[Places]:
    with ExitStack() as stack:
        yield Places(stack)


class TestSqliteContent(ContentContract):
    @pytest.fixture
    def place(self, places: Places, tmp_path: Path) -> ContentPlace:
        return places.sqlite(tmp_path)


class TestCachedContent(ContentContract):
    @pytest.fixture
    def place(self, places: Places, tmp_path: Path) -> ContentPlace:
        return places.sqlite(tmp_path, is_cached=True)


@pytest.mark.service
class TestPostgresContent(ContentContract):
    @pytest.fixture
    def place(self, places: Places, fresh_postgres_url: str) -> ContentPlace:
        return places.postgres(fresh_postgres_url)


@pytest.mark.service
class TestCachedPostgresContent(ContentContract):
    @pytest.fixture
    def place(self, places: Places, fresh_postgres_url: str) -> ContentPlace:
        return places.postgres(fresh_postgres_url, is_cached=True)


def quick(n_examples: int) -> Callable[[Any], Any]:
    return settings(max_examples=n_examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("is_cached", [False, True])
@quick(15)
@given(histories(), st.data())
def test_keeper_and_overlay_together_tell_the_same_wherever_the_keeper_is(
    tmp_path: Path, is_cached: bool, events: list[AnyEvent], data: st.DataObject
) -> None:
    with ExitStack() as stack:
        places = Places(stack)
        check_splits(lambda: places.sqlite(tmp_path, is_cached=is_cached), events, data)


@quick(20)
@given(histories(), st.data())
def test_what_is_kept_of_earlier_reads_is_never_stale(
    tmp_path: Path, events: list[AnyEvent], data: st.DataObject
) -> None:
    with ExitStack() as stack:
        places = Places(stack)
        check_all_along(
            lambda: places.sqlite(tmp_path, is_cached=True),
            lambda: places.sqlite(tmp_path),
            events,
            data,
            places.pass_time,
        )


@pytest.mark.service
@quick(15)
@given(histories(), st.data())
def test_on_postgres_keeper_and_overlay_together_tell_the_same(
    postgres_url: str, tmp_path: Path, events: list[AnyEvent], data: st.DataObject
) -> None:
    with ExitStack() as stack:
        places = Places(stack)
        check_all_along(
            lambda: places.postgres(postgres_url, is_cached=data.draw(st.booleans())),
            lambda: places.sqlite(tmp_path),
            events,
            data,
            places.pass_time,
        )
