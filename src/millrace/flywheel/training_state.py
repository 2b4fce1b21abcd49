"""`TrainingState`: what a run has come to, written so that a run that is killed goes on with the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from millrace.base.atomic_file import replacing


class TrainingState:
    """Weights, the optimisers' states, and the best weights so far.

    Parameters
    ----------
    path
        Of the checkpoint.
    stamp
        Names everything that the run depends on; a checkpoint of another stamp is none.
    model
        What learns.
    optimisers
        By name.

    Attributes
    ----------
    step
        How many are done.
    best_step, best_loss
        After how many steps the validation loss was least, and how small.
    """

    def __init__(
        self, path: Path, stamp: str, model: nn.Module, optimisers: Mapping[str, torch.optim.Optimizer]
    ) -> None:
        self._path, self._stamp = path, stamp
        self._model, self._optimisers = model, optimisers
        self._best: dict[str, Tensor] = {}
        self.step = 0
        self.best_step, self.best_loss = 0, math.inf

    def restore(self, device: str) -> None:
        """Go on from the checkpoint, if there is one of the same inputs."""
        if not self._path.exists():
            return
        saved = torch.load(self._path, map_location=device, weights_only=True)
        if saved["stamp"] != self._stamp:
            return
        self._model.load_state_dict(saved["model"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        self._best = saved["best"]
        self.step, self.best_step, self.best_loss = saved["step"], saved["best_step"], saved["best_loss"]

    def keep(self, step: int, loss: float) -> None:
        """Write the checkpoint of a step whose validation loss is known."""
        if loss < self.best_loss:
            self._best = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
            self.best_step, self.best_loss = step, loss
        self.step = step
        saved = {
            "stamp": self._stamp,
            "step": step,
            "model": self._model.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "best": self._best,
            "best_step": self.best_step,
            "best_loss": self.best_loss,
        }
        with replacing(self._path) as file:
            torch.save(saved, file)

    def take_best(self) -> None:
        """Bring the model to its best weights."""
        if self._best:
            self._model.load_state_dict(self._best)

    def end(self) -> None:
        """Remove the checkpoint: the run is over, the next one begins anew."""
        self._path.unlink(missing_ok=True)
