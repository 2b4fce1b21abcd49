"""`JoinStats`: what operators watch of the streaming join."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from millrace.base.ids import Int64Array
from millrace.flywheel.join_rules import BUCKET_ENDS_MS, delay_quantile_ms

COUNTERS: Final = (
    "pages",
    "looks",
    "deeds",
    "others",
    "page_duplicates",
    "look_duplicates",
    "deed_duplicates",
    "looks_of_pages",
    "looks_joined",
    "deeds_joined",
    "late_deeds",
    "rows_out",
    "corrections",
    "sampled_out",
    "dropped_for_age",
    "dropped_for_bounds",
)
"""Names of the counters, in the order in which both forms of the join keep them."""


@dataclass(frozen=True, slots=True)
class JoinStats:
    """Counts since the beginning of the log, and how things stand.

    Attributes
    ----------
    n_pages, n_looks, n_deeds, n_others
        Records heard that were new: pages with features, looks, actions; other records.
    n_page_duplicates, n_look_duplicates, n_deed_duplicates
        Records that said nothing new.
    n_looks_of_pages, n_looks_joined
        Looks that name a request (a post seen twice on a page is one), and those among them that found their page.
    n_deeds_joined, n_late_deeds
        Actions that belong to a look now, and those whose look's sample was out when they came.
    n_rows_out, n_corrections
        Samples let out for the first time, and newer revisions of them.
    n_sampled_out
        Times that a sample in which nothing was done was not kept.
    n_dropped_for_age, n_dropped_for_bounds
        Records older than what is remembered, and what was dropped or refused because there was too much of it.
    watermark_ms, newest_ms
        Event time: up to where the join is sure of what happened, and the newest that counts.
    window_ms
        How long a sample waits now.
    n_open_pages, n_open_looks, n_open_deeds, n_waiting
        Held in memory; waiting for their window's end.
    state_bytes
        Size of what is held.
    delays_ms
        Action to its (median, 90th, 99th percentile) delay after the look, as ends of buckets a fifth apart.
    """

    n_pages: int = 0
    n_looks: int = 0
    n_deeds: int = 0
    n_others: int = 0
    n_page_duplicates: int = 0
    n_look_duplicates: int = 0
    n_deed_duplicates: int = 0
    n_looks_of_pages: int = 0
    n_looks_joined: int = 0
    n_deeds_joined: int = 0
    n_late_deeds: int = 0
    n_rows_out: int = 0
    n_corrections: int = 0
    n_sampled_out: int = 0
    n_dropped_for_age: int = 0
    n_dropped_for_bounds: int = 0
    watermark_ms: int = 0
    newest_ms: int = 0
    window_ms: int = 0
    n_open_pages: int = 0
    n_open_looks: int = 0
    n_open_deeds: int = 0
    n_waiting: int = 0
    state_bytes: int = 0
    delays_ms: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def joined_looks_frac(self) -> float:
        """The join rate: the share of looks naming a request that found their page; 1 where there are none."""
        return self.n_looks_joined / self.n_looks_of_pages if self.n_looks_of_pages else 1.0

    @property
    def joined_deeds_frac(self) -> float:
        """The share of actions that belong to a look; 1 where there are none."""
        return self.n_deeds_joined / self.n_deeds if self.n_deeds else 1.0

    @property
    def late_frac(self) -> float:
        """The share of joined actions that came after their look's sample was out."""
        return self.n_late_deeds / self.n_deeds_joined if self.n_deeds_joined else 0.0

    @property
    def lag_ms(self) -> int:
        """How far the watermark is behind the newest event; 0 before the first."""
        return max(self.newest_ms - self.watermark_ms, 0)


def delay_percentiles(delays: Int64Array, names: tuple[str, ...]) -> dict[str, tuple[int, int, int]]:
    """Return (median, 90th, 99th percentile) of those actions that were seen; ``delays`` counts by bucket."""
    return {
        name: (
            int(delay_quantile_ms(counts, BUCKET_ENDS_MS, 0.5)),
            int(delay_quantile_ms(counts, BUCKET_ENDS_MS, 0.9)),
            int(delay_quantile_ms(counts, BUCKET_ENDS_MS, 0.99)),
        )
        for name, counts in zip(names, delays, strict=True)
        if counts.any()
    }
