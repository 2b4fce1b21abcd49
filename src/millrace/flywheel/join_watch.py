"""`JoinWatch`: the join rate over the newest looks, and the alarm when it is low or falls.

Rates are of differences between epochs, not of everything since the beginning: a client that lost its request ids this
morning must not hide behind a good month.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.sample_config import SampleConfig

_MAX_POINTS = 2_000


class WatchPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Totals as of an epoch.

    ``n_pages`` are pages heard, ``n_made`` how many were made for them, as each says with which share it is logged.
    """

    watermark_ms: int
    n_looks: int
    n_looks_joined: int
    n_deeds: int
    n_deeds_joined: int
    n_late_deeds: int
    n_pages: int = 0
    n_made: float = 0.0


class JoinRate(msgspec.Struct, frozen=True, kw_only=True):
    """The join over the newest looks.

    Attributes
    ----------
    n_looks, n_deeds
        Looks that name a request, and actions, that the rates are of.
    looks_frac, deeds_frac
        The share of looks that found their page, and of actions that found a look; 1 where there are none. Where a
        share of the pages is logged only (``features_log.share``), of as many looks as there are at logged pages then.
    late_frac
        The share of joined actions that came after their sample was out.
    before_frac
        The share of looks before these that found their page; None where there are too few to tell.
    alarm
        What is wrong; empty if nothing is.
    """

    n_looks: int
    n_deeds: int
    looks_frac: float
    deeds_frac: float
    late_frac: float
    before_frac: float | None
    alarm: str = ""


class JoinWatch:
    """Remembers totals epoch by epoch.

    Parameters
    ----------
    config
        Thresholds, and over how many looks, and actions, the rate is told.
    points
        What an earlier process remembered.
    """

    def __init__(self, config: SampleConfig, points: tuple[WatchPoint, ...] = ()) -> None:
        self._config = config
        self._points: deque[WatchPoint] = deque(points, maxlen=_MAX_POINTS)

    @property
    def points(self) -> tuple[WatchPoint, ...]:
        """What is remembered, oldest first."""
        return tuple(self._points)

    def hear(self, stats: JoinStats, n_pages: int = 0, n_made: float = 0.0) -> JoinRate:
        """Take in the totals of an epoch; return the rate as of now. The last two are `WatchPoint`'s."""
        point = WatchPoint(
            watermark_ms=stats.watermark_ms,
            n_looks=stats.n_looks_of_pages,
            n_looks_joined=stats.n_looks_joined,
            n_deeds=stats.n_deeds,
            n_deeds_joined=stats.n_deeds_joined,
            n_late_deeds=stats.n_late_deeds,
            n_pages=n_pages,
            n_made=n_made,
        )
        if self._points and point.n_looks < self._points[-1].n_looks:
            self._points.clear()  # the log is heard anew
        self._points.append(point)
        return self.rate()

    def rate(self) -> JoinRate:
        """Return the rate over the newest looks, and actions: of the last epochs that hold enough of them."""
        last = self._points[-1] if self._points else _NOTHING
        since = self._newest(lambda point: point.n_looks <= last.n_looks - self._config.alarm_looks)
        acted = self._newest(lambda point: point.n_deeds <= last.n_deeds - self._config.alarm_looks)
        first = self._points[0] if self._points and self._points[0].n_looks < since.n_looks else _NOTHING
        n_deeds, deeds_joined = last.n_deeds - acted.n_deeds, last.n_deeds_joined - acted.n_deeds_joined
        has_before = since.n_looks - first.n_looks >= max(self._config.alarm_looks, 1)
        found = JoinRate(
            n_looks=last.n_looks - since.n_looks,
            n_deeds=n_deeds,
            looks_frac=_looks_frac(since, last),
            deeds_frac=_share(deeds_joined, n_deeds),
            late_frac=_share(last.n_late_deeds - acted.n_late_deeds, deeds_joined) if deeds_joined else 0.0,
            before_frac=_looks_frac(first, since) if has_before else None,
        )
        return msgspec.structs.replace(found, alarm=self._alarm(found))

    def _newest(self, is_wanted: Callable[[WatchPoint], bool]) -> WatchPoint:
        return next(filter(is_wanted, reversed(self._points)), _NOTHING)

    def _alarm(self, rate: JoinRate) -> str:
        least, told = self._config.min_join_rate, []
        if rate.n_looks >= self._config.alarm_looks:
            looks = f"of the newest {rate.n_looks:,} looks {rate.looks_frac:.1%} found their page"
            if rate.looks_frac < least:
                told.append(f"{looks}, less than {least:.0%}")
            elif rate.before_frac is not None and rate.looks_frac < rate.before_frac - self._config.max_join_rate_fall:
                told.append(f"{looks}, of those before {rate.before_frac:.1%}")
        if rate.n_deeds >= self._config.alarm_looks and rate.deeds_frac < least:
            told.append(
                f"of the newest {rate.n_deeds:,} actions {rate.deeds_frac:.1%} found a look, less than {least:.0%}"
            )
        return "; ".join(told)


_NOTHING = WatchPoint(watermark_ms=0, n_looks=0, n_looks_joined=0, n_deeds=0, n_deeds_joined=0, n_late_deeds=0)


def _share(part: int, whole: int) -> float:
    # A look of the epoch before may find its page in this one: never more than all of them.
    return min(part / whole, 1.0) if whole else 1.0


def _looks_frac(since: WatchPoint, last: WatchPoint) -> float:
    """Return the share of looks that found their page, of as many as there are at pages that are logged."""
    n_pages, n_made = last.n_pages - since.n_pages, last.n_made - since.n_made
    logged = min(n_pages / n_made, 1.0) if n_pages and n_made else 1.0
    n_looks = (last.n_looks - since.n_looks) * logged
    return min((last.n_looks_joined - since.n_looks_joined) / n_looks, 1.0) if n_looks else 1.0
