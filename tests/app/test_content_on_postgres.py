"""A home whose texts and names stand on a PostgreSQL server: the keeper writes them, a worker's pages show them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from millrace.app import wiring
from millrace.app.feature_sheets import FeatureSheets, PostFeatureSheet
from millrace.app.intake import Intake, batches
from millrace.app.keeper_process import open_keeper, run_keeper
from millrace.app.settings import MillraceConfig, Settings
from millrace.base.clock import ManualClock
from millrace.base.errors import StoreError
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest
from millrace.stores.claims import MemoryClaims
from millrace.stores.content_store_config import ContentStoreConfig
from millrace.testing.builders import (
    NOW_MS,
    a_follow,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_profile_updated,
)
from millrace.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.service


def test_pages_show_what_the_keeper_wrote_and_what_it_has_not_yet(
    tmp_path: Path, fresh_postgres_url: str, redis_url: str
) -> None:
    schema = "a home's content"
    config = MillraceConfig(
        home=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, content_timeout_ms=30_000, is_strict=True),
        content_store=ContentStoreConfig(
            backend="postgres",
            postgres_url=fresh_postgres_url,
            schema=schema,
            timeout_ms=30_000,
            cache_redis_url=redis_url,
        ),
    )
    settings = Settings(tmp_path, config)
    clock = ManualClock(NOW_MS)

    def take(*events: object) -> None:
        with Intake(settings, clock) as intake:
            for batch in batches(iter(events)):  # type: ignore[arg-type]
                intake.take(batch)
            assert intake.refusals == []

    take(
        a_follow("viewer", "ada"),
        a_profile_updated("ada", name="Ada"),
        *(a_post_created(f"p{n}", "ada", text=f"text {n}") for n in range(4)),
    )
    keeper = open_keeper(settings)
    keeper.start()
    while keeper.turn():
        pass
    assert not settings.content_path.exists()
    take(a_post_edited("p1", text="edited"), a_post_deleted("p2"))  # the keeper has not come so far
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock)
    replica.catch_up()
    assert replica.content is not None
    assert replica.content.is_covered()
    service = wiring.build_feed_service(settings, replica, claims=MemoryClaims(), clock=clock)
    with asyncio.Runner() as runner:

        def page(request_id: str) -> dict[str, tuple[str, str]]:
            response = runner.run(service.home(FeedRequest(viewer_id="viewer", request_id=request_id)))
            return {item.post_id: (item.text, item.author.name) for item in response.posts}

        assert page("r1") == {"p0": ("text 0", "Ada"), "p1": ("edited", "Ada"), "p3": ("text 3", "Ada")}
        assert replica.content.cache is not None
        n_read = replica.content.cache.posts.counts.n_loads
        assert n_read > 0
        keeper.stop()
        found = replica.content.posts(replica.state.hasher.posts(["p0", "p1", "p2", "p3"]), replica.position)
        assert [post and post.text for post in found] == ["text 0", "edited", None, "text 3"]
        assert replica.content.cache.posts.counts.n_loads <= n_read + 1  # only the deleted post was not asked for
    replica.close()
    log.close()


def test_a_keeper_waits_for_a_content_server_that_is_away_tells_it_once_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, n_waits, is_ready = ManualClock(NOW_MS), 0, False
    with PostgresServer() as server:
        url = server.url.replace("millrace@", "millrace:hushhush@")
        store = ContentStoreConfig(backend="postgres", postgres_url=url, timeout_ms=30_000)
        settings = Settings(tmp_path, MillraceConfig(content_store=store))
        with Intake(settings, clock) as intake:
            for batch in batches(iter([a_post_created("p0", "ada", text="said meanwhile")])):
                intake.take(batch)
        server.go_away()
        with pytest.raises(StoreError, match="Connection refused"):
            run_keeper(settings, should_stop=lambda: False)  # at a first start the operator hears of it

        def wait(_seconds: float) -> None:
            nonlocal n_waits
            n_waits += 1
            if n_waits == 20:
                server.come_back()

        def ready() -> None:
            nonlocal is_ready
            is_ready = True

        with caplog.at_level("INFO", logger="millrace.app.keeper_process"):
            run_keeper(settings, should_stop=lambda: is_ready, wait=wait, on_ready=ready, waits_for_content=True)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM millrace_content.posts").fetchone() == (1,)
        server.go_away()
        run_keeper(settings, should_stop=lambda: True, waits_for_content=True)  # told to end while it waits
    away, back = [message for message in caplog.messages if message.startswith("content server")]
    assert away.startswith("content server 'postgresql://***@127.0.0.1:")
    assert "start it, or correct content_store.postgres_url" in away
    assert "hushhush" not in away
    assert back.startswith("content server is back after ")


def test_feature_sheets_wait_for_the_server_without_holding_up_the_event_loop(
    tmp_path: Path, fresh_postgres_url: str
) -> None:
    store = ContentStoreConfig(
        backend="postgres", postgres_url=fresh_postgres_url, schema="of_sheets", timeout_ms=30_000
    )
    settings = Settings(tmp_path, MillraceConfig(content_store=store))
    clock = ManualClock(NOW_MS)
    with Intake(settings, clock) as intake:
        for batch in batches(iter([a_post_created("p0", "ada")])):
            intake.take(batch)
    keeper = open_keeper(settings)
    keeper.start()
    while keeper.turn():
        pass
    keeper.stop()
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock)
    replica.catch_up()
    sheets = FeatureSheets.of(settings, replica, NOW_MS)
    with psycopg.connect(fresh_postgres_url) as other:
        other.execute(f"SET search_path = {store.schema}")
        other.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")

        async def read() -> PostFeatureSheet:
            # Nobody but the loop itself lets go of the table that the read waits for.
            asyncio.get_running_loop().call_soon(other.rollback)
            return await sheets.post("p0")

        assert asyncio.run(read()).author_id == "ada"
    replica.close()
    log.close()


def test_two_feeds_that_share_a_redis_read_nothing_of_each_other(
    tmp_path: Path, fresh_postgres_url: str, redis_url: str
) -> None:
    with psycopg.connect(fresh_postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE another_feed")
    clock = ManualClock(NOW_MS)
    texts: list[str] = []
    for name, url in (
        ("one", fresh_postgres_url),
        ("other", conninfo.make_conninfo(fresh_postgres_url, dbname="another_feed")),
    ):
        store = ContentStoreConfig(
            backend="postgres", postgres_url=url, schema="of_a_feed", timeout_ms=30_000, cache_redis_url=redis_url
        )
        settings = Settings(tmp_path / name, MillraceConfig(content_store=store))
        with Intake(settings, clock) as intake:
            for batch in batches(iter([a_post_created("p0", "ada", text=f"of the {name}")])):
                intake.take(batch)
        keeper = open_keeper(settings)
        keeper.start()
        while keeper.turn():
            pass
        keeper.stop()
        log = wiring.build_log(settings, clock)
        replica = wiring.build_replica(settings, log, clock=clock)
        replica.catch_up()
        assert replica.content is not None
        (post,) = replica.content.posts(replica.state.hasher.posts(["p0"]), replica.position)
        assert post is not None
        texts.append(post.text)
        replica.close()
        log.close()
    assert texts == ["of the one", "of the other"]
