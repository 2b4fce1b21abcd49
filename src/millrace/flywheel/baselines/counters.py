"""Counters-based rates: what the feed predicts without a model, as they are and calibrated."""

from __future__ import annotations

import numpy as np

from millrace.base.actions import CONTINUOUS
from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.contract import Predict
from millrace.flywheel.metrics import Float64Array
from millrace.flywheel.platt import Platt, fit_platt, logit
from millrace.flywheel.sample_set import Float32Array, SampleSet


def fit_counters(samples: SampleSet, learned: Int64Array, validated: Int64Array) -> Predict:  # noqa: ARG001 - as a Fit
    """Return the counters' predictions with a slope and a shift of each head, fitted on the validated slates."""
    rows = samples.rows_of(validated)
    weights = np.asarray(samples.weights[rows])
    heads = [
        Platt()
        if head in CONTINUOUS
        else fit_platt(counter_logits(samples, rows, head), np.asarray(samples.labels[rows, head]), weights)
        for head in range(len(samples.meta.actions))
    ]

    def predict(samples: SampleSet, slates: Int64Array) -> Float32Array:
        rows = samples.rows_of(slates)
        found: Float32Array = np.array(samples.baseline[rows], dtype=np.float32)
        for head, platt in enumerate(heads):
            if head not in CONTINUOUS:
                found[:, head] = platt(counter_logits(samples, rows, head))
        return found

    return predict


def counter_logits(samples: SampleSet, rows: Int64Array, head: int) -> Float64Array:
    """Return the log odds of the counters' predictions of one head for some rows, shape (n,)."""
    return logit(np.asarray(samples.baseline[rows, head]))
