"""Losses of the ranker: one per head, added up, or weighted by their uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MIN_LOSS = 0.01
"""Of a head that hardly ever happens: it must not weigh more than one that happens once in a thousand."""

DWELL_UNIT_S = 10.0
"""Dwell enters its loss in tens of seconds, so that it weighs about as much as an action."""

_LEAST_PROBABILITY = 1e-6


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
    losses = _losses(logits, labels, continuous)
    n = (weights.max(dim=1).values > 0).sum().clamp(min=1)
    return (losses * weights).sum(dim=0) / n


def distillation_losses(
    logits: Tensor,
    teacher: Tensor,
    labels: Tensor,
    weights: Tensor,
    has_labels: Tensor,
    continuous: int,
    *,
    temperature: float,
    soft_share: float,
) -> Tensor:
    """Return the weighted mean loss of each head of a student, shape (n_actions,): its teacher's and the labels'.

    Discrete heads follow the teacher at a temperature (Hinton, Vinyals and Dean 2015): both logits are divided by it,
    so that what is rare is told apart too, and the loss is multiplied by its square, so that gradients keep their size.
    The continuous head follows the teacher's seconds as it would follow a label. A row without labels has only a
    teacher, and counts as much as the others.

    Parameters
    ----------
    logits, labels
        Shape (n, n_actions); labels of the continuous head in seconds.
    teacher
        Shape (n, n_actions): its predictions, probabilities and seconds.
    weights
        Shape (n,): how much a row counts.
    has_labels
        Shape (n,), bool: which rows have labels.
    continuous
        The column of the continuous head.
    temperature
        At least 1.
    soft_share
        How much of a labelled row's loss is the teacher's; the rest is the labels'.
    """
    is_dwell = torch.arange(logits.shape[1], device=logits.device) == continuous
    cooled = torch.where(is_dwell, 1.0, temperature)
    said = torch.logit(teacher.clamp(_LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY))
    targets = torch.where(is_dwell, teacher, torch.sigmoid(said / cooled))
    soft = _losses(logits / cooled, targets, continuous) * cooled.square()
    share = torch.where(has_labels, soft_share, 1.0)[:, None]
    # Labels of rows that have none are never looked at: whatever they hold, NaN even, is taken for 0.
    real = _losses(logits, torch.where(has_labels[:, None], labels, 0.0), continuous)
    losses = share * soft + (1.0 - share) * real
    # By the weights' sum: rows of sampled requests weigh ten times and more, and so would steps that hold some.
    return (losses * weights[:, None]).sum(dim=0) / weights.sum().clamp(min=1e-9)


def _losses(logits: Tensor, labels: Tensor, continuous: int) -> Tensor:
    """Return the loss of each head and row, shape (n, n_actions)."""
    losses = functional.binary_cross_entropy_with_logits(logits, labels.clamp(0.0, 1.0), reduction="none")
    seconds = functional.softplus(logits[:, continuous]) / DWELL_UNIT_S
    target = labels[:, continuous] / DWELL_UNIT_S
    dwell = seconds - target * torch.log(seconds + 1e-6)
    is_dwell = torch.arange(logits.shape[1], device=logits.device) == continuous
    return torch.where(is_dwell, dwell[:, None], losses)


def plain_losses(rates: Tensor, continuous: int) -> Tensor:
    """Return each head's loss where nothing is known but its rate, shape (n_heads,); at least `MIN_LOSS`.

    Parameters
    ----------
    rates
        Shape (n_heads,): rates of actions, and mean seconds of the continuous head.
    continuous
        The column of that.
    """
    p = rates.clamp(1e-6, 1.0 - 1e-6)
    entropy = -(p * torch.log(p) + (1.0 - p) * torch.log(1.0 - p))
    entropy[continuous] = 1.0  # a deviance, which begins at about that
    return entropy.clamp(min=MIN_LOSS)


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

    def start_from(self, losses: Tensor) -> None:
        """Begin with heads that weigh alike: each by its loss where nothing is known but its rate, shape (n_heads,).

        To find that out by steps of the learning rate would take longer than all of training: rates differ a
        hundredfold.
        """
        with torch.no_grad():
            self.log_variances.copy_(torch.log(losses))

    def forward(self, losses: Tensor) -> Tensor:
        """Return the total, a scalar."""
        return (torch.exp(-self.log_variances) * losses + 0.5 * self.log_variances).sum()
