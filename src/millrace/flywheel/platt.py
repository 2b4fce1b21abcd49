"""Platt scaling in NumPy: one score becomes a probability by a slope and a shift of its logit.

The fit is drawn towards slope 1 and shift 0 as if by a few observations more, as that of the learned ranker's heads is
(`millrace.models.learned_ranker.calibrate`), so that a head with hardly any positives stays as it is.

References
----------
Platt: Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers 1999.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from millrace.flywheel.metrics import Float64Array, FloatArray

SMALLEST: Final = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""

_N_NEWTON: Final = 50
_PRIOR: Final = np.array([20.0, 2.0])


class Platt(NamedTuple):
    """A slope and a shift of logits."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, logits: FloatArray) -> Float64Array:
        """Return probabilities, of the shape of the logits."""
        return sigmoid(self.slope * logits.astype(np.float64) + self.shift)


def fit_platt(
    logits: FloatArray,
    labels: FloatArray,
    weights: FloatArray | None = None,
    *,
    start: tuple[float, float] = (1.0, 0.0),
) -> Platt:
    """Return the slope and shift under which the labels are likeliest, by Newton's method.

    Parameters
    ----------
    logits, labels
        Shape (n,); labels 0 or 1.
    weights
        Shape (n,): how much a row counts; None: as one.
    start
        Slope and shift that the fit is drawn towards, and begins from. For scores that are no logits: 0, and the logit
        of the base rate.
    """
    x, y = logits.astype(np.float64), np.clip(labels.astype(np.float64), 0.0, 1.0)
    rows = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    design = np.stack([x, np.ones_like(x)], axis=1)
    prior = np.array(start, dtype=np.float64)
    both = prior.copy()
    for _ in range(_N_NEWTON):
        p = sigmoid(design @ both)
        gradient = design.T @ (rows * (p - y)) + _PRIOR * (both - prior)
        curvature = (design * (rows * p * (1.0 - p))[:, None]).T @ design + np.diag(_PRIOR)
        step = np.linalg.solve(curvature, gradient)
        both -= np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return Platt(float(both[0]), float(both[1]))


def logit(probabilities: FloatArray) -> Float64Array:
    """Return log odds, of the same shape; 0 and 1 are taken as `SMALLEST` away from themselves."""
    p = np.clip(probabilities.astype(np.float64), SMALLEST, 1.0 - SMALLEST)
    logits: Float64Array = np.log(p) - np.log1p(-p)
    return logits


def sigmoid(logits: FloatArray) -> Float64Array:
    """Return probabilities of log odds, of the same shape, without overflow."""
    z = np.exp(-np.abs(logits.astype(np.float64)))
    p: Float64Array = np.where(logits >= 0, 1.0, z) / (1.0 + z)
    return p
