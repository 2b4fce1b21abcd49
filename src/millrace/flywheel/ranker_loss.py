"""The ranker's loss on a batch: own impressions with their labels, and rows borrowed from other viewers' slates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from millrace.base.actions import NEGATIVE, Action
from millrace.flywheel.ranker_batches import RankerBatch, assembled
from millrace.models.learned_ranker import LearnedRanker
from millrace.models.losses import head_losses

if TYPE_CHECKING:
    from millrace.flywheel.train_ranker import RankerTraining


def ranker_loss(model: LearnedRanker, batch: RankerBatch, config: RankerTraining, head_weights: Tensor) -> Tensor:
    """Return what a batch's predictions lack, a scalar: heads summed, or weighed by their uncertainty.

    Parameters
    ----------
    model
        In training.
    batch
        Slates of several viewers.
    config
        Whether places are told apart, what borrowed rows weigh, how heads are summed.
    head_weights
        Shape (n_actions,): 0 for heads that are not learned.
    """
    ranker = model.ranker
    profile, history, mask, candidates = assembled(batch, model.tables)
    viewers = ranker.encode(profile, history, mask)
    logits, labels, weights = _with_borrowed(ranker.logits, batch, candidates, viewers, config)
    if config.is_position_debiased:
        n_own = batch.positions.shape[1]
        own = ranker.biased(logits[:, :n_own], batch.positions)
        logits = torch.cat([own, logits[:, n_own:]], dim=1)
    is_row = weights.max(dim=-1).values > 0
    losses = head_losses(logits[is_row].float(), labels[is_row], weights[is_row] * head_weights, ranker.continuous)
    total: Tensor = model.uncertainty(losses) if config.is_uncertainty_weighted else losses.sum()
    return total


def _with_borrowed(
    score: Callable[..., Tensor], batch: RankerBatch, candidates: Tensor, viewers: Any, config: RankerTraining
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, labels and weights of the slates' own rows and, behind them, of the rows that they borrow."""
    own_weights = batch.weights[..., None].expand(-1, -1, batch.labels.shape[2])
    if config.borrowed_weight == 0.0 or len(candidates) == 1:
        return score(candidates, viewers), batch.labels, own_weights
    donors, labels, weights = borrowed(batch, config.borrowed_weight)
    return (
        score(torch.cat([candidates, candidates[donors]], dim=1), viewers),
        torch.cat([batch.labels, labels], dim=1),
        torch.cat([own_weights, weights], dim=1),
    )


def borrowed(batch: RankerBatch, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return whose rows each slate borrows, shape (B,), and their labels and weights, both (B, C, n_actions).

    Each slate borrows the whole of the nearest slate before it, around the batch, of another viewer; where all are of
    one viewer, nothing counts. Nobody acted on a borrowed row here, so that its labels are 0 and it was not dwelled on.
    What it would have been disliked for nobody knows, nor how long it would have been looked at: those heads weigh 0.
    A post that the viewer's own slate or history holds is no negative of theirs, and a post counts once, however many
    slates borrow it.

    Parameters
    ----------
    batch
        At least two slates.
    weight
        Of all borrowed rows of one post together.
    """
    n = len(batch.viewers)
    places = torch.arange(n, device=batch.viewers.device)
    before = (places[:, None] - places[None, 1:]) % n
    is_other = batch.viewers[before] != batch.viewers[:, None]
    donors = before[places, is_other.int().argmax(dim=1)]
    posts = batch.post_ids[donors]
    known = torch.cat([torch.where(batch.weights > 0, batch.post_ids, 0), batch.history_ids], dim=1)
    is_lent = (batch.weights[donors] > 0) & is_other.any(dim=1)[:, None]
    is_lent &= ~(posts[:, :, None] == known[:, None, :]).any(dim=2)
    _, group, counts = torch.unique(posts[is_lent], return_inverse=True, return_counts=True)
    weights = torch.zeros_like(batch.weights)
    weights[is_lent] = weight / counts[group].to(weights.dtype)
    per_head = weights[..., None].repeat(1, 1, batch.labels.shape[2])
    per_head[..., [int(action) for action in NEGATIVE - {Action.NOT_DWELLED}] + [int(Action.DWELL_TIME)]] = 0.0
    labels = torch.zeros_like(batch.labels)
    labels[..., Action.NOT_DWELLED] = 1.0
    return donors, labels, per_head
