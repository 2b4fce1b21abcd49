"""`Optimisers`: AdamW for what is dense and row-wise AdaGrad for tables, with one pace for both.

All trainings whose networks read hashed tables learn by it; each keeps its own loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from millrace.models.tables import RowwiseAdaGrad


class Rates(Protocol):
    """What a training's config says of its steps."""

    @property
    def learning_rate(self) -> float: ...  # noqa: D102 - fields of the trainings' configs
    @property
    def table_learning_rate(self) -> float: ...  # noqa: D102
    @property
    def n_warm_up(self) -> int: ...  # noqa: D102
    @property
    def schedule(self) -> str: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def max_norm(self) -> float: ...  # noqa: D102


class Optimisers:
    """What moves the weights of a network and of its tables.

    Parameters
    ----------
    dense
        Weights that AdamW moves; the norm of their gradients is bounded.
    tables
        Tables, whose gradients are sparse.
    rates
        The training's config.
    n_steps
        How many steps the run has: the pace ends with it.

    Attributes
    ----------
    by_name
        Both, for a checkpoint.
    """

    def __init__(
        self, dense: Iterable[nn.Parameter], tables: Iterable[nn.Parameter], rates: Rates, n_steps: int
    ) -> None:
        self._rates, self._n_steps = rates, n_steps
        self._weights = list(dense)
        self._dense = torch.optim.AdamW(self._weights, rates.learning_rate, weight_decay=rates.weight_decay)
        self._tables = RowwiseAdaGrad(tables, rates.table_learning_rate)
        self.by_name: dict[str, torch.optim.Optimizer] = {"dense": self._dense, "tables": self._tables}

    def take(self, step: int, loss: Tensor) -> None:
        """Go one step down a loss; a step that is not finite is left out, for it would never be forgotten."""
        share = pace(step, self._n_steps, self._rates.n_warm_up, self._rates.schedule)
        for optimiser, rate in (
            (self._dense, self._rates.learning_rate),
            (self._tables, self._rates.table_learning_rate),
        ):
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._weights, self._rates.max_norm)
        if bool(torch.isfinite(norm)):
            self._dense.step()
            self._tables.step()


def pace(step: int, n_steps: int, n_warm_up: int, schedule: str = "cosine") -> float:
    """Return the share of the learning rate: a linear warm-up, then half a cosine down to nothing, or no change."""
    if step < n_warm_up:
        return (step + 1) / n_warm_up
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - n_warm_up) / max(n_steps - n_warm_up, 1)))
