"""Figures of what was predicted before anything was learned."""

import math

import numpy as np
import pytest

from millrace.base.actions import N_ACTIONS, Action, ActionSpace
from millrace.flywheel.decisions import HeadMetrics
from millrace.flywheel.prequential import head_metrics, judged_heads, mean_figures


def test_only_discrete_heads_with_enough_of_both_have_figures() -> None:
    labels = np.zeros((10, N_ACTIONS), dtype=np.float32)
    labels[:3, Action.LIKE] = 1
    labels[:2, Action.REPLY] = 1
    labels[:, Action.DWELL] = 1
    labels[:5, Action.DWELL_TIME] = 7
    assert judged_heads(labels, 3) == [Action.LIKE]
    probs = np.full(labels.shape, 0.3, dtype=np.float32)
    probs[:3, Action.LIKE] = 0.4
    (like,) = head_metrics(labels, probs, ActionSpace().names, 3)
    assert (like.action, like.n_positive, like.auc) == ("like", 3, 1.0)
    assert like.calibration == pytest.approx((3 * 0.4 + 7 * 0.3) / 3)


def test_means_over_heads_and_nothing_over_none() -> None:
    heads = [
        HeadMetrics(action=action, n_positive=1, auc=auc, normalised_entropy=0.9, calibration=calibration)
        for action, auc, calibration in (("like", 0.6, 2.0), ("reply", 0.8, 0.5))
    ]
    assert mean_figures(heads) == pytest.approx((0.7, 0.9, 1.0))
    assert all(math.isnan(figure) for figure in mean_figures([]))
