"""`Delivery`: the way of feedback to the server. Some arrives seconds to hours late, some twice, some never.

Event times stay what they are; what is late is sent with a later slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Purpose

_FEEDBACK: Final = (Impression, Engagement)
_MEDIAN_DELAY_MS: Final = 10 * 60_000
_DELAY_SIGMA: Final = 1.4
_MAX_DELAY_MS: Final = 6 * HOUR_MS


class Delivery:
    """Holds what is under way.

    Parameters
    ----------
    config, draws
        Of the world.

    Attributes
    ----------
    under_way
        Events with the time at which they arrive.
    """

    def __init__(self, config: WorldConfig, draws: Draws) -> None:
        self._config = config
        self._draws = draws
        self.under_way: list[tuple[int, AnyEvent]] = []

    def take(self, events: Iterable[AnyEvent], stop_ms: int) -> list[AnyEvent]:
        """Take new events, and return all that arrives before ``stop_ms``, in order of arrival."""
        config, new = self._config, list(events)
        if new:
            order = np.array([int(event.event_id.rsplit("-", 1)[1]) for event in new])
            fate = self._draws.uniform(Purpose.DELIVERY, order, 0)
            z = self._draws.normal(Purpose.DELIVERY, order, 1)
            delay = np.minimum(_MEDIAN_DELAY_MS * np.exp(_DELAY_SIGMA * z), _MAX_DELAY_MS).astype(np.int64)
            lost, late = config.lost_frac, config.lost_frac + config.late_frac
            for event, u, delay_ms in zip(new, fate.tolist(), delay.tolist(), strict=True):
                arrives_ms = event.event_time_ms
                if isinstance(event.payload, _FEEDBACK):
                    if u < lost:
                        continue
                    if u < late:
                        arrives_ms += delay_ms
                    elif u > 1.0 - config.twice_frac:
                        # Sent again because the answer was not heard: the same event, with the same id.
                        self.under_way.append((arrives_ms + delay_ms, event))
                self.under_way.append((arrives_ms, event))
        self.under_way.sort(key=_arrival)
        n_here = sum(arrives_ms < stop_ms for arrives_ms, _ in self.under_way)
        here = [event for _, event in self.under_way[:n_here]]
        self.under_way = self.under_way[n_here:]
        return here


def _arrival(entry: tuple[int, AnyEvent]) -> int:
    return entry[0]
