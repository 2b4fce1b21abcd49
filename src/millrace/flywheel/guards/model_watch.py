"""`ModelWatch`: one version's newest rows, and what the guards make of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import dense_fields
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.drift import DriftWatch, levels_of
from millrace.flywheel.guards.intervals import Estimate, clusters_of, live_auc, live_calibration, paired_auc
from millrace.flywheel.guards.readings import GuardName, Reading, State
from millrace.flywheel.near_line.learner import SettledRows
from millrace.flywheel.near_line.pages import Page

_BY_TIME: Final = frozenset({"hour_sin", "hour_cos", "since_newest"})
"""Features that move by themselves: the hour of the day does not drift."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a watch is kept beside its arrays; JSON has null for what is not finite."""

    n_rows: int
    n_pages: int
    n_looked: int
    is_before_own: bool
    before: dict[str, tuple[float | None, float | None]]
    in_a_row: list[tuple[str, str, int]]


class ModelWatch:
    """Watches one ranker version.

    Parameters
    ----------
    config
        Thresholds and sizes.
    actions
        The known actions.
    before
        The version that served before it: what its AUC and the features are compared with; None: its own first rows.

    Attributes
    ----------
    features
        How far those have moved.
    """

    def __init__(self, config: GuardsConfig, actions: ActionSpace, before: ModelWatch | None = None) -> None:
        self._config = config
        self._heads = tuple((name, actions.code(name)) for name in config.heads)
        self._codes = np.array([code for _, code in self._heads], dtype=np.intp)
        n, k = config.window_rows, len(self._heads)
        self._deep = np.zeros((n, k), dtype=np.float32)
        self._counted = np.zeros((n, k), dtype=np.float32)
        self._labels = np.zeros((n, k), dtype=np.bool_)
        self._viewers = np.zeros(n, dtype=np.int64)
        self._is_slow = np.zeros(k, dtype=np.bool_)
        self.n_rows = self.n_pages = 0
        self._predictions = DriftWatch(k, config.reference_rows, config.drift_rows)
        self._fields = dense_fields(actions)
        self.features = DriftWatch(len(self._fields), config.reference_rows, config.drift_rows)
        self._before: dict[str, Estimate] = {} if before is None else before.aucs()
        if before is not None:
            self.features.begin_with(before.features)
        self._n_looked = 0
        self._in_a_row: Counter[tuple[str, str]] = Counter()
        self._is_before_own = before is None or not self._before

    def hear_page(self, page: Page) -> None:
        """Take in what was predicted, and from what."""
        self.n_pages += 1
        self._predictions.add(levels_of(page.deep[:, self._codes]))
        if page.dense.shape[1] == len(self._fields):
            self.features.add(page.dense)

    def hear_settled(self, rows: SettledRows) -> None:
        """Take in what came of it."""
        n, size = len(rows.pages), len(self._viewers)
        at = (self.n_rows + np.arange(n))[-size:] % size
        self._deep[at] = rows.deep[-size:, self._codes]
        self._counted[at] = rows.counted[-size:, self._codes]
        self._labels[at] = rows.labels[-size:, self._codes] > 0.5
        self._viewers[at] = rows.viewers[-size:]
        if rows.is_slow is not None:
            self._is_slow = rows.is_slow[self._codes]
        self.n_rows += n
        if self._is_before_own and not self._before and self.n_rows >= self._config.reference_rows:
            self._before = self.aucs()

    def forget(self, viewer: int) -> None:
        """Know no longer whose rows those of a viewer are."""
        self._viewers[self._viewers == viewer] = 0

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what it is kept as."""
        told = _Kept(
            n_rows=self.n_rows,
            n_pages=self.n_pages,
            n_looked=self._n_looked,
            is_before_own=self._is_before_own,
            before={name: (found.value, found.error) for name, found in self._before.items()},
            in_a_row=[(guard, of, n) for (guard, of), n in self._in_a_row.items()],
        )
        found: dict[str, npt.NDArray[Any]] = {name: self._window(array) for name, array in self._rings().items()}
        found["told"] = np.frombuffer(msgspec.json.encode(told), dtype=np.uint8)
        for name, watch in (("predictions", self._predictions), ("features", self.features)):
            found.update({f"{name}.{part}": array for part, array in watch.arrays().items()})
        return found

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises
        ------
        KeyError, ValueError
            If it is damaged, or of other heads or sizes.
        """
        told = msgspec.json.decode(arrays["told"].tobytes(), type=_Kept)
        n = min(told.n_rows, len(self._viewers))
        for name, ring in self._rings().items():
            if arrays[name].shape != (n, *ring.shape[1:]):
                raise ValueError(f"{name} are of another shape")
            ring[:n] = arrays[name]
        for name, watch in (("predictions", self._predictions), ("features", self.features)):
            watch.load({part.removeprefix(f"{name}."): a for part, a in arrays.items() if part.startswith(f"{name}.")})
        self.n_rows, self.n_pages, self._n_looked = told.n_rows, told.n_pages, told.n_looked
        self._is_before_own = told.is_before_own
        self._before = {
            name: Estimate(math.nan if value is None else value, math.inf if error is None else error)
            for name, (value, error) in told.before.items()
        }
        self._in_a_row = Counter({(guard, of): count for guard, of, count in told.in_a_row})

    def _rings(self) -> dict[str, npt.NDArray[Any]]:
        return {"deep": self._deep, "counted": self._counted, "labels": self._labels, "viewers": self._viewers}

    def aucs(self) -> dict[str, Estimate]:
        """Return the AUC of each head of which there is enough."""
        found, viewers = {}, clusters_of(self._window(self._viewers))
        for place, (name, _) in enumerate(self._heads):
            is_positive = self._window(self._labels)[:, place]
            if self._has_enough(is_positive):
                found[name] = live_auc(is_positive, self._window(self._deep)[:, place], viewers)
        return found

    def look(self) -> list[Reading]:
        """Return what all guards say now. Every look with enough new rows counts towards `GuardsConfig.n_confirm`."""
        is_new = self.n_rows - self._n_looked >= self._config.n_new_rows
        if is_new:
            self._n_looked = self.n_rows
        readings = [*self._quality(), *self._drift()]
        return [self._confirmed(reading, is_new=is_new) for reading in readings]

    def _quality(self) -> list[Reading]:
        found: list[Reading] = []
        viewers, c = clusters_of(self._window(self._viewers)), self._config
        for place, (name, _) in enumerate(self._heads):
            is_positive = self._window(self._labels)[:, place]
            if not self._has_enough(is_positive):
                found.extend(self._waiting(guard, name, is_positive) for guard in ("auc", "calibration"))
                continue
            deep, counted = self._window(self._deep)[:, place], self._window(self._counted)[:, place]
            n = int(is_positive.sum())
            # Of pages that counters did not predict for there is nothing to compare with.
            has_counted = not np.isnan(counted).any()
            area, beside = paired_auc(is_positive, deep, counted if has_counted else deep, viewers)
            found.append(self._auc_reading("auc", name, area, c.least_auc, n))
            if (before := self._before.get(name)) is not None:
                fall = Estimate(area.value - before.value, math.hypot(area.error, before.error))
                found.append(self._auc_reading("auc_drop", name, fall, -c.max_auc_drop, n))
            if has_counted:
                found.append(self._auc_reading("auc_deficit", name, beside, -c.max_auc_deficit, n))
            if self._is_slow[place]:  # what comes late is not counted: far more seems predicted than happens
                found.append(self._waiting("calibration", name, is_positive))
            else:
                found.append(self._calibration(name, live_calibration(is_positive, deep, viewers), n))
        return found

    def _auc_reading(self, guard: GuardName, name: str, found: Estimate, threshold: float, n: int) -> Reading:
        # Of one viewer alone nothing is known: the interval is all there is.
        low, high = max(found.below(self._config.z), -1.0), min(found.above(self._config.z), 1.0)
        state: State = "tripped" if high < threshold else "warning" if found.above(2.0) < threshold else "ok"
        return Reading(
            guard=guard, of=name, value=found.value, low=low, high=high, threshold=threshold, state=state,
            n_rows=self._n_window, n_positives=n,
        )  # fmt: skip

    def _calibration(self, name: str, found: Estimate, n: int) -> Reading:
        c = self._config
        low, high = found.below(c.z), found.above(c.z)
        most, warned = math.log(c.max_calibration), math.log(c.warn_calibration)
        is_off = low > most or high < -most
        state: State = "tripped" if is_off else "warning" if low > warned or high < -warned else "ok"
        value, low, high = (math.exp(min(max(x, -50.0), 50.0)) for x in (found.value, low, high))
        return Reading(
            guard="calibration", of=name, value=value, low=low, high=high, threshold=c.max_calibration, state=state,
            n_rows=self._n_window, n_positives=n,
        )  # fmt: skip

    def _drift(self) -> list[Reading]:
        c, found = self._config, []
        for place, psi in enumerate(self._predictions.psi().tolist()):
            name = self._heads[place][0]
            found.append(self._psi_reading("prediction_drift", name, psi, c.max_prediction_psi, self._predictions))
        indexes = self.features.psi()
        worst = [p for p in np.argsort(-indexes).tolist() if self._fields[p] not in _BY_TIME][:5]
        found.extend(
            self._psi_reading("feature_drift", self._fields[p], float(indexes[p]), c.max_feature_psi, self.features)
            for p in worst
        )
        return found

    def _psi_reading(self, guard: GuardName, name: str, psi: float, most: float, watch: DriftWatch) -> Reading:
        state: State = "waiting"
        if watch.is_ready:
            state = "tripped" if most and psi >= most else "warning" if psi >= self._config.warn_psi else "ok"
        return Reading(
            guard=guard, of=name, value=psi, low=psi, high=psi, threshold=most or None, state=state,
            n_rows=self.n_rows,
        )  # fmt: skip

    def _waiting(self, guard: GuardName, name: str, is_positive: npt.NDArray[np.bool_]) -> Reading:
        return Reading(
            guard=guard, of=name, value=0.0, low=0.0, high=0.0, threshold=None, state="waiting", n_rows=self._n_window,
            n_positives=int(is_positive.sum()),
        )  # fmt: skip

    def _confirmed(self, reading: Reading, *, is_new: bool) -> Reading:
        """Return a reading that says "tripped" only where enough looks in a row have."""
        key = reading.guard, reading.of
        if reading.state != "tripped":
            self._in_a_row.pop(key, None)
            return reading
        self._in_a_row[key] += is_new
        if self._in_a_row[key] >= self._config.n_confirm:
            return reading
        return msgspec.structs.replace(reading, state="confirming")

    @property
    def _n_window(self) -> int:
        return min(self.n_rows, len(self._viewers))

    def _window(self, array: npt.NDArray[np.generic]) -> npt.NDArray:  # type: ignore[type-arg]
        return array[: self._n_window]

    def _has_enough(self, is_positive: npt.NDArray[np.bool_]) -> bool:
        n, least = int(is_positive.sum()), self._config.min_positives
        return self._n_window >= self._config.min_rows and n >= least and self._n_window - n >= least
