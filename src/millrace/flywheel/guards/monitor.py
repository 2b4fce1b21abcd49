"""`GuardMonitor`: watches every ranker that is served, and says which must go.

A guard trips when the whole interval of its figure lies beyond the threshold, over enough rows and actions, in several
looks in a row that each had new rows. Errors are over viewers, so that one who scrolls for hours counts once. What is
watched is the ranker's own prediction, before the near-line layer: a layer that makes a bad ranker good would hide it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import dense_fields
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.model_watch import ModelWatch
from millrace.flywheel.guards.readings import ModelReadings, Trip
from millrace.flywheel.near_line.learner import SettledRows
from millrace.flywheel.near_line.pages import Page

MAX_MODELS: Final = 4
_TOLD: Final = "told"
_VERSION: Final = 1
"""Of what is kept."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept beside the versions' arrays."""

    settings: str
    models: list[str]
    gone: list[str]


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

    def forget(self, viewer: int) -> None:
        """Know no longer whose rows those of a viewer are: they are to be erased."""
        for watch in self._watches.values():
            watch.forget(viewer)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what it is kept as: rows and histograms, version by version, and the settings that they hang on."""
        told = _Kept(settings=self._settings, models=list(self._watches), gone=sorted(self._gone))
        found: dict[str, npt.NDArray[Any]] = {_TOLD: np.frombuffer(msgspec.json.encode(told), dtype=np.uint8)}
        for place, watch in enumerate(self._watches.values()):
            found.update({f"{place}.{name}": array for name, array in watch.arrays().items()})
        return found

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave; where it raises, nothing is.

        Raises
        ------
        KeyError, ValueError
            If there is nothing, it is damaged, or of other settings, actions or features.
        """
        told = msgspec.json.decode(arrays[_TOLD].tobytes(), type=_Kept)
        if told.settings != self._settings:
            raise ValueError("of other settings")
        watches: OrderedDict[str, ModelWatch] = OrderedDict()
        for place, model in enumerate(told.models):
            prefix = f"{place}."
            watches[model] = ModelWatch(self._config, self._actions)
            watches[model].load({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
        self._watches, self._gone = watches, set(told.gone)

    @property
    def _settings(self) -> str:
        data = msgspec.json.encode((_VERSION, self._config, self._actions.names, dense_fields(self._actions)))
        return hashlib.blake2b(data, digest_size=16).hexdigest()

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
