"""Pages for the learning loop: from the home's warehouse, with labels that are known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.app import wiring
from millrace.app.sampling import export_log, nothing_seen
from millrace.app.settings import Settings
from millrace.base.ids import IdHasher
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.slate_join import HOUR_MS

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.flywheel.learning_round import SampleSource
    from millrace.flywheel.logged_samples import LoggedSamples

_WINDOW_MS: Final = 24 * HOUR_MS
_NEARLY_ALL: Final = 0.99


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

    def samples(self, from_ms: int, until_ms: int) -> SampleSet:
        """Return the pages of a span whose features were logged and whose labels are known.

        Raises
        ------
        StoreError
            If there are none.
        """
        slates = self._reader.slates
        wanted = np.flatnonzero((slates.ended_ms < self._reader.mature_until_ms) & (slates.ended_ms >= from_ms))
        found, numbers = self._reader.of_slates(wanted, from_ms, until_ms)
        if not len(numbers):
            raise nothing_seen()
        return found


@contextmanager
def sample_source(settings: Settings, show_progress: ShowProgress, *, hours: float) -> Iterator[SampleSource]:
    """Give what reads a home's newest pages for learning, as they are now.

    Parameters
    ----------
    settings
        The home.
    show_progress
        Tells the person waiting.
    hours
        How far back pages may be asked for.
    """
    export_log(settings, show_progress)
    with show_progress("joining what was seen with what was done"):
        reader = wiring.build_logged_samples(settings, IdHasher(), window_ms=_WINDOW_MS, hours=hours)
    try:
        yield LoggedSource(reader)
    finally:
        reader.close()
