"""Prequential figures: every hour is predicted by what serves before anything learns from it, so that no page flatters.

References
----------
Gama, Sebastiao, Rodrigues: On evaluating stream learning algorithms, Machine Learning 2013 (test, then train).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.base.actions import CONTINUOUS
from millrace.flywheel import metrics
from millrace.flywheel.decisions import HeadMetrics

Floats = npt.NDArray[np.floating[Any]]


def judged_heads(labels: Floats, min_positives: int) -> list[int]:
    """Return the discrete heads with enough positives, and as many others, among rows of labels, (n, n_actions)."""
    n_positive = (np.asarray(labels) > 0).sum(axis=0)
    return [
        head
        for head in range(labels.shape[1])
        if head not in CONTINUOUS and min(int(n_positive[head]), len(labels) - int(n_positive[head])) >= min_positives
    ]


def head_metrics(labels: Floats, probs: Floats, actions: Sequence[str], min_positives: int) -> tuple[HeadMetrics, ...]:
    """Return the figures of every head that has enough of both, in the order of actions.

    Parameters
    ----------
    labels, probs
        Shape (n, n_actions): above 0 is positive; predictions, finite.
    actions
        Names of the columns.
    min_positives
        With fewer positives, or others, a head has no figures.
    """
    found = []
    for head in judged_heads(labels, min_positives):
        is_positive, p = np.asarray(labels[:, head] > 0), np.asarray(probs[:, head], dtype=np.float64)
        found.append(
            HeadMetrics(
                action=actions[head],
                n_positive=int(is_positive.sum()),
                auc=metrics.auc(is_positive, p),
                normalised_entropy=metrics.normalised_entropy(is_positive, p),
                calibration=metrics.calibration(is_positive.astype(np.float64), p),
            )
        )
    return tuple(found)


def mean_figures(heads: Sequence[HeadMetrics]) -> tuple[float, float, float]:
    """Return AUC, normalised entropy and calibration, each in the mean over heads; NaN where there are none.

    The mean of calibration is geometric: twice too much and half of what is right cancel out.
    """
    if not heads:
        return (float("nan"),) * 3
    return (
        float(np.mean([head.auc for head in heads])),
        float(np.mean([head.normalised_entropy for head in heads])),
        float(np.exp(np.mean([np.log(max(head.calibration, 1e-9)) for head in heads]))),
    )
