"""Pages for the learning loop, with labels that are known: of the streaming join where it is at work, else of the log.

The streaming join has done its work already; the batch join reads all events of the wanted hours again each time. Both
give the same samples, row for row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.app import wiring
from millrace.app.flagged_pages import UnflaggedSource, read_flags
from millrace.app.sampling import export_log, nothing_seen
from millrace.app.settings import Settings
from millrace.base.ids import IdHasher, Int64Array
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.slate_join import HOUR_MS

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.flywheel.join_config import JoinConfig
    from millrace.flywheel.learning_round import Keep, SampleSource
    from millrace.flywheel.logged_samples import LoggedSamples
    from millrace.flywheel.sample_store import SampleStore

_WINDOW_MS: Final = 24 * HOUR_MS
_NEARLY_ALL: Final = 0.99
_LOOKED_AT_MS: Final = 10 * 60_000
"""How long a page is looked at, at most, but for few."""
_MAX_BEHIND_MS: Final = 2 * HOUR_MS


class LoggedSource:
    """The batch join of the warehouse, as of the moment at which it was opened; a `SampleSource`.

    Parameters
    ----------
    reader
        The join.
    """

    def __init__(self, reader: LoggedSamples) -> None:
        self._reader = reader

    @property
    def known_until_ms(self) -> int:
        """The moment before which pages must have been made: labels come late, and pages are looked at for a while."""
        slates = self._reader.slates
        if not len(slates):
            return 0
        spans = slates.ended_ms - slates.began_ms
        return self._reader.mature_until_ms - int(np.quantile(spans, _NEARLY_ALL, method="higher"))

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        """Return how many pages were looked at within a span, whether or not their features were logged."""
        return len(self._of(from_ms, until_ms))

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        """Return the pages of a span whose features were logged and whose labels are known.

        Raises
        ------
        NoSamplesError
            If there are none.
        """
        wanted = self._of(from_ms, until_ms)
        if keep is not None:  # by their first look: it comes seconds after the page
            wanted = wanted[keep(self._reader.slates.began_ms[wanted])]
        found, numbers = self._reader.of_slates(wanted, from_ms, until_ms)
        if not len(numbers):
            raise nothing_seen()
        return found

    def _of(self, from_ms: int, until_ms: int) -> Int64Array:
        slates = self._reader.slates
        is_wanted = (slates.ended_ms < self._reader.mature_until_ms) & (slates.ended_ms >= from_ms)
        return np.flatnonzero(is_wanted & (slates.began_ms < until_ms))


class StoredSource:
    """What the streaming join has let out; a `SampleSource`.

    Parameters
    ----------
    store
        The join's samples.
    waits_ms
        How long after a look a sample goes out.
    """

    def __init__(self, store: SampleStore, waits_ms: int) -> None:
        self._store = store
        self._waits_ms = waits_ms + _LOOKED_AT_MS

    @property
    def known_until_ms(self) -> int:
        """The moment before which pages must have been made: they are looked at for a while, and then waited for."""
        return max(self._store.watermark_ms - self._waits_ms, 0)

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        """Return how many pages of a span were seen."""
        return self._store.n_pages(from_ms, until_ms)

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        """Return the pages of a span.

        Raises
        ------
        NoSamplesError
            If there are none.
        """
        return self._store.samples(from_ms, until_ms, keep)


@contextmanager
def sample_source(settings: Settings, show_progress: ShowProgress, *, hours: float) -> Iterator[SampleSource]:
    """Give what reads a home's newest pages for learning, as they are now.

    Of the streaming join, if it is on and has come almost as far as event time, and keeps every sample: figures of what
    it has thinned out would have to be weighed. Pages of viewers whose traffic was flagged are left out.

    Parameters
    ----------
    settings
        The home.
    show_progress
        Tells the person waiting.
    hours
        How far back pages may be asked for.
    """
    flags = read_flags(settings)
    store = _store_at_work(settings)
    if store is not None:
        yield UnflaggedSource(StoredSource(store, _longest_window_ms(settings.config.flywheel.join)), flags)
        return
    export_log(settings, show_progress)
    with show_progress("joining what was seen with what was done"):
        reader = wiring.build_logged_samples(settings, IdHasher(), window_ms=_WINDOW_MS, hours=hours)
    try:
        yield UnflaggedSource(LoggedSource(reader), flags)
    finally:
        reader.close()


def _store_at_work(settings: Settings) -> SampleStore | None:
    """Return the streaming join's samples; None where it is off, far behind, or keeps a part only."""
    flywheel = settings.config.flywheel
    if not flywheel.joins or flywheel.join.negative_rate < 1.0:
        return None
    store = wiring.build_sample_store(settings)
    behind_ms = wiring.build_event_clock(settings).now_ms() - store.watermark_ms
    return store if behind_ms <= flywheel.join.out_of_order_ms + _MAX_BEHIND_MS else None


def _longest_window_ms(join: JoinConfig) -> int:
    if join.windows == "dynamic":
        return join.max_window_ms
    return max(join.window_ms, *join.action_windows_ms.values(), 0)
