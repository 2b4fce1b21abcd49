"""Prometheus metrics of a rank server: batches, how long requests queue, what is dropped or refused, kept viewers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millrace.inference.model_events import ModelEvent
from millrace.inference.served_rankers import ServedRanker

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class RankMetrics:
    """What a rank server counts; a `BatchObserver` of all its batchers and the `CallObserver` of its calls."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("millrace_rank_calls", "Calls by name and end.", ("call", "code"), registry=self.registry)
        self._call_seconds = Histogram(
            "millrace_rank_call_seconds",
            "Time of a call in the server.",
            ("call",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "millrace_rank_batch_size",
            "Requests that ran together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self._run_seconds = Histogram(
            "millrace_rank_run_seconds", "Time of a batch's run.", buckets=_SECONDS, registry=self.registry
        )
        self._queue_seconds = Histogram(
            "millrace_rank_queue_seconds", "Time that a request queued.", buckets=_SECONDS, registry=self.registry
        )
        self._dropped = Counter(
            "millrace_rank_dropped", "Requests whose deadline passed while they queued.", registry=self.registry
        )
        self._refused = Counter(
            "millrace_rank_refused", "Requests for which the queue had no room.", registry=self.registry
        )

        self._models = Counter(
            "millrace_rank_models",
            "What happened to the rankers of a lane (swapped, refused, retried, closed).",
            ("what", "lane"),
            registry=self.registry,
        )

    def models(self, event: ModelEvent) -> None:
        """Count what happened to the rankers of a lane."""
        self._models.labels(event.what, event.lane).inc()

    def answered(self, call: str, code: str, took_s: float) -> None:
        """Count one call."""
        self._calls.labels(call, code).inc()
        self._call_seconds.labels(call).observe(took_s)

    def ran(self, queued_s: Sequence[float], took_s: float) -> None:
        """Count one batch."""
        self._batch_size.observe(len(queued_s))
        self._run_seconds.observe(took_s)
        for seconds in queued_s:
            self._queue_seconds.observe(seconds)

    def dropped(self, n: int) -> None:
        """Count stale requests."""
        self._dropped.inc(n)

    def refused(self) -> None:
        """Count a refused request."""
        self._refused.inc()

    def watch(self, rankers: Callable[[], Iterable[ServedRanker]]) -> None:
        """Tell of the rankers that are held, and of the viewers they keep, whenever somebody looks."""
        self.registry.register(_Rankers(rankers))


class _Rankers(Collector):
    def __init__(self, rankers: Callable[[], Iterable[ServedRanker]]) -> None:
        self._rankers = rankers

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of this moment."""
        labels = ("name", "identity")
        queued = GaugeMetricFamily("millrace_rank_queued", "Requests that wait.", labels=labels)
        kept = GaugeMetricFamily("millrace_rank_kept_viewers", "Encoded viewers that are kept.", labels=labels)
        n_bytes = GaugeMetricFamily("millrace_rank_kept_bytes", "Their bytes.", labels=labels)
        asked = CounterMetricFamily(
            "millrace_rank_kept_asked", "Viewers that were asked for by key.", labels=(*labels, "result")
        )
        for ranker in self._rankers():
            who = (ranker.description.name, ranker.identity)
            queued.add_metric(who, ranker.batcher.n_queued)
            kept.add_metric(who, len(ranker.kept))
            n_bytes.add_metric(who, ranker.kept.n_bytes)
            asked.add_metric((*who, "hit"), ranker.kept.n_hits)
            asked.add_metric((*who, "miss"), ranker.kept.n_misses)
        return (queued, kept, n_bytes, asked)
