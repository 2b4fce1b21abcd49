"""`CacheReport`: what the models of a process keep from page to page, as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from millrace.app.metrics import Metrics

if TYPE_CHECKING:
    from millrace.inference.content_cache import CacheCounts
    from millrace.mixer.home_models import HomeModels

CACHES: Final = ("posts", "viewers")
"""Told also where no model serves, so that a graph begins at zero."""


class CacheReport:
    """Tells metrics how caches fare, each time what is new.

    A model counts from its own beginning. What it counted between the last report and its end is not told.

    Parameters
    ----------
    metrics
        Where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # With the models themselves, so that no other object has the same id meanwhile.
        self._told: dict[int, tuple[HomeModels, Mapping[str, CacheCounts]]] = {}

    def tell(self, held: Sequence[HomeModels]) -> None:
        """Report the models that serve now, of all lanes."""
        found = {id(models): (models, models.caches()) for models in held}
        for name in CACHES:
            n_hits = n_misses = n_bytes = max_bytes = 0
            for key, (_, counts) in found.items():
                if name in counts:
                    now, before = counts[name], self._before(key, name)
                    n_hits += now.n_hits - before[0]
                    n_misses += now.n_misses - before[1]
                    n_bytes += now.n_bytes
                    max_bytes += now.max_bytes
            self._metrics.cache(name, n_hits=n_hits, n_misses=n_misses, n_bytes=n_bytes, max_bytes=max_bytes)
        self._told = found

    def _before(self, key: int, name: str) -> tuple[int, int]:
        if key not in self._told:
            return 0, 0
        counts = self._told[key][1].get(name)
        return (0, 0) if counts is None else (counts.n_hits, counts.n_misses)
