"""`ModelLayer`: what the near-line learner knows about one ranker: calibration, fast layer, and both gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.events.near_line_events import NearLineUpdated
from millrace.events.packed import pack_arrays
from millrace.flywheel.metrics import IntArray, cross_entropies
from millrace.flywheel.near_line.calibrator import Calibrator
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.ftrl import FtrlSettings, fast_probs, ftrl_arrays, ftrl_from, ftrl_step, ftrl_table
from millrace.flywheel.near_line.gain import Gain
from millrace.flywheel.near_line.pages import Page

MAX_ROWS: Final = 2_048
"""Rows of the table in one event: some hundred kilobytes before compression."""

BoolArray = npt.NDArray[np.bool_]


class ModelLayer:
    """One ranker's.

    Parameters
    ----------
    config
        How it learns.
    is_learned
        Shape (n_heads,), bool: heads that are probabilities.
    """

    def __init__(self, config: NearLineConfig, is_learned: BoolArray) -> None:
        n = len(is_learned)
        self._config = config
        self._is_learned = is_learned
        self._settings = FtrlSettings(config.alpha, config.beta, config.l1, config.l2, config.half_life_h)
        self._table = ftrl_table(config.n_slots, n)
        self.calibrator = Calibrator(n, config.calibration_rows)
        self.calibration_gain, self.fast_gain = (
            Gain(n, z=config.gate_z, min_positives=config.gate_positives, n_pages=config.gate_pages) for _ in range(2)
        )
        self._sent: tuple[bytes, ...] | None = None
        self._needs_reset = True
        self.n_steps = 0

    def predict(self, page: Page) -> None:
        """Write down what calibration and the fast layer would have predicted for a page."""
        page.calibrated = self.calibrator.probs(page.deep, self._is_learned)
        page.base = np.where(self.calibration_gain.is_open, page.calibrated, page.deep)
        page.fast = fast_probs(self._table, page.slots, page.base, self._is_learned)

    def learn(self, page: Page, row: int, now_ms: int) -> None:
        """Learn a row with its labels as they are now."""
        now = fast_probs(self._table, page.slots[row : row + 1], page.base[row : row + 1], self._is_learned)[0]
        self._step(page, row, now - page.labels[row], now_ms)

    def correct(self, page: Page, row: int, change: npt.NDArray[np.float32], now_ms: int) -> None:
        """Make a learned row good whose labels have changed by so much."""
        self._step(page, row, -change, now_ms)

    def settle(self, page_numbers: IntArray, pages: list[Page], rows: IntArray) -> None:
        """Take in rows whose labels count as whole; those of one page together."""
        if not len(rows):
            return
        pairs = list(zip(pages, rows.tolist(), strict=True))
        labels, deep, calibrated, base, fast = (
            np.stack([getattr(page, name)[row] for page, row in pairs])
            for name in ("labels", "deep", "calibrated", "base", "fast")
        )
        happened = labels * self._is_learned
        is_positive = happened > 0.5
        loss_deep, loss_calibrated, loss_base, loss_fast = (
            cross_entropies(is_positive, probs) * self._is_learned for probs in (deep, calibrated, base, fast)
        )
        self.calibration_gain.add(loss_deep, loss_calibrated, happened, page_numbers)
        was_open = self.fast_gain.is_open
        self.fast_gain.add(loss_base, loss_fast, happened, page_numbers)
        if (self.fast_gain.is_open & ~was_open).any():
            self._table.is_new[:] |= (self._table.weights != 0).any(axis=1)  # of a head that opens nobody has any yet
        self.calibrator.add(deep, labels)

    def silence(self, model: str) -> list[NearLineUpdated]:
        """Return, once, what lets servers forget a layer that they may have from before learning was switched off."""
        if not self._needs_reset:
            return []
        self._needs_reset = False
        n = len(self._is_learned)
        arrays: dict[str, npt.NDArray[Any]] = {
            "slopes": np.ones(n, dtype=np.float32),
            "shifts": np.zeros(n, dtype=np.float32),
            "is_calibrated": np.zeros(n, dtype=np.uint8),
            "fast_gates": np.zeros(n, dtype=np.float32),
            "slots": np.zeros(0, dtype=np.int32),
            "weights": np.zeros((0, n), dtype=np.float32),
        }
        n_slots = self._config.n_slots
        return [NearLineUpdated(model=model, n_slots=n_slots, is_reset=True, arrays=pack_arrays(arrays))]

    def updates(self, model: str, is_slow: BoolArray) -> list[NearLineUpdated]:
        """Return what the servers do not know yet, and take them to know it from now on.

        Of slow heads, (n_heads,), the gates were judged by labels that lack what comes late: these stay shut.
        """
        self.calibrator.fit()
        used = self._is_learned & ~is_slow
        heads: dict[str, npt.NDArray[Any]] = {
            "slopes": np.where(self._is_learned, self.calibrator.slopes, 1).astype(np.float32),
            "shifts": np.where(self._is_learned, self.calibrator.shifts, 0).astype(np.float32),
            "is_calibrated": (self.calibration_gain.is_open & used).astype(np.uint8),
            "fast_gates": (self.fast_gain.is_open & used).astype(np.float32),
        }
        is_open = heads["fast_gates"] > 0
        if not heads["is_calibrated"].any():  # nobody reads them: nothing to tell
            heads["slopes"], heads["shifts"] = np.ones_like(heads["slopes"]), np.zeros_like(heads["shifts"])
        told = tuple(array.tobytes() for array in heads.values())
        slots = np.flatnonzero(self._table.is_new) if is_open.any() else np.zeros(0, dtype=np.intp)
        if told == self._sent and not len(slots):
            return []
        found: list[NearLineUpdated] = []
        for start in range(0, max(len(slots), 1), MAX_ROWS):
            some = slots[start : start + MAX_ROWS]
            weights = np.where(is_open, self._table.weights[some], 0).astype(np.float32)
            arrays = {**heads, "slots": some.astype(np.int32), "weights": weights}
            is_first = self._needs_reset and not found
            found.append(
                NearLineUpdated(
                    model=model, n_slots=self._config.n_slots, is_reset=is_first, arrays=pack_arrays(arrays)
                )
            )
        if is_open.any():
            self._table.is_new[:] = False
        self._sent, self._needs_reset = told, False
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what it is kept as."""
        parts = {
            "table": ftrl_arrays(self._table),
            "calibrator": self.calibrator.arrays(),
            "calibration_gain": self.calibration_gain.arrays(),
            "fast_gain": self.fast_gain.arrays(),
        }
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave; the servers are told all of it again."""

        def of(part: str) -> dict[str, npt.NDArray[Any]]:
            prefix = f"{part}."
            return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}

        self._table = ftrl_from(of("table"))
        self._table.is_new[:] = (self._table.weights != 0).any(axis=1)
        self.calibrator.load(of("calibrator"))
        self.calibration_gain.load(of("calibration_gain"))
        self.fast_gain.load(of("fast_gain"))

    def _step(self, page: Page, row: int, gradients: npt.NDArray[np.floating], now_ms: int) -> None:
        wanted = np.where(self._is_learned, gradients, 0).astype(np.float32)
        ftrl_step(self._table, self._settings, page.slots[row], wanted, now_ms / 3_600_000)
        self.n_steps += 1
