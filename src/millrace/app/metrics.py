"""Prometheus metrics of one process, and their sum over the processes of a home folder.

With a folder for shared values every process writes its own file there (prometheus_client's multiprocess mode)
and whichever worker is scraped answers for all. Label children are looked up once and kept: a labelled
``inc`` costs half a microsecond then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

from millrace.events.traffic_events import TrafficFlagged
from millrace.inference.model_events import ModelEvent
from millrace.pipeline.outcome import ComponentReport, Fate, Outcome, PipelineReport

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

MetricT = TypeVar("MetricT", Counter, Histogram, Gauge)

_MAKING: Final = threading.Lock()

_REQUEST_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)
_STAGE_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class Metrics:
    """All metrics of Millrace.

    Parameters
    ----------
    shared_dir
        A folder that all processes of the home write to; None keeps the values in this process. The supervisor
        empties it before the first process starts (`prepare_shared_dir`).
    """

    def __init__(self, shared_dir: Path | None = None) -> None:
        self._shared_dir = shared_dir
        self._value_class = values.MutexValue if shared_dir is None else shared_values(shared_dir)
        with values_of(self._value_class):
            self._make()

    def _make(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[tuple[object, ...], Counter | Histogram | Gauge] = {}
        registry = self._registry
        self._requests = Counter(
            "millrace_requests", "HTTP requests by route and status.", ("route", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "millrace_request_seconds",
            "Time from request to response.",
            ("route",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._flagged = Counter(
            "millrace_flagged_events",
            "Events taken in that no person may have caused, by reason (burst, replay, dwell, clock).",
            ("reason",),
            registry=registry,
        )
        self._clocks = Counter(
            "millrace_mended_clocks",
            "Batches whose events were moved because their client's clock was ahead or behind.",
            ("direction",),
            registry=registry,
        )
        self._events = Counter("millrace_events", "Events at the door by result.", ("result",), registry=registry)
        self._pages = Counter(
            "millrace_pages",
            "Pages by pipeline and kind (full, short, empty).",
            ("pipeline", "kind"),
            registry=registry,
        )
        self._page_posts = Counter("millrace_page_posts", "Posts served.", ("pipeline",), registry=registry)
        self._component_seconds = Histogram(
            "millrace_component_seconds",
            "Time of one pipeline component.",
            ("pipeline", "stage", "component"),
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self._candidates = Counter(
            "millrace_candidates",
            "Candidates that a component returned (found), let pass (kept) or took out (dropped).",
            ("pipeline", "stage", "component", "fate"),
            registry=registry,
        )
        self._outcomes = Counter(
            "millrace_component_outcomes",
            "Components that failed, were late or were skipped.",
            ("pipeline", "stage", "component", "fate"),
            registry=registry,
        )
        self._served_events = Counter(
            "millrace_served_events",
            "Served events by result (written, refused, lost), and how often a batch failed (retried: batches).",
            ("result",),
            registry=registry,
        )
        self._features_events = Counter(
            "millrace_features_events",
            "Events of what models saw by result (written, refused, lost), and how often a batch failed (retried).",
            ("result",),
            registry=registry,
        )
        self._features_bytes = Counter(
            "millrace_features_bytes",
            "Bytes of what models saw, packed, handed over to be logged.",
            registry=registry,
        )
        self._traces = Counter(
            "millrace_traces",
            "Traces of requests by result (written, lost).",
            ("result",),
            registry=registry,
        )
        self._models = Counter(
            "millrace_models",
            "What happened to the models of a lane (swapped, refused, retried, closed).",
            ("what", "lane"),
            registry=registry,
        )
        self._cache_asked = Counter(
            "millrace_model_cache_asked",
            "Lookups in what models keep from page to page (posts, viewers) by result (hit, miss).",
            ("cache", "result"),
            registry=registry,
        )
        self._cache_bytes = Gauge(
            "millrace_model_cache_bytes",
            "Bytes of what models keep.",
            ("cache",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._cache_max_bytes = Gauge(
            "millrace_model_cache_max_bytes",
            "Bytes of what models may keep.",
            ("cache",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._content_reads = Counter(
            "millrace_content_reads",
            "Posts and users read from a content server, by where they were found (memory, shared, store, waited for "
            "another's reading) or left out (unread); and calls of the shared level that failed (shared_failed).",
            ("kind", "level"),
            registry=registry,
        )
        self._server_failures = Gauge(
            "millrace_rank_server_failures",
            "Calls in a row that a rank server did not answer, as the worst of the workers sees it; 0: it answers.",
            ("address",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._server_rests = Gauge(
            "millrace_rank_server_resting",
            "1 while a worker leaves a rank server alone after failures, and does not ask it.",
            ("address",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._lag = Gauge(
            "millrace_replica_lag_records",
            "Records of the log that the process has not folded yet.",
            ("role",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._lag_seconds = Gauge(
            "millrace_replica_lag_seconds",
            "How long the oldest record of a batch had been in the log when it was folded; the most since the last "
            "report, about a second.",
            ("role",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._offset = Gauge(
            "millrace_state_offset",
            "Log offset that the process has folded up to.",
            ("role",),
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._ready = Gauge(
            "millrace_ready_processes",
            "Processes that have caught up.",
            ("role",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._params_rejected = Gauge(
            "millrace_params_rejected",
            "1 while an edit of millrace.toml cannot be used and the params from before it stay in effect.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._checkpoint_offset = Gauge(
            "millrace_checkpoint_offset",
            "Log offset of the newest checkpoint.",
            multiprocess_mode="livemax",
            registry=registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._counter(self._requests, route, str(status)).inc()
        self._histogram(self._request_seconds, route).observe(seconds)

    def events(self, n_by_result: Mapping[str, int]) -> None:
        """Count events at the door: accepted, duplicate, refused."""
        for result, n in n_by_result.items():
            if n:
                self._counter(self._events, result).inc(n)

    def traffic(self, flags: Sequence[TrafficFlagged], off_by_ms: int) -> None:
        """Count what was implausible about a client's batch, and batches of clocks that were mended."""
        for flag in flags:
            self._counter(self._flagged, flag.reason).inc(len(flag.events))
        if off_by_ms:
            self._counter(self._clocks, "ahead" if off_by_ms > 0 else "behind").inc()

    def page(self, pipeline: str, n_posts: int, wanted: int) -> None:
        """Count one served page."""
        kind = "full" if n_posts >= wanted else "short" if n_posts else "empty"
        self._counter(self._pages, pipeline, kind).inc()
        self._counter(self._page_posts, pipeline).inc(n_posts)

    def component(self, pipeline: str, stage: str, component: str, seconds: float) -> None:
        """Record how long one pipeline component took."""
        self._histogram(self._component_seconds, pipeline, stage, component).observe(seconds)

    def candidates(self, pipeline: str, stage: str, component: str, fate: str, n: int) -> None:
        """Count the candidates that met one fate in a component."""
        if n:
            self._counter(self._candidates, pipeline, stage, component, fate).inc(n)

    def outcome(self, pipeline: str, stage: str, component: str, fate: str) -> None:
        """Count a component that did not do its work."""
        self._counter(self._outcomes, pipeline, stage, component, fate).inc()

    def served_events(self, result: str, n: int) -> None:
        """Count Served events that were written, refused or lost, or a batch that is tried again."""
        if n:
            self._counter(self._served_events, result).inc(n)

    def features_events(self, result: str, n: int) -> None:
        """Count events of what models saw that were written, refused or lost, or a batch that is tried again."""
        if n:
            self._counter(self._features_events, result).inc(n)

    def features_bytes(self, n: int) -> None:
        """Count the packed bytes of what models saw."""
        self._features_bytes.inc(n)

    def traces(self, *, n_written: int, n_lost: int) -> None:
        """Count traces that were written or lost since the last call."""
        for result, n in (("written", n_written), ("lost", n_lost)):
            if n:
                self._counter(self._traces, result).inc(n)

    def models(self, event: ModelEvent) -> None:
        """Count what happened to the models of a lane."""
        self._counter(self._models, event.what, event.lane).inc()

    def cache(self, name: str, *, n_hits: int, n_misses: int, n_bytes: int, max_bytes: int) -> None:
        """Count lookups in a cache of the models since the last call, and set what all models keep in it."""
        for result, n in (("hit", n_hits), ("miss", n_misses)):
            self._counter(self._cache_asked, name, result).inc(n)
        self._gauge(self._cache_bytes, name).set(n_bytes)
        self._gauge(self._cache_max_bytes, name).set(max_bytes)

    def content_reads(self, kind: str, level: str, n: int) -> None:
        """Count posts or users that were read through a level since the last call."""
        self._counter(self._content_reads, kind, level).inc(n)

    def rank_server(self, address: str, *, n_failures: int, rests: bool) -> None:
        """Set how this process stands with a rank server."""
        self._gauge(self._server_failures, address).set(n_failures)
        self._gauge(self._server_rests, address).set(1 if rests else 0)

    def replica(self, role: str, *, lag: int, offset: int, is_ready: bool, lag_ms: float = 0.0) -> None:
        """Set how far this process has come: records not folded, and how late those folded since then were."""
        self._gauge(self._lag, role).set(lag)
        self._gauge(self._lag_seconds, role).set(lag_ms / 1000)
        self._gauge(self._offset, role).set(offset)
        self._gauge(self._ready, role).set(1 if is_ready else 0)

    def keeper(self, *, lag: int, checkpoint_offset: int) -> None:
        """Set how far the keeper has come, as any process sees it from outside."""
        self._gauge(self._lag, "keeper").set(lag)
        self._checkpoint_offset.set(checkpoint_offset)

    def params_rejected(self, *, is_rejected: bool) -> None:
        """Set whether the home's file, as it is now, cannot be used."""
        self._params_rejected.set(1 if is_rejected else 0)

    def render(self) -> bytes:
        """Return the exposition text: of all processes where values are shared, else of this one."""
        if self._shared_dir is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=str(self._shared_dir))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def add(self, make: Callable[[CollectorRegistry], None]) -> None:
        """Make further metrics, which are kept and shown with these."""
        with values_of(self._value_class):
            make(self._registry)

    def labelled(self, metric: MetricT, *labels: str) -> MetricT:
        """Return the child of a metric for some labels."""
        found = self._children.get((id(metric), *labels))
        return found if found is not None else self._child(metric, *labels)  # type: ignore[return-value]

    def _counter(self, metric: Counter, *labels: str) -> Counter:
        found = self._children.get((id(metric), *labels))
        return found if found is not None else self._child(metric, *labels)  # type: ignore[return-value]

    def _histogram(self, metric: Histogram, *labels: str) -> Histogram:
        found = self._children.get((id(metric), *labels))
        return found if found is not None else self._child(metric, *labels)  # type: ignore[return-value]

    def _gauge(self, metric: Gauge, *labels: str) -> Gauge:
        found = self._children.get((id(metric), *labels))
        return found if found is not None else self._child(metric, *labels)  # type: ignore[return-value]

    def _child(self, metric: Counter | Histogram | Gauge, *labels: str) -> Counter | Histogram | Gauge:
        with values_of(self._value_class):
            child = self._children[id(metric), *labels] = metric.labels(*labels)
        return child


@contextmanager
def values_of(value_class: Any) -> Iterator[None]:
    """Let metrics that are made in the block keep their values in a class.

    prometheus_client decides once, at its import, by the environment, whether values are shared. Here it is each
    `Metrics`' own business: its class is in place while its values are made and no longer, else those of any other
    registry of the process would be shared too.
    """
    with _MAKING:
        before, values.ValueClass = values.ValueClass, value_class
        try:
            yield
        finally:
            values.ValueClass = before


def prepare_shared_dir(shared_dir: Path) -> None:
    """Make the folder of shared values, empty. Called once, before the first process of a server starts."""
    shared_dir.mkdir(parents=True, exist_ok=True)
    for path in shared_dir.glob("*.db"):
        path.unlink()


def forget_process(shared_dir: Path, pid: int) -> None:
    """Drop the gauges of a process that has ended; its counts stay in the sums."""
    multiprocess.mark_process_dead(pid, path=str(shared_dir))  # type: ignore[no-untyped-call]


def shared_values(shared_dir: Path) -> Any:
    """Return the class of values that are kept in a folder, a file a process; see `values_of`."""
    shared_dir.mkdir(parents=True, exist_ok=True)
    os.environ[_VARIABLE] = str(shared_dir)
    return values.MultiProcessValue()  # type: ignore[no-untyped-call]


class MetricsObserver:
    """Turns what pipelines report into metrics; a `millrace.pipeline.outcome.PipelineObserver`.

    Parameters
    ----------
    metrics
        Where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def observe(self, report: PipelineReport) -> None:
        """Record a finished request: every component's time and candidates, every outcome, the page."""
        metrics, pipeline = self._metrics, report.pipeline
        for part in report.components:
            if part.fate is Fate.DISABLED:
                continue
            metrics.component(pipeline, part.stage, part.component, part.took_ms / 1000)
            if part.fate is Fate.OVERRAN:
                metrics.outcome(pipeline, part.stage, part.component, part.fate.value)
            if part.n_in == 0:
                metrics.candidates(pipeline, part.stage, part.component, "found", part.n_out)
            else:
                metrics.candidates(pipeline, part.stage, part.component, "kept", part.n_out)
                metrics.candidates(pipeline, part.stage, part.component, "dropped", part.n_in - part.n_out)
        for outcome in report.outcomes:
            metrics.outcome(pipeline, outcome.stage, outcome.component, outcome.fate.value)
        metrics.page(pipeline, report.n_slate, report.n_wanted)

    def observe_side_effect(self, pipeline: str, report: ComponentReport, outcome: Outcome | None) -> None:
        """Record a side effect that ended after its request."""
        self._metrics.component(pipeline, report.stage, report.component, report.took_ms / 1000)
        if outcome is not None:
            self._metrics.outcome(pipeline, outcome.stage, outcome.component, outcome.fate.value)
