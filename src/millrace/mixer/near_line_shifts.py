"""What the near-line layer did to each prediction, read off the columns that it left: for explanations."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import ACTION_PROBS, DEEP_PROBS, FAST_SHIFTS
from millrace.mixer.value_model.weights import Float32Array
from millrace.models.blending import log_odds
from millrace.pipeline.batch import CandidateBatch


def near_line_shifts(batch: CandidateBatch) -> tuple[Float32Array, Float32Array]:
    """Return what calibration and the fast layer added to log-odds, each in the shape of the predictions.

    The fast layer's part is as it was added, calibration is the rest of the change.
    """
    probs = batch[ACTION_PROBS]
    nothing = np.zeros_like(probs)
    if DEEP_PROBS not in batch or not batch[DEEP_PROBS].any():
        return nothing, nothing
    deep, fast = batch[DEEP_PROBS], batch[FAST_SHIFTS]
    change = np.where(probs == deep, nothing, log_odds(probs) - log_odds(deep))
    return np.where(change == 0, nothing, change - fast), fast
