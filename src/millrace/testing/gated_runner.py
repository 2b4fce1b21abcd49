"""`GatedRunner`: a runner that a test holds up, and that counts what it does."""

from __future__ import annotations

import threading
from typing import Final

from millrace.inference.runner import EncodedViewers, Float32Array, RankRunner, Viewers

PATIENCE_S: Final = 30
"""How long anything that a test waits for may take."""


class GatedRunner:
    """A runner that counts what it does, and scores when it is let.

    Parameters
    ----------
    runner
        Does the work.

    Attributes
    ----------
    gate
        Set: scores pass.
    began
        Set with the first score that was asked for.
    n_encoded, n_scored
        Viewers that were encoded; how many viewers each call of `score` was for.
    """

    def __init__(self, runner: RankRunner) -> None:
        self.config = runner.config
        self._runner = runner
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.n_encoded = 0
        self.n_scored: list[int] = []

    def encode(self, viewers: Viewers) -> EncodedViewers:
        """Encode, and count viewers."""
        self.n_encoded += len(viewers.profile)
        return self._runner.encode(viewers)

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        """Score once the gate is open, and note for how many viewers."""
        self.n_scored.append(len(candidates))
        self.began.set()
        assert self.gate.wait(PATIENCE_S)
        return self._runner.score(candidates, encoded)

    def close(self) -> None:
        """Close the runner behind the gate."""
        self._runner.close()
