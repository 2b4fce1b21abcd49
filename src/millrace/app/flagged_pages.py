"""Pages of viewers whose traffic was flagged: nobody learns from them, and nobody is judged by them.

The door flags what no person does (`TrafficFlagged`), and drops nothing. A model that learned from it could be steered
by whoever acts for many. The pages that flagged events name are left out, however old they were by then, and what their
viewer was served within an hour of the events; all of the viewer's other pages stay: a person may have lent a script a
finger for a minute. Who names another viewer's page does nothing to it. A wrong clock alone is no reason: times are
mended.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.base.errors import NoSamplesError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.traffic_events import TrafficFlagged
from millrace.flywheel.sample_set import SampleSet
from millrace.stores.applier import decode_records

if TYPE_CHECKING:
    from millrace.flywheel.learning_round import Keep, SampleSource

REACH_MS: Final = 3_600_000
"""How long before and after flagged events their viewer's pages are left out."""
_POLL_RECORDS: Final = 1_000

logger = logging.getLogger(__name__)


class Flags(NamedTuple):
    """Flags of viewers.

    Attributes
    ----------
    viewers, first_ms, last_ms
        Whose, and the span of times that each is about, by viewer; shape (n,) each.
    pages
        Viewers and requests of the pages that they name.
    """

    viewers: Int64Array
    first_ms: Int64Array
    last_ms: Int64Array
    pages: frozenset[tuple[int, int]] = frozenset()


class UnflaggedSource:
    """Another source's pages without those of flagged viewers; a `SampleSource`.

    Parameters
    ----------
    source
        Of all pages; an attribute, too.
    flags
        Whose are left out.
    """

    def __init__(self, source: SampleSource, flags: Flags) -> None:
        self.source = source
        self._flags = flags

    @property
    def known_until_ms(self) -> int:
        """As of the source."""
        return self.source.known_until_ms

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        """Return how many pages of a span there are, those of flagged viewers among them."""
        return self.source.n_pages(from_ms, until_ms)

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        """Return the pages of a span.

        Raises
        ------
        NoSamplesError
            If there are none.
        """
        found = self.source.samples(from_ms, until_ms, keep)
        is_out = is_flagged(found.viewers, found.now_ms, found.requests, self._flags)
        if not is_out.any():
            return found
        logger.info("%d of %d pages are left out: their viewers' traffic was flagged", is_out.sum(), len(found))
        if is_out.all():
            raise NoSamplesError(
                "pages", problem="are all of flagged viewers", remedy="see millrace_flagged_events at /metrics"
            )
        return found.take(np.flatnonzero(~is_out))


def is_flagged(
    viewers: Int64Array, at_ms: Int64Array, requests: Int64Array, flags: Flags
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which pages flagged events are about, or were made for their viewer within an hour of them, shape (n,).

    Parameters
    ----------
    viewers, at_ms, requests
        Of the pages: for whom, when, and their ids (0 where none). Shape (n,).
    flags
        By viewer.
    """
    found = np.zeros(len(viewers), dtype=np.bool_)
    for row in np.flatnonzero(np.isin(viewers, flags.viewers)).tolist():
        first, end = (int(np.searchsorted(flags.viewers, viewers[row], side)) for side in ("left", "right"))
        is_near = (flags.first_ms[first:end] - REACH_MS <= at_ms[row]) & (
            at_ms[row] <= flags.last_ms[first:end] + REACH_MS
        )
        found[row] = is_near.any() or (int(viewers[row]), int(requests[row])) in flags.pages
    return found


def read_flags(settings: Settings) -> Flags:
    """Return all flags that the log of a home still holds, but those of clocks."""
    codec, hasher = wiring.build_codec(settings), IdHasher()
    rows: list[tuple[int, int, int]] = []
    pages: set[tuple[int, int]] = set()
    log = wiring.build_log(settings)
    with closing(log), closing(log.subscribe("flags", topics=("events.traffic",), start=log.begin())) as consumer:
        while len(records := consumer.poll(_POLL_RECORDS)):
            for event in decode_records(records, codec.decode)[0].events:
                flag = event.payload
                if not isinstance(flag, TrafficFlagged) or flag.reason == "clock":
                    continue
                viewer = hasher.one(IdKind.USER, flag.viewer_id)
                # A flag from before they had spans stands where it arrived.
                span = (flag.first_ms, flag.last_ms) if flag.last_ms else (event.event_time_ms, event.event_time_ms)
                rows.append((viewer, *span))
                pages.update((viewer, hasher.one(IdKind.REQUEST, request)) for request in flag.requests)
    found = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
    return Flags(found[:, 0], found[:, 1], found[:, 2], frozenset(pages))
