"""`LearnedRanker`: a ranker with its tables and the weights of its losses: all that learns together."""

from __future__ import annotations

from typing import Protocol

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from millrace.features.encoding.vector_sources import VectorSources
from millrace.models.config import RankerConfig
from millrace.models.losses import UncertaintyWeights
from millrace.models.ranker import Ranker
from millrace.models.tables import Tables

_N_NEWTON = 30
_PRIOR_SLOPE = 20.0
_PRIOR_SHIFT = 2.0
_LEAST_SLOPE = 0.05


class LearnedRanker(nn.Module):
    """Tables, ranker, and how losses are weighed.

    Parameters
    ----------
    config
        The ranker's.
    sources
        What it reads vectors from; None for nothing.
    """

    def __init__(self, config: RankerConfig, sources: VectorSources | None = None) -> None:
        super().__init__()
        self.sources = sources or VectorSources()
        self.tables = Tables(config.trunk.tables)
        self.ranker = Ranker(config)
        self.uncertainty = UncertaintyWeights(len(config.actions))

    def dense_parameters(self) -> list[nn.Parameter]:
        """Return everything but the tables."""
        return [*self.ranker.parameters(), *self.uncertainty.parameters()]


class Headed(Protocol):
    """A network whose last layer gives the logits of all heads."""

    head: nn.Linear
    continuous: int


def calibrate(
    ranker: Headed,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    counters: Tensor | None = None,
    drawn_to: Tensor | None = None,
) -> Tensor:
    """Fit a slope and a shift of each head's logits on held-out rows, and build them into the heads.

    Platt scaling (1999) by Newton's method, drawn towards slope 1 and shift 0 as if by a few observations more, so that
    a head with hardly any positives stays as it is. For the continuous head the same under its own loss. With what
    counters predicted, their share beside the network's is fitted as well (`millrace.models.blending`); it is not built
    in.

    Parameters
    ----------
    ranker
        Changed: its head's weights and biases.
    logits, labels
        Shape (n, n_actions).
    weights
        Shape (n,).
    counters
        Shape (n, n_actions): log-odds of the counters' predictions; that of the continuous head is not read.
    drawn_to
        Shape (n_actions, 3): slopes, shifts and counters' shares of before, that the fit begins from and is drawn
        towards (`known_scales`); None: 1, 0 and 0.

    Returns
    -------
    Tensor
        Shape (n_actions, 3): slope and shift of each head, and the counters' share.
    """
    fitted = fitted_scales(logits, labels, weights, ranker.continuous, counters, drawn_to)
    with torch.no_grad():
        slope, shift = fitted[:, 0].to(ranker.head.weight), fitted[:, 1].to(ranker.head.bias)
        ranker.head.weight.mul_(slope[:, None])
        ranker.head.bias.mul_(slope).add_(shift)
    return fitted


def with_scales(config: RankerConfig, fitted: Tensor) -> RankerConfig:
    """Return a config that says what calibration came to, (n_actions, 3): scales built in, and counters' shares."""
    scales = tuple((slope, shift) for slope, shift, _ in fitted.tolist())
    return msgspec.structs.replace(config, counters=tuple(fitted[:, 2].tolist()), scales=scales)


def known_scales(config: RankerConfig) -> Tensor:
    """Return what `with_scales` put into a config, shape (n_actions, 3), float64."""
    known = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).repeat(len(config.actions), 1)
    if config.scales:
        known[:, :2] = torch.tensor(config.scales, dtype=torch.float64)
    if config.counters:
        known[:, 2] = torch.tensor(config.counters, dtype=torch.float64)
    return known


@torch.no_grad()
def uncalibrate(ranker: Headed, config: RankerConfig) -> RankerConfig:
    """Take out of the heads what calibration built in, and return the config that still says what it was.

    A network is learned without the counters beside it. Calibrated beside them its heads are not where its loss draws
    them: learned on from there, and calibrated again, round after round, they would shrink to nothing. A head that was
    turned (nearly) upside down stays as it is.

    Parameters
    ----------
    ranker
        Changed.
    config
        Its own.
    """
    known = known_scales(config)
    known[known[:, 0] < _LEAST_SLOPE, :2] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    slope, shift = known[:, 0].to(ranker.head.weight), known[:, 1].to(ranker.head.bias)
    ranker.head.weight.div_(slope[:, None])
    ranker.head.bias.sub_(shift).div_(slope)
    return with_scales(config, known)


def fitted_scales(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    continuous: int,
    counters: Tensor | None = None,
    drawn_to: Tensor | None = None,
) -> Tensor:
    """Return what `calibrate` would build in, shape (n_actions, 3), and change nothing; the arguments are the same."""
    besides = _besides(logits, continuous, counters)
    begun = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).repeat(logits.shape[1], 1)
    if drawn_to is not None:
        begun = drawn_to.double().clone()
        if counters is None:
            begun[:, 2] = 0.0
    return torch.stack(
        [
            _platt(
                logits[:, head].double(),
                besides[:, head].double(),
                labels[:, head].double(),
                weights.double(),
                begun[head],
                is_continuous=head == continuous,
            )
            for head in range(logits.shape[1])
        ]
    )


def scaled(logits: Tensor, fitted: Tensor, continuous: int, counters: Tensor | None = None) -> Tensor:
    """Return logits as they would be with `fitted_scales` built in, shape (n, n_actions)."""
    besides = _besides(logits, continuous, counters)
    return (logits * fitted[:, 0] + fitted[:, 1] + besides * fitted[:, 2]).to(logits.dtype)


def _besides(logits: Tensor, continuous: int, counters: Tensor | None) -> Tensor:
    if counters is None:
        return torch.zeros_like(logits)
    besides = counters.clone()
    besides[:, continuous] = 0.0
    return besides


def _platt(
    x: Tensor,
    besides: Tensor,
    y: Tensor,
    weights: Tensor,
    begun: Tensor,
    *,
    is_continuous: bool,
) -> Tensor:
    both, prior = begun.clone(), begun
    strength = torch.tensor([_PRIOR_SLOPE, _PRIOR_SHIFT, _PRIOR_SLOPE], dtype=torch.float64)
    design = torch.stack([x, torch.ones_like(x), besides], dim=1)
    happened = y if is_continuous else y.clamp(0.0, 1.0)

    def lost(at: Tensor) -> float:
        z = design @ at
        seconds = functional.softplus(z)
        per_row = seconds - happened * (seconds.clamp(min=1e-9).log() if is_continuous else z)
        return float((weights * per_row).sum() + 0.5 * (strength * (at - prior).square()).sum())

    loss = lost(both)
    for _ in range(_N_NEWTON):
        z = design @ both
        if is_continuous:
            # Poisson deviance of a softplus: slope and (expected) curvature in z.
            seconds, slope = functional.softplus(z), torch.sigmoid(z)
            gradient, curvature = (1.0 - y / seconds.clamp(min=1e-9)) * slope, slope.square() / seconds.clamp(min=1e-9)
        else:
            p = torch.sigmoid(z)
            gradient, curvature = p - happened, p * (1.0 - p)
        first = design.T @ (weights * gradient) + strength * (both - prior)
        second = (design * (weights * curvature)[:, None]).T @ design + torch.diag(strength)
        step = torch.linalg.solve(second, first)
        # Where predictions are far too low the curvature says nothing of what lies ahead, and a whole step goes over
        # the hill: of a head with three positives it has made one that is done by everybody.
        while (found := lost(both - step)) > loss and float(step.abs().max()) >= 1e-9:
            step = step / 2
        both, loss = both - step, found
        if float(step.abs().max()) < 1e-9:
            break
    return both
