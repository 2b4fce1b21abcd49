"""`Checkpoint`: what a training run has come to, in one file, so that a run that is killed goes on from there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from millrace.base.atomic_file import replacing

CHECKPOINT_NAME: Final = "checkpoint.pt"


class Checkpoint:
    """Weights, the optimisers' states, torch's random state, and the best weights so far.

    Parameters
    ----------
    path
        The file; it is replaced whole.
    stamp
        A name of everything that the run depends on: a checkpoint of another run is passed over.
    model
        Restored in place.
    optimisers
        By name; restored in place.

    Attributes
    ----------
    step
        Steps that are done.
    best_step, best_loss
        After how many the loss was least, and how small.
    """

    def __init__(
        self, path: Path, stamp: str, model: nn.Module, optimisers: Mapping[str, torch.optim.Optimizer]
    ) -> None:
        self._path = path
        self._stamp = stamp
        self._model = model
        self._optimisers = dict(optimisers)
        self._best: dict[str, Tensor] = {}
        self.step = 0
        self.best_step = 0
        self.best_loss = math.inf

    def restore(self, device: str) -> None:
        """Go on from the file, if there is one of the same run."""
        if not self._path.exists():
            return
        saved: dict[str, Any] = torch.load(self._path, map_location=device, weights_only=True)
        if saved["stamp"] != self._stamp:
            return
        self._model.load_state_dict(saved["model"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        torch.set_rng_state(saved["torch_rng"].cpu())
        self._best = saved["best"]
        self.step, self.best_step, self.best_loss = saved["step"], saved["best_step"], saved["best_loss"]

    def keep(self, step: int, loss: float) -> None:
        """Write how things stand after a step, whose validation loss (less is better) is given."""
        if loss < self.best_loss:
            self._best = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
            self.best_step, self.best_loss = step, loss
        self.step = step
        saved = {
            "stamp": self._stamp,
            "step": step,
            "model": self._model.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "torch_rng": torch.get_rng_state(),
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

    def remove(self) -> None:
        """Remove the file: the run is over, the next one begins anew."""
        self._path.unlink(missing_ok=True)
