"""`GuardMonitor`: watches every ranker that is served, and says which must go.

A guard trips when the whole interval of its figure lies beyond the threshold, over enough rows and actions, in several
looks in a row that each had new rows. Errors are over viewers, so that one who scrolls for hours counts once. What is
watched is the ranker's own prediction, before the near-line layer: a layer that makes a bad ranker good would hide it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from millrace.base.actions import ActionSpace
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.model_watch import ModelWatch
from millrace.flywheel.guards.readings import ModelReadings, Trip
from millrace.flywheel.near_line.learner import SettledRows
from millrace.flywheel.near_line.pages import Page

MAX_MODELS: Final = 4


class GuardMonitor:
    """Watches; a `millrace.flywheel.near_line.learner.Watcher`.

    Parameters
    ----------
    config
        Thresholds and sizes.
    actions
        The known actions.
    """

    def __init__(self, config: GuardsConfig, actions: ActionSpace) -> None:
        self._config = config
        self._actions = actions
        self._watches: OrderedDict[str, ModelWatch] = OrderedDict()
        self._gone: set[str] = set()

    def hear_page(self, page: Page) -> None:
        """Hear of a page that was served."""
        if page.model not in self._gone:
            self._watch(page.model).hear_page(page)

    def hear_settled(self, rows: SettledRows) -> None:
        """Hear of rows whose labels count as whole."""
        if rows.model not in self._gone:  # pages of a version that is gone already still settle
            self._watch(rows.model).hear_settled(rows)

    def look(self) -> tuple[list[ModelReadings], list[Trip]]:
        """Return what all guards say, and each version that must go, once."""
        found, trips = [], []
        for model, watch in self._watches.items():
            readings = watch.look()
            found.append(
                ModelReadings(model=model, n_rows=watch.n_rows, n_pages=watch.n_pages, readings=tuple(readings))
            )
            tripped = next((reading for reading in readings if reading.state == "tripped"), None)
            if tripped is not None and model not in self._gone:
                trips.append(Trip(model=model, reading=tripped))
        return found, trips

    @property
    def gone(self) -> frozenset[str]:
        """The versions that were taken away."""
        return frozenset(self._gone)

    def take_away(self, model: str) -> None:
        """Know that a version was taken away: nothing more is said of it, and none is measured against it."""
        self._gone.add(model)
        self._watches.pop(model, None)

    def begin_again(self, model: str) -> None:
        """Watch a version that serves again as if it were new: somebody has promoted it once more."""
        self._gone.discard(model)
        self._watches.pop(model, None)

    def _watch(self, model: str) -> ModelWatch:
        watch = self._watches.get(model)
        if watch is None:
            before = next(reversed(self._watches.values()), None)
            watch = self._watches[model] = ModelWatch(self._config, self._actions, before)
            while len(self._watches) > MAX_MODELS:
                self._watches.popitem(last=False)
        return watch
