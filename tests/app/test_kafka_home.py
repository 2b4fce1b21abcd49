"""A home whose log is a topic of a Kafka cluster (librdkafka's mock of one): keeper, replica, a page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from millrace.app import wiring
from millrace.app.intake import Intake, batches
from millrace.app.keeper_process import open_keeper
from millrace.app.settings import MillraceConfig, Settings
from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError
from millrace.events.envelope import AnyEvent
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest
from millrace.stores.claims import MemoryClaims
from millrace.stream.config import LogConfig
from millrace.stream.server_config import KafkaLogConfig
from millrace.testing.builders import NOW_MS, a_follow, a_post_created, a_post_edited
from millrace.testing.kafka_mock import MockKafka

pytestmark = pytest.mark.service


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with MockKafka() as cluster:
        cluster.make_log_topics("feed", 1)
        kafka = KafkaLogConfig(
            servers=cluster.servers, topic="feed", consumer_options={"fetch.wait.max.ms": "20"}, timeout_s=60
        )
        config = MillraceConfig(
            home=HomeConfig(deadline_ms=60_000, claim_timeout_ms=60_000, is_strict=True),
            log=LogConfig(backend="kafka", n_partitions=1, kafka=kafka, duplicate_window=1_000),
        )
        yield Settings(tmp_path, config)


def take(settings: Settings, clock: ManualClock, *events: AnyEvent) -> None:
    with Intake(settings, clock) as intake:
        for batch in batches(iter(events)):
            intake.take(batch)
        assert intake.refusals == []


def test_a_page_shows_what_the_keeper_kept_and_what_came_after(settings: Settings) -> None:
    clock = ManualClock(NOW_MS)
    take(settings, clock, a_follow("viewer", "ada"), *(a_post_created(f"p{n}", "ada", text=f"{n}") for n in range(2)))
    keeper = open_keeper(settings)
    keeper.start()
    keeper.stop()
    assert not settings.log_path.exists()
    take(settings, clock, a_post_edited("p1", text="edited"), a_post_created("p3", "ada", text="3"))
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock)
    checkpoint = replica.restore()
    assert checkpoint is not None
    kept = checkpoint.position
    replica.catch_up()
    assert kept < replica.position == log.end()
    service = wiring.build_feed_service(settings, replica, claims=MemoryClaims(), clock=clock)
    page = asyncio.run(service.home(FeedRequest(viewer_id="viewer", request_id="r1")))
    assert {post.post_id: post.text for post in page.posts} == {"p0": "0", "p1": "edited", "p3": "3"}
    replica.close()
    log.close()


def test_several_partitions_have_no_one_order_and_are_refused(settings: Settings) -> None:
    config = settings.config
    several = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, n_partitions=4))
    with pytest.raises(ConfigError, match=r"log.n_partitions = 1 for a home on Kafka"):
        wiring.build_log(Settings(settings.home, several))
