"""What models keep from page to page, as metrics: sums over lanes, across swaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from millrace.app.cache_report import CacheReport
from millrace.app.metrics import Metrics
from millrace.inference.content_cache import CacheCounts
from millrace.inference.ranker_model import RankerCounts
from millrace.mixer.home_models import NO_MODELS, HomeModels


@dataclass
class Counting:
    """A ranker that is nothing but its caches' counts."""

    counts: RankerCounts

    def predict(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody asks it")


def counts(n_hits: int, n_misses: int, n_bytes: int) -> RankerCounts:
    return RankerCounts(
        viewers=CacheCounts(n_hits, n_misses, n_bytes, 1_000), posts=CacheCounts(10 * n_hits, n_misses, n_bytes, 5_000)
    )


def told(metrics: Metrics, cache: str) -> list[float]:
    """Return hits, misses, bytes and bound of one cache."""
    values = dict(line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if line[0] != "#")
    names = (
        f'millrace_model_cache_asked_total{{cache="{cache}",result="hit"}}',
        f'millrace_model_cache_asked_total{{cache="{cache}",result="miss"}}',
        f'millrace_model_cache_bytes{{cache="{cache}"}}',
        f'millrace_model_cache_max_bytes{{cache="{cache}"}}',
    )
    return [float(values[name]) for name in names]


def test_each_lookup_counts_once_and_bytes_are_as_they_are() -> None:
    metrics = Metrics()
    report, ranker = CacheReport(metrics), Counting(counts(2, 1, 300))
    models = HomeModels(ranker=ranker)
    report.tell([models])
    ranker.counts = counts(5, 1, 200)
    report.tell([models])
    report.tell([models])
    assert told(metrics, "viewers") == [5, 1, 200, 1_000]
    assert told(metrics, "posts") == [50, 1, 200, 5_000]


def test_lanes_add_up_and_a_new_model_counts_from_its_own_beginning() -> None:
    metrics = Metrics()
    report = CacheReport(metrics)
    first, second = (HomeModels(ranker=Counting(counts(3, 2, 100))) for _ in range(2))
    report.tell([first, second])
    assert told(metrics, "viewers") == [6, 4, 200, 2_000]
    report.tell([second, HomeModels(ranker=Counting(counts(1, 1, 10)))])
    assert told(metrics, "viewers") == [7, 5, 110, 2_000]


def test_where_no_model_serves_there_are_zeros() -> None:
    metrics = Metrics()
    CacheReport(metrics).tell([NO_MODELS])
    assert told(metrics, "viewers") == told(metrics, "posts") == [0, 0, 0, 0]
