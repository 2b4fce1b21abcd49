"""The only place that builds everything: settings in, working parts out.

Everything else gets what it needs through its constructor. Reading this file from top to bottom tells what a
running Millrace consists of. Parts of the serving path are imported inside the functions that build them, so
that ``--help`` and small commands start at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from millrace.app.settings import MillraceConfig, Settings
from millrace.base.actions import ActionSpace
from millrace.base.clock import Clock, SystemClock, VirtualClock
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher
from millrace.base.params import Param, ParamSet
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry

if TYPE_CHECKING:
    from litestar import Litestar

    from millrace.pipeline.blueprint import Stages

    Revise = Callable[[Stages], Stages]

    from millrace.app.access import Gate
    from millrace.app.api_keys import ApiKeys
    from millrace.app.home_model_loading import HomeModelLoader
    from millrace.app.home_retrieval import HomeRetrieval
    from millrace.app.live_params import LiveParams
    from millrace.app.metrics import Metrics
    from millrace.app.social_refresh import SocialFollowers
    from millrace.app.tokens import ViewerTokens
    from millrace.events.importers.mapped import FileKind
    from millrace.events.importers.options import ImportOptions
    from millrace.events.importers.report import ImportReport
    from millrace.features.encoding.vector_inputs import VectorInputs
    from millrace.flywheel.logged_samples import LoggedSamples
    from millrace.flywheel.slate_join import SlateJoin
    from millrace.inference.live_models import LiveModels, ModelEvent
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.home_models import HomeModels, ModelSource, Predictor, VectorsFor
    from millrace.mixer.home_pipeline import HomeParts
    from millrace.mixer.service import FeedService
    from millrace.mixer.side_effects.served_log import ServedLogger
    from millrace.pipeline.outcome import PipelineObserver
    from millrace.pipeline.pipeline import Pipeline
    from millrace.registry.lanes import LaneReader
    from millrace.registry.manifest import Kind
    from millrace.registry.registry import Registry
    from millrace.stores.applier import EventListener
    from millrace.stores.checkpoint import Checkpoints
    from millrace.stores.claims import ClaimStore
    from millrace.stores.content_overlay import ContentReader
    from millrace.stores.content_store import ContentStore
    from millrace.stores.replica import Replica
    from millrace.stores.trace_store import FileTraces, NoTraces, TraceStore
    from millrace.stream.checks import EventCheck
    from millrace.stream.collector import Collector
    from millrace.stream.log import Log


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
    if not settings.log_path.exists():
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
    """Return the log of the home folder; any number of processes may open it."""
    from millrace.stream.sqlite_log import SqliteLog

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    clock = clock or build_event_clock(settings)
    stamps = clock.stamps if isinstance(clock, VirtualClock) else clock
    return SqliteLog.from_config(settings.log_path, stamps, settings.config.log)


def build_collector(settings: Settings, log: Log, codec: EventCodec, clock: Clock | None = None) -> Collector:
    """Return the door that every event passes, whoever sends it."""
    from millrace.app.virtual_time import tick_rule
    from millrace.stream.collector import Collector

    config = settings.config.log
    clock = clock or build_event_clock(settings)
    return Collector(
        log,
        codec,
        clock,
        max_event_bytes=config.max_event_bytes,
        max_batch_events=config.max_batch_events,
        rule=tick_rule(clock),
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

    return ContentStore(settings.content_path, hasher or IdHasher())


def build_content_reader(settings: Settings, hasher: IdHasher | None = None) -> ContentReader:
    """Return content reads for this process: the keeper's file, and an overlay of what it does not hold yet."""
    from millrace.stores.content_overlay import ContentReader

    return ContentReader(settings.content_path, hasher or IdHasher())


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
        content=build_content_reader(settings, shared) if has_content_reads else None,
        listeners=listeners,
        unread=codec.registry.unfolded_topics,
        tells_lag=not isinstance(clock, VirtualClock),
    )
    if isinstance(clock, VirtualClock):
        clock.follow(lambda: replica.state.watermark.events_ms)
    return replica


def metrics_dir(settings: Settings) -> Path:
    """Return where the processes of a home share their metrics."""
    return settings.run_dir / "metrics"


def build_feed_service(
    settings: Settings,
    replica: Replica[FeedState],
    served_logger: ServedLogger | None = None,
    *,
    features_logger: ServedLogger | None = None,
    claims: ClaimStore | None = None,
    observer: PipelineObserver | None = None,
    traces: TraceStore | None = None,
    clock: Clock | None = None,
    revise: Revise | None = None,
    models: ModelSource | None = None,
    retrieval: HomeRetrieval | None = None,
    followers: SocialFollowers | None = None,
) -> FeedService:
    """Return the feed service over a restored replica; its stages are listed in `millrace.mixer.home_pipeline`.

    Parameters
    ----------
    settings
        Sizes, times, and params at level ``config``.
    replica
        Restored already: the service keeps hold of the stores of its state.
    served_logger, features_logger
        Take `Served` events, and what models saw (`FeaturesLogged`, `CandidatesLogged`) if the config wants it logged.
    claims, observer, traces, clock
        Shared or replaced where somebody else needs them too; without ``traces`` none are kept. The clock is the
        replica's, if not said otherwise.
    revise
        Changes the home pipeline's stages; simulations alone give one.
    models
        Gives pages their models; None: those that the config or the registry name now.
    retrieval
        Hears what the replica folds; None: indexes are filled when they are first asked.
    followers
        Takes over social vectors that the keeper refreshes; None: nothing does.
    """
    from millrace.app.home_retrieval import HomeRetrieval
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.mixer.service import FeedService
    from millrace.mixer.value_model.profiles import values_in_effect

    config = settings.config
    retrieval = retrieval or HomeRetrieval(fills_at_once=True)
    retrieval.attach(replica.state)
    return FeedService(
        replica,
        replace(
            _home_parts(
                settings, replica.state, replica.content, served_logger, claims, clock or replica.clock, followers
            ),
            features_logger=features_logger if config.home.logs_features else None,
            revise=revise,
            models=models or build_models(settings),
            retriever_of=retrieval.retriever_of,
        ),
        replica.state.hasher,
        config.home,
        params=values_in_effect(config.home.value_profile, config.profiles, config.params),
        observer=observer,
        cursor_key=subkey(load_or_make_secret(settings), "cursor"),
        traces=traces,
    )


def _home_parts(
    settings: Settings,
    state: FeedState,
    content: ContentReader | None,
    served_logger: ServedLogger | None = None,
    claims: ClaimStore | None = None,
    clock: Clock | None = None,
    followers: SocialFollowers | None = None,
) -> HomeParts:
    from millrace.mixer.home_pipeline import HomeParts

    return HomeParts(
        state=state,
        content=content or build_content_reader(settings),
        claims=claims or build_claims(settings),
        actions=build_actions(settings),
        clock=clock or build_event_clock(settings),
        served_logger=served_logger,
        vectors_for=build_vectors(settings, state, followers),
    )


def build_registry(settings: Settings) -> Registry:
    """Return the registry of the home's models."""
    from millrace.registry.registry import Registry

    return Registry(settings.models_dir)


def build_model_loader(settings: Settings) -> HomeModelLoader:
    """Return what opens models of the home feed."""
    from millrace.app.home_model_loading import HomeModelLoader
    from millrace.features.encoding.candidates import dense_fields, schema_hash

    actions = build_actions(settings)
    home = settings.config.home
    return HomeModelLoader(schema_hash(actions), len(dense_fields(actions)), home.precision, home.rank_servers)


def build_live_models(
    settings: Settings, observe: Callable[[ModelEvent], None] = lambda _event: None
) -> LiveModels[HomeModels]:
    """Return the models that the registry's lanes name; `LiveModels.start` lets them follow it."""
    from millrace.inference.live_models import LiveModels

    loader = build_model_loader(settings)
    return LiveModels(
        build_registry(settings),
        loader.load,
        check=loader.check,
        warm=loader.warm,
        close=lambda models: models.close(),
        observe=observe,
        clock=build_clock(),
    )


def build_models(settings: Settings, live: LiveModels[HomeModels] | None = None) -> ModelSource:
    """Return what gives pages their models: folders that the config names, else what the registry names.

    Parameters
    ----------
    settings
        The home.
    live
        Follows the registry for as long as its owner lets it; None: the registry is looked at once, now.

    Raises
    ------
    ConfigError, SchemaError
        If a folder of the config holds no model, or one that was trained on other features.
    """
    from millrace.mixer.home_models import FixedModels, LeasedModels

    if folders := model_folders(settings):
        return FixedModels(_opened_models(build_model_loader(settings), folders))
    if live is None:
        live = build_live_models(settings)
        live.poll()
    return LeasedModels(live)


def build_vectors(settings: Settings, state: FeedState, followers: SocialFollowers | None = None) -> VectorsFor:
    """Return what gives each model the vectors that it was trained with, over a state; made once a model and state.

    ``followers`` takes over what the keeper refreshes; None: the vectors stay as they are now.

    It raises `StoreError` or `SchemaError` where a ranker's social encoder is missing, damaged, or another than it was
    trained with.
    """
    from weakref import WeakKeyDictionary

    from millrace.app.social_refresh import newest_vectors
    from millrace.features.encoding.vector_inputs import NOTHING
    from millrace.features.social_lookup import SocialLookup
    from millrace.inference.model_vectors import vector_inputs

    made: WeakKeyDictionary[Predictor, VectorInputs] = WeakKeyDictionary()

    def vectors_for(model: Predictor) -> VectorInputs:
        from millrace.inference.ranker_model import RankerModel  # a model is there, and ONNX Runtime with it

        if not isinstance(model, RankerModel):
            return NOTHING
        found = made.get(model)
        if found is None:
            social = newest_vectors(settings, model.folder, model.config.social)
            lookup = None if social is None else SocialLookup(social, state.follow_graph)
            if lookup is not None and followers is not None:
                followers.follow(lookup, model.config.social)
            found = made[model] = vector_inputs(model.codebooks, lookup, state.texts)
        return found

    return vectors_for


_OPENED: dict[tuple[tuple[tuple[Kind, Path], ...], str], HomeModels] = {}


def _opened_models(loader: HomeModelLoader, folders: dict[Kind, Path]) -> HomeModels:
    """Return the models of folders, opened once a process: simulations build their service anew every slice."""
    key = (tuple(folders.items()), loader.schema)
    if key not in _OPENED:
        _OPENED[key] = loader.open(folders, {kind: str(folder) for kind, folder in folders.items()})
    return _OPENED[key]


def model_folders(settings: Settings) -> dict[Kind, Path]:
    """Return the folders of models that the config names, by kind; relative ones are below the home."""
    home = settings.config.home
    named: dict[Kind, str] = {"ranker": home.ranker, "retrieval": home.retrieval, "pre_ranker": home.pre_ranker}
    return {kind: Path(settings.home, folder) for kind, folder in named.items() if folder}


def build_home_pipeline(
    settings: Settings,
    state: FeedState,
    clock: Clock | None = None,
    revise: Revise | None = None,
    retrieval: HomeRetrieval | None = None,
) -> Pipeline:
    """Return the home pipeline over a state, to look with: its claims are its own and empty, and it logs nothing.

    It takes its models from its queries (`millrace.mixer.home_models.MODELS`); without ``retrieval`` none finds posts.
    """
    from millrace.mixer.home_pipeline import home_pipeline
    from millrace.stores.claims import MemoryClaims

    parts = replace(_home_parts(settings, state, None, claims=MemoryClaims(), clock=clock), revise=revise)
    if retrieval is not None:
        retrieval.attach(state)
        parts = replace(parts, retriever_of=retrieval.retriever_of)
    return home_pipeline(parts, settings.config.home)


def build_slate_join(settings: Settings, hasher: IdHasher, *, window_ms: int, takes_all: bool) -> SlateJoin:
    """Return what joins a log's impressions with what was done, by the thresholds of the home."""
    from millrace.flywheel.slate_join import SlateJoin

    dwell = settings.config.stores.engagements.dwell
    return SlateJoin(hasher, build_actions(settings), dwell, window_ms=window_ms, takes_all=takes_all)


def build_logged_samples(settings: Settings, hasher: IdHasher, *, window_ms: int) -> LoggedSamples:
    """Return what reads the home's warehouse as samples, by the thresholds of the home."""
    from millrace.flywheel.logged_samples import LoggedSamples
    from millrace.flywheel.warehouse import Warehouse

    codec = build_codec(settings)
    join = build_slate_join(settings, hasher, window_ms=window_ms, takes_all=True)
    warehouse = Warehouse(settings.warehouse_dir, codec)
    return LoggedSamples(warehouse, codec, hasher, join, settings.config.content, str(settings.home))


def build_idle_pipelines(settings: Settings) -> list[Pipeline]:
    """Return every pipeline over empty stores, to look at; nothing of the home is opened."""
    from millrace.mixer.following_pipeline import following_pipeline
    from millrace.mixer.home_pipeline import home_pipeline
    from millrace.stores.claims import MemoryClaims

    parts = _home_parts(settings, build_state(settings), None, claims=MemoryClaims())
    home = settings.config.home
    return [home_pipeline(parts, home), following_pipeline(parts, home)]


def declared_params(settings: Settings) -> Mapping[str, Param]:
    """Return every param of every pipeline, by name."""
    return {name: param for pipeline in build_idle_pipelines(settings) for name, param in pipeline.params.items()}


def config_params(settings: Settings, declared: Mapping[str, Param]) -> ParamSet:
    """Return the params that a config adds up to, those of its value profile included.

    Raises
    ------
    ConfigError
        Naming every problem of the params and of all profiles.
    """
    from millrace.mixer.value_model.profiles import params_in_effect

    config = settings.config
    return params_in_effect(config.home.value_profile, config.profiles, config.params, declared)


def check_params(settings: Settings) -> None:
    """Check the config's params and profiles against what the pipelines declare; raises as `config_params` does."""
    config = settings.config
    if config.params or config.profiles or config.home.value_profile != MillraceConfig().home.value_profile:
        config_params(settings, declared_params(settings))


def build_http_app(
    settings: Settings,
    replica: Replica[FeedState],
    clock: Clock | None = None,
    retrieval: HomeRetrieval | None = None,
) -> Litestar:
    """Return one worker's HTTP service around a replica that the worker restores and follows.

    ``retrieval`` is one of the replica's listeners; None: posts are not found by learned vectors.
    """
    from millrace.app.door import DoorThread
    from millrace.app.feed_app import FeedApp
    from millrace.app.home_retrieval import HomeRetrieval
    from millrace.app.metrics import MetricsObserver
    from millrace.app.social_refresh import SocialFollowers

    metrics = build_metrics(settings)
    codec = build_codec(settings)
    clock = clock or build_event_clock(settings)
    collector = build_collector(settings, replica.log, codec, clock)

    traces = build_traces(settings)

    live_models = build_live_models(settings, metrics.models)
    retrieval, followers = retrieval or HomeRetrieval(), SocialFollowers(settings.social_dir)

    def make_service(served_logger: ServedLogger, features_logger: ServedLogger) -> FeedService:
        return build_feed_service(
            settings,
            replica,
            served_logger,
            features_logger=features_logger,
            observer=MetricsObserver(metrics),
            traces=traces,
            clock=clock,
            models=build_models(settings, live_models),
            retrieval=retrieval,
            followers=followers,
        )

    live, gate = build_live_params(settings, metrics), build_gate(settings)
    return FeedApp(
        settings.config,
        replica,
        make_service,
        DoorThread(collector),
        metrics,
        live,
        gate,
        codec.json_schema(),
        traces,
        clock,
        live_models,
        build_lanes(settings),
        retrieval,
        followers,
    ).asgi


def build_lanes(settings: Settings) -> LaneReader:
    """Return what tells the lane that a request asks for."""
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.registry.lanes import PURPOSE, LaneReader

    return LaneReader(subkey(load_or_make_secret(settings), PURPOSE), build_clock())


def build_live_params(settings: Settings, metrics: Metrics) -> LiveParams:
    """Return the params of a serving process, which follow edits of the home's file."""
    from millrace.app.live_params import LiveParams

    declared = declared_params(settings)
    return LiveParams(settings, lambda edited: config_params(edited, declared), metrics)


def build_gate(settings: Settings) -> Gate:
    """Return what tells who a caller is, by the mode of the home."""
    from millrace.app.access import Gate

    if settings.config.auth.mode == "development":
        return Gate()
    return Gate(build_tokens(settings), build_api_keys(settings))


def build_tokens(settings: Settings) -> ViewerTokens:
    """Return what makes and reads viewers' tokens; the home's secret is made where there is none."""
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.app.tokens import PURPOSE, ViewerTokens

    key = subkey(load_or_make_secret(settings), PURPOSE)
    return ViewerTokens(key, clock_skew_s=settings.config.auth.clock_skew_s)


def build_api_keys(settings: Settings) -> ApiKeys:
    """Return the home's API keys."""
    from millrace.app.api_keys import ApiKeys

    return ApiKeys(settings.keys_path)


def build_metrics(settings: Settings) -> Metrics:
    """Return this process's metrics, summed with those of the home's other processes where they are asked for."""
    from millrace.app.metrics import Metrics

    return Metrics(metrics_dir(settings))


def build_import(name: str, path: Path, options: ImportOptions, report: ImportReport) -> Iterator[AnyEvent]:
    """Return a public data set as events; ``report`` is filled while they are taken.

    Raises
    ------
    ConfigError
        If no data set has that name.
    """
    from millrace.events.importers import IMPORTERS

    if name not in IMPORTERS:
        raise ConfigError("data set", value=name, problem="not known", remedy=f"use one of {', '.join(IMPORTERS)}")
    return IMPORTERS[name](path, options, report)


def build_mapped_import(
    settings: Settings,
    kind: FileKind,
    path: Path,
    map_path: Path,
    options: ImportOptions,
    report: ImportReport,
    *,
    check_rows: int,
) -> Iterator[AnyEvent]:
    """Return a foreign file as events, by a mapping; its first ``check_rows`` rows have been tried when it returns.

    Raises
    ------
    ConfigError
        If the mapping is wrong, or does not fit the file.
    SourceDataError
        If the file cannot be read.
    """
    from millrace.events.importers.map_file import load_map
    from millrace.events.importers.mapped import MappedFile

    codec = build_codec(settings)
    file_map = load_map(map_path, codec)
    return MappedFile(kind, path, file_map, codec, options, check_rows=check_rows).events(report)


def build_event_check(settings: Settings) -> EventCheck:
    """Return what the door checks events by, without the door."""
    from millrace.stream.checks import EventCheck

    return EventCheck(build_codec(settings), max_event_bytes=settings.config.log.max_event_bytes)
