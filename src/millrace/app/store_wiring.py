"""What every process of a home begins with: clock, codec, log, stores, and the replica that keeps them up.

A part of `millrace.app.wiring`, which gives all of it on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from millrace.app.settings import Settings
from millrace.base.actions import ActionSpace
from millrace.base.clock import Clock, SystemClock, VirtualClock
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry

if TYPE_CHECKING:
    from millrace.app.metrics import Metrics
    from millrace.mixer.feed_state import FeedState
    from millrace.stores.applier import EventListener
    from millrace.stores.checkpoint import Checkpoints
    from millrace.stores.claims import ClaimStore
    from millrace.stores.content_cache import ContentCache
    from millrace.stores.content_database import ContentWrites
    from millrace.stores.content_overlay import ContentReader
    from millrace.stores.content_store import ContentStore
    from millrace.stores.key_value import KeyValueStore
    from millrace.stores.replica import Replica
    from millrace.stores.trace_store import FileTraces, NoTraces
    from millrace.stream.collector import Collector
    from millrace.stream.log import Log

_SHARED_CACHE_S: Final = 0.1
_SHARED_CACHE_FRAC: Final = 0.4
"""Of the time that a page waits for content, what a Redis that is shared as a cache may take."""


def build_clock() -> Clock:
    """Return real time: of tokens, keys and whatever else belongs to the machine and not to the feed."""
    return SystemClock()


def build_event_clock(settings: Settings) -> Clock:
    """Return the clock of a home's feed: real, or virtual with what the log tells as of now.

    A virtual one goes on where it is given to a replica (`build_replica`), which then moves it.
    """
    from millrace.app.virtual_time import has_virtual_time, newest_tick_ms

    if not has_virtual_time(settings):
        return SystemClock()
    if not has_log(settings):
        return VirtualClock()
    log = build_log(settings, SystemClock())
    try:
        return VirtualClock(newest_tick_ms(log, build_codec(settings)))
    finally:
        log.close()


def build_codec(settings: Settings) -> EventCodec:
    """Return the codec of the built-in event types and the operator's own."""
    events = settings.config.events
    return EventCodec(EventRegistry.from_modules(events.modules), build_actions(settings))


def build_actions(settings: Settings) -> ActionSpace:
    """Return the built-in actions and the operator's business actions."""
    return ActionSpace(settings.config.events.business_actions)


def build_log(settings: Settings, clock: Clock | None = None) -> Log:
    """Return the home's log, a file of its own or on servers; any number of processes may open it.

    Raises
    ------
    ConfigError
        If the log is on Kafka with several partitions: a home's state is folded in one order.
    """
    config = settings.config.log
    clock = clock or build_event_clock(settings)
    stamps = clock.stamps if isinstance(clock, VirtualClock) else clock
    if config.backend == "redis":
        from millrace.stream.redis_log import RedisLog

        return RedisLog.from_config(stamps, config)
    if config.backend == "kafka":
        from millrace.stream.kafka_log import KafkaLog

        if config.n_partitions != 1:
            raise ConfigError(
                "config key log.n_partitions",
                value=config.n_partitions,
                problem="a home's state is folded in one order, and Kafka keeps one within a partition only",
                remedy="set log.n_partitions = 1 for a home on Kafka, or use the redis backend, which has one order "
                "over all partitions",
            )
        return KafkaLog.from_config(stamps, config)
    from millrace.stream.sqlite_log import SqliteLog

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return SqliteLog.from_config(settings.log_path, stamps, config)


def has_log(settings: Settings) -> bool:
    """Whether the home has a log already; one on servers is made where it is first opened."""
    return settings.config.log.backend != "sqlite" or settings.log_path.exists()


def build_collector(
    settings: Settings, log: Log, codec: EventCodec, clock: Clock | None = None, metrics: Metrics | None = None
) -> Collector:
    """Return the door that every event passes, whoever sends it; clients' traffic is watched."""
    from millrace.app.virtual_time import tick_rule
    from millrace.stream.collector import Collector
    from millrace.stream.traffic import TrafficWatch

    config = settings.config.log
    clock = clock or build_event_clock(settings)
    return Collector(
        log,
        codec,
        clock,
        max_event_bytes=config.max_event_bytes,
        max_batch_events=config.max_batch_events,
        rule=tick_rule(clock),
        watch=TrafficWatch(settings.config.traffic),
        **({} if metrics is None else {"observe": metrics.traffic}),
    )


def build_claims(settings: Settings) -> ClaimStore:
    """Return the store of what must be atomic across workers."""
    config = settings.config.claims
    if config.backend == "redis":
        from millrace.stores.redis_claims import RedisClaims

        return RedisClaims(config.redis_url)
    from millrace.stores.sqlite_claims import SqliteClaims

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return SqliteClaims(settings.claims_path)


def build_traces(settings: Settings) -> FileTraces | NoTraces:
    """Return this process's way to the traces of the home's requests; a slot is taken with the first request id.

    Request ids come from its clock and must never come twice: real time, also where event time stands still.
    """
    from millrace.stores.trace_store import FileTraces, NoTraces

    config = settings.config.traces
    if not config.is_on:
        return NoTraces()
    return FileTraces(settings.traces_dir, build_clock(), config.max_mb * 1_000_000)


def build_checkpoints(settings: Settings) -> Checkpoints:
    """Return the home's checkpoints; those written under another layout of the state are refused."""
    from millrace.stores.checkpoint import Checkpoints

    return Checkpoints(
        settings.checkpoints_dir,
        state_fingerprint(settings),
        settings.config.replica.n_checkpoints,
        actions=build_actions(settings).names,
    )


def state_fingerprint(settings: Settings) -> str:
    """Return a hash of the settings that decide what the state's arrays hold.

    Times that readers apply do not, and business actions may be appended: checkpoints name their actions themselves.
    """
    from millrace.stores.state import STATE_VERSION

    stores = settings.config.stores
    engagements = msgspec.structs.replace(stores.engagements, affinity_half_life_ms=60_000)
    seen = msgspec.structs.replace(stores.seen, seen_ttl_ms=0, served_ttl_ms=0)
    layout = msgspec.structs.replace(stores, engagements=engagements, seen=seen)
    parts = (STATE_VERSION, layout, settings.config.content)
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()


def build_content_store(settings: Settings, hasher: IdHasher | None = None) -> ContentStore:
    """Return the write side of the content store; one process of a home may hold it, the keeper."""
    from millrace.stores.content_store import ContentStore

    return ContentStore(_content_writes(settings), hasher or IdHasher())


def _content_writes(settings: Settings) -> ContentWrites:
    config = settings.config.content_store
    if config.backend == "postgres":
        from millrace.stores.postgres_content import PostgresContentWrites

        return PostgresContentWrites(config.postgres_url, config.schema)
    from millrace.stores.sqlite_content import SqliteContentWrites

    return SqliteContentWrites(settings.content_path)


def build_content_reader(
    settings: Settings, hasher: IdHasher | None = None, *, follows: Log | None = None
) -> ContentReader:
    """Return content reads for this process: what the keeper has written, and an overlay of what it has not yet.

    ``follows`` is the log that the overlay will hear, if it will: only then may reads be kept.
    """
    from millrace.stores.content_overlay import ContentReader

    hasher = hasher or IdHasher()
    config = settings.config.content_store
    if config.backend == "postgres":
        from millrace.stores.postgres_content import PostgresContentReads

        reads = PostgresContentReads(
            config.postgres_url, config.schema, timeout_s=config.timeout_ms / 1_000, clock=build_clock()
        )
        return ContentReader(reads, hasher, cache=None if follows is None else _content_cache(settings, follows))
    from millrace.stores.sqlite_content import SqliteContentReads

    return ContentReader(SqliteContentReads(settings.content_path), hasher)


def _content_cache(settings: Settings, log: Log) -> ContentCache:
    from millrace.stores.content_cache import FORMAT, ContentCache

    config = settings.config.content_store
    clock = build_clock()  # not of the feed: what is kept runs out by the machine's time
    # A Redis that hangs must leave a page the time to ask the database.
    timeout_s = min(_SHARED_CACHE_S, _SHARED_CACHE_FRAC * settings.config.home.content_timeout_ms / 1_000)
    # Log positions, and so entries, are of one log: two feeds may share a Redis, and a schema's name.
    prefix = f"millrace:content-{FORMAT}:{log.log_id}:{config.schema}"

    def shared() -> KeyValueStore:
        from millrace.stores.redis_key_value import RedisKeyValue

        return RedisKeyValue(config.cache_redis_url, clock, prefix=prefix, timeout_s=timeout_s)

    return ContentCache(
        config.cache_mb * 1_000_000,
        clock,
        keep_s=config.cache_keep_s,
        shared=shared if config.cache_redis_url else None,
    )


def build_state(settings: Settings, hasher: IdHasher | None = None) -> FeedState:
    """Return every store, empty; `FeedState.folds` is the one list of what an event may change."""
    from millrace.mixer.feed_state import FeedState

    return FeedState(settings.config.stores, hasher or IdHasher(), build_actions(settings), settings.config.content)


def build_replica(
    settings: Settings,
    log: Log,
    *,
    listeners: Sequence[EventListener] = (),
    has_content_reads: bool = True,
    clock: Clock | None = None,
    hasher: IdHasher | None = None,
) -> Replica[FeedState]:
    """Return this process's copy of the state, still empty: `Replica.restore` and `catch_up` fill it.

    Parameters
    ----------
    settings, log
        The home and its log.
    listeners
        Hear every event after the folds have applied it.
    has_content_reads
        Whether this process shows posts, and so reads content.
    clock
        Tells whether following has stalled; a virtual one is moved by the ticks that this replica folds.
    hasher
        Shared with the caller's listeners, where they hash ids too.
    """
    from millrace.app.virtual_time import TickListener
    from millrace.stores.replica import Replica

    shared = hasher or IdHasher()  # one a process: what one store has hashed, the others look up
    clock = clock or build_event_clock(settings)
    if isinstance(clock, VirtualClock):
        listeners = (*listeners, TickListener(clock))
    codec = build_codec(settings)
    replica = Replica(
        log,
        codec.decode,
        lambda: build_state(settings, shared),
        build_checkpoints(settings),
        clock=clock,
        config=settings.config.replica,
        content=build_content_reader(settings, shared, follows=log) if has_content_reads else None,
        listeners=listeners,
        unread=codec.registry.unfolded_topics,
        tells_lag=not isinstance(clock, VirtualClock),
    )
    if isinstance(clock, VirtualClock):
        clock.follow(lambda: replica.state.watermark.events_ms)
    return replica
