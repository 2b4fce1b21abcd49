"""Prometheus metrics of the join: rate, lag, what comes late, how long labels take, sizes, epochs, the alarm."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, values

from millrace.app.metrics import shared_values, values_of
from millrace.app.roles_beside import join_problem
from millrace.app.settings import Settings
from millrace.base.clock import Clock
from millrace.flywheel.join_process import GROUP, Epoch
from millrace.flywheel.join_status import JoinStatus
from millrace.stream.log import Log

_QUANTILES: Final = ("0.5", "0.9", "0.99")

logger = logging.getLogger(__name__)


class JoinMetrics:
    """What the process that joins tells; among the home's other metrics where values are shared.

    Parameters
    ----------
    shared_dir
        See `millrace.app.metrics.Metrics`.
    """

    def __init__(self, shared_dir: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._value_class = values.MutexValue if shared_dir is None else shared_values(shared_dir)
        with values_of(self._value_class):
            self._make()

    def _make(self) -> None:
        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, what, labels, multiprocess_mode="livemax", registry=self.registry)

        def counter(name: str, what: str) -> Counter:
            return Counter(name, what, registry=self.registry)

        self._rate = gauge(
            "millrace_join_rate",
            "Of the newest: the share of looks that found their page, of actions that found a look.",
            ("what",),
        )
        self._late = gauge("millrace_join_late_share", "Of the newest joined actions: came after their sample was out.")
        self._alarm = _alarm_gauge(self.registry)
        self._lag_records = _lag_gauge(self.registry)
        self._lag_seconds = gauge(
            "millrace_join_lag_seconds", "How far the join's watermark is behind the newest event."
        )
        self._delay = gauge(
            "millrace_join_label_delay_seconds", "How long after the look actions come.", ("action", "quantile")
        )
        self._state_bytes = gauge("millrace_join_state_bytes", "Bytes of what the join holds.")
        self._page_bytes = gauge(
            "millrace_join_page_bytes", "Mean packed bytes of a logged request, in the last epoch."
        )
        self._epoch = gauge("millrace_join_epoch", "Number of the newest committed epoch.")
        self._epoch_seconds = gauge("millrace_join_epoch_seconds", "How long committing the last epoch took.")
        self._records = counter("millrace_join_records", "Log records heard.")
        self._pages = counter("millrace_join_pages", "Pages with features heard.")
        self._features = counter("millrace_join_features_bytes", "Packed bytes of features heard.")
        self._samples = counter("millrace_join_samples", "Samples let out, corrections included.")
        self._corrections = counter("millrace_join_corrections", "Corrections of samples let out.")

    def tell(self, epoch: Epoch, status: JoinStatus) -> None:
        """Tell of an epoch."""
        rate = status.rate
        with values_of(self._value_class):  # children are made here
            self._rate.labels("looks").set(rate.looks_frac)
            self._rate.labels("actions").set(rate.deeds_frac)
            for action, delays_ms in status.stats.delays_ms.items():
                for quantile, delay_ms in zip(_QUANTILES, delays_ms, strict=True):
                    self._delay.labels(action, quantile).set(delay_ms / 1000)
        self._late.set(rate.late_frac)
        self._alarm.set(1 if rate.alarm else 0)
        self._lag_records.set(status.lag_records)
        self._lag_seconds.set(status.lag_ms / 1000)
        self._state_bytes.set(status.stats.state_bytes)
        self._page_bytes.set(status.mean_page_bytes)
        self._epoch.set(epoch.number)
        self._epoch_seconds.set(epoch.took_s)
        self._records.inc(epoch.n_records)
        self._pages.inc(epoch.n_pages)
        self._features.inc(epoch.n_page_bytes)
        self._samples.inc(epoch.n_rows)
        self._corrections.inc(epoch.n_corrections)


class JoinOverseer:
    """What the keeper tells of the join: gauges of a joiner that has died go with its process, and so would its alarm.

    Parameters
    ----------
    settings
        The home.
    log
        Says how far the join is behind.
    clock
        Real time.
    shared_dir
        See `millrace.app.metrics.Metrics`.
    """

    def __init__(self, settings: Settings, log: Log, clock: Clock, shared_dir: Path | None = None) -> None:
        self._settings, self._log, self._clock = settings, log, clock
        self.registry = CollectorRegistry()
        with values_of(values.MutexValue if shared_dir is None else shared_values(shared_dir)):
            self._alarm, self._lag = _alarm_gauge(self.registry), _lag_gauge(self.registry)
        self._before = self._told = ""

    def look(self) -> str:
        """Look at the join; return what is wrong with it, and was at the look before: a restart is no alarm."""
        self._lag.set(self._log.lag(GROUP))
        found = join_problem(self._settings, self._clock.now_ms())
        alarm, self._before = found if self._before else "", found
        self._alarm.set(1 if alarm else 0)
        if alarm and not self._told:
            logger.warning("join: %s", alarm)
        self._told = alarm
        return alarm


def _alarm_gauge(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "millrace_join_alarm",
        "1 while the join rate is too low, or has fallen, or nothing joins.",
        multiprocess_mode="livemax",
        registry=registry,
    )


def _lag_gauge(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "millrace_join_lag_records",
        "Log records of the join's topics that it has not heard yet.",
        multiprocess_mode="livemax",
        registry=registry,
    )
