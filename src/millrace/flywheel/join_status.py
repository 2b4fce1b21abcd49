"""How the join is doing, as it told at its last commit: for the page, ``millrace flywheel`` and ``millrace doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from millrace.base.atomic_file import replacing
from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_watch import JoinRate, WatchPoint

_FILE: Final = "status.json"


class JoinStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The join as of its last commit. Nothing depends on it: the checkpoint is what counts.

    Attributes
    ----------
    epoch, position
        Of the last commit: its number, and the log position.
    told_ms
        When, by the event clock.
    watermark_ms, lag_ms
        Event time up to which samples are out when their window is, and how far that is behind the newest event.
    lag_records
        Log records not heard yet then, of the topics that the join hears.
    records_per_s
        Heard since the commit before it, by real time.
    n_records, n_pages, n_samples, n_corrections, n_unreadable
        Since the beginning.
    page_bytes, mean_page_bytes
        Packed bytes of what models saw: of the last epoch, and the mean of a page in it.
    page_bytes_p50, page_bytes_p99
        Of the newest 10,000 pages since the process began, half have at most so many packed bytes, and 99 of 100.
    negative_rate
        The share that is kept of samples in which nothing was done.
    rate
        The join rate over the newest looks, and the alarm.
    stats
        Everything the join itself counts, delays per action among them.
    points
        For the rate.
    """

    epoch: int
    position: tuple[int, ...]
    told_ms: int
    watermark_ms: int
    lag_ms: int
    lag_records: int
    records_per_s: float
    n_records: int
    n_pages: int
    n_samples: int
    n_corrections: int
    n_unreadable: int
    page_bytes: int
    mean_page_bytes: float
    negative_rate: float
    rate: JoinRate
    stats: JoinStats
    points: tuple[WatchPoint, ...] = ()
    page_bytes_p50: float = 0.0
    page_bytes_p99: float = 0.0


def join_status(samples_dir: Path) -> JoinStatus | None:
    """Return how the join of a home stood at its last commit; None if it has not committed yet, or cannot be read."""
    try:
        return msgspec.json.decode((samples_dir / _FILE).read_bytes(), type=JoinStatus)
    except (OSError, msgspec.DecodeError):
        return None


def keep_status(samples_dir: Path, status: JoinStatus) -> None:
    """Write it where `join_status` looks."""
    with replacing(samples_dir / _FILE) as file:
        file.write(msgspec.json.encode(status))
