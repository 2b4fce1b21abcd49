"""The only place that builds everything: settings in, working parts out.

Everything else gets what it needs through its constructor. Reading this file from top to bottom tells what a
running Millrace consists of; what every process begins with is in `store_wiring`, its models are in
`model_wiring`. Parts of the serving path are imported inside the functions that build them, so that ``--help`` and
small commands start at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.app.model_wiring import (
    build_lanes,
    build_live_models,
    build_model_loader,
    build_models,
    build_registry,
    build_vectors,
    everybodys_ranker,
    model_folders,
    serving_codebooks,
)
from millrace.app.sample_wiring import (
    build_join_process,
    build_sample_compaction,
    build_sample_files,
    build_sample_store,
)
from millrace.app.settings import MillraceConfig, Settings
from millrace.app.store_wiring import (
    build_actions,
    build_checkpoints,
    build_claims,
    build_clock,
    build_codec,
    build_collector,
    build_content_reader,
    build_content_store,
    build_event_clock,
    build_log,
    build_replica,
    build_state,
    build_traces,
    has_log,
    state_fingerprint,
)
from millrace.base.clock import Clock
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher
from millrace.base.params import Param, ParamSet
from millrace.events.envelope import AnyEvent

if TYPE_CHECKING:
    from litestar import Litestar

    from millrace.pipeline.blueprint import Stages

    Revise = Callable[[Stages], Stages]

    from millrace.app.access import Gate
    from millrace.app.api_keys import ApiKeys
    from millrace.app.home_retrieval import HomeRetrieval
    from millrace.app.live_params import LiveParams
    from millrace.app.metrics import Metrics
    from millrace.app.social_refresh import SocialFollowers
    from millrace.app.tokens import ViewerTokens
    from millrace.content.semantic_ids import Codebooks
    from millrace.events.importers.mapped import FileKind
    from millrace.events.importers.options import ImportOptions
    from millrace.events.importers.report import ImportReport
    from millrace.features.store.feature_store import FeatureStore
    from millrace.flywheel.logged_samples import LoggedSamples
    from millrace.flywheel.slate_join import SlateJoin
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.home_models import ModelSource
    from millrace.mixer.home_pipeline import HomeParts
    from millrace.mixer.service import FeedService
    from millrace.mixer.side_effects.served_log import ServedLogger
    from millrace.pipeline.outcome import PipelineObserver
    from millrace.pipeline.pipeline import Pipeline
    from millrace.stores.claims import ClaimStore
    from millrace.stores.content_overlay import ContentReader
    from millrace.stores.replica import Replica
    from millrace.stores.trace_store import TraceStore
    from millrace.stream.checks import EventCheck

__all__ = [
    "build_actions",
    "build_api_keys",
    "build_checkpoints",
    "build_claims",
    "build_clock",
    "build_codec",
    "build_collector",
    "build_content_reader",
    "build_content_store",
    "build_event_check",
    "build_event_clock",
    "build_feed_service",
    "build_gate",
    "build_home_pipeline",
    "build_http_app",
    "build_idle_pipelines",
    "build_import",
    "build_join_process",
    "build_lanes",
    "build_live_models",
    "build_live_params",
    "build_log",
    "build_logged_samples",
    "build_mapped_import",
    "build_metrics",
    "build_model_loader",
    "build_models",
    "build_registry",
    "build_replica",
    "build_sample_compaction",
    "build_sample_files",
    "build_sample_store",
    "build_slate_join",
    "build_state",
    "build_tokens",
    "build_traces",
    "build_vectors",
    "check_params",
    "config_params",
    "declared_params",
    "everybodys_ranker",
    "has_log",
    "metrics_dir",
    "model_folders",
    "serving_codebooks",
    "state_fingerprint",
]


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
    from millrace.app.home_retrieval import AnsweringModels, HomeRetrieval
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.mixer.service import FeedService
    from millrace.mixer.value_model.profiles import values_in_effect

    config = settings.config
    retrieval = retrieval or HomeRetrieval(fills_at_once=True)
    models = models or build_models(settings)
    retrieval.attach(replica.state, models)
    return FeedService(
        replica,
        replace(
            _home_parts(
                settings, replica.state, replica.content, served_logger, claims, clock or replica.clock, followers
            ),
            features_logger=features_logger if config.home.logs_features else None,
            revise=revise,
            models=AnsweringModels(models, retrieval),
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


def build_feature_store(settings: Settings, state: FeedState, codebooks: Codebooks | None = None) -> FeatureStore:
    """Return what reads post and user features from a state; semantic ids by codebooks, where there are some."""
    from millrace.content.semantic_id_cache import SemanticIdCache
    from millrace.features.store.feature_store import FeatureStore

    engagements, actions = settings.config.stores.engagements, build_actions(settings)
    if codebooks is not None:
        codes_of, n_levels = SemanticIdCache(codebooks, state.texts).codes, codebooks.settings.n_levels
        return FeatureStore(state, state.texts, engagements, actions, codes_of, n_levels)

    return FeatureStore(state, state.texts, engagements, actions)


def build_slate_join(settings: Settings, hasher: IdHasher, *, window_ms: int, takes_all: bool) -> SlateJoin:
    """Return what joins a log's impressions with what was done, by the thresholds of the home."""
    from millrace.flywheel.slate_join import SlateJoin

    dwell = settings.config.stores.engagements.dwell
    return SlateJoin(hasher, build_actions(settings), dwell, window_ms=window_ms, takes_all=takes_all)


def build_logged_samples(
    settings: Settings, hasher: IdHasher, *, window_ms: int, hours: float | None = None, until: int | None = None
) -> LoggedSamples:
    """Return what reads the home's warehouse (newest hours, up to a position) as samples, by the home's thresholds."""
    from millrace.flywheel.logged_samples import LoggedSamples
    from millrace.flywheel.warehouse import Warehouse

    codec = build_codec(settings)
    join = build_slate_join(settings, hasher, window_ms=window_ms, takes_all=True)
    warehouse = Warehouse(settings.warehouse_dir, codec)
    return LoggedSamples(warehouse, codec, hasher, join, settings.config.content, str(settings.home), hours, until)


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
    from millrace.app.event_limits import EventLimits
    from millrace.app.feature_sheets import FeatureSheets
    from millrace.app.feed_app import FeedApp
    from millrace.app.flywheel_parts import join_warnings
    from millrace.app.flywheel_status import flywheel_status
    from millrace.app.home_retrieval import HomeRetrieval
    from millrace.app.metrics import MetricsObserver
    from millrace.app.model_status import model_status
    from millrace.app.server_note import read_note
    from millrace.app.social_refresh import SocialFollowers

    metrics = build_metrics(settings)
    codec = build_codec(settings)
    clock = clock or build_event_clock(settings)
    collector = build_collector(settings, replica.log, codec, clock, metrics)

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
    note = read_note(settings)
    return FeedApp(
        settings.config,
        replica,
        make_service,
        DoorThread(collector),
        EventLimits(settings.config.limits, build_claims(settings)),
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
        partial(model_status, settings),
        partial(flywheel_status, settings, event_clock=clock),
        partial(join_warnings, settings),
        partial(FeatureSheets.of, settings, replica),
        "" if note is None else note.server_id,
    ).asgi


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
