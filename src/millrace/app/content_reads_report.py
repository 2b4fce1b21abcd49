"""`ContentReadsReport`: what a worker's content cache has done, as metrics."""

from __future__ import annotations

from collections import Counter

from millrace.app.metrics import Metrics
from millrace.stores.content_overlay import ContentReader


class ContentReadsReport:
    """Tells the metrics what has been added since it told them last.

    Parameters
    ----------
    metrics
        Where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: Counter[tuple[str, str]] = Counter()

    def tell(self, content: ContentReader | None) -> None:
        """Count what was read; a reader without a cache has nothing to tell."""
        if content is None or content.cache is None:
            return
        for kind, kept in (("posts", content.cache.posts), ("users", content.cache.users)):
            counts = kept.counts
            for level, n in (
                ("memory", counts.n_memory),
                ("shared", counts.n_shared),
                ("store", counts.n_store),
                ("waited", counts.n_waited),
                ("unread", kept.n_unread),
                ("shared_failed", counts.n_shared_failures),
            ):
                if n > self._told[kind, level]:
                    self._metrics.content_reads(kind, level, n - self._told[kind, level])
                    self._told[kind, level] = n
