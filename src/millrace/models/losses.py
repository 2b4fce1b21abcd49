"""Losses of the ranker: one per head, added up, or weighted by their uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DWELL_UNIT_S = 10.0
"""Dwell enters its loss in tens of seconds, so that it weighs about as much as an action."""


def head_losses(logits: Tensor, labels: Tensor, weights: Tensor, continuous: int) -> Tensor:
    """Return the weighted mean loss of each head, shape (n_actions,).

    Discrete heads: binary cross-entropy. The continuous one: Poisson deviance of its softplus (up to a constant), which
    is least where the prediction is the mean, whatever the distribution; squares would follow the few longest looks.

    Parameters
    ----------
    logits, labels
        Shape (n, n_actions); labels of the continuous head in seconds.
    weights
        Shape (n, n_actions): 0 where a label is not known.
    continuous
        The column of the continuous head.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, labels.clamp(0.0, 1.0), reduction="none")
    seconds = functional.softplus(logits[:, continuous]) / DWELL_UNIT_S
    target = labels[:, continuous] / DWELL_UNIT_S
    dwell = seconds - target * torch.log(seconds + 1e-6)
    is_dwell = torch.arange(logits.shape[1], device=logits.device) == continuous
    losses = torch.where(is_dwell, dwell[:, None], losses)
    n = (weights.max(dim=1).values > 0).sum().clamp(min=1)
    return (losses * weights).sum(dim=0) / n


class UncertaintyWeights(nn.Module):
    """Weighs heads by a learned uncertainty each (Kendall, Gal and Cipolla 2018), instead of adding them up.

    Parameters
    ----------
    n_heads
        How many.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(n_heads))

    def forward(self, losses: Tensor) -> Tensor:
        """Return the total, a scalar."""
        return (torch.exp(-self.log_variances) * losses + 0.5 * self.log_variances).sum()
