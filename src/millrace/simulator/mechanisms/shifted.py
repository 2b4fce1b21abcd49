"""`ShiftedMechanism`: another link, other powers, and noise between any two; nothing is ever tuned on it.

What was built and tuned on the other mechanisms has to hold here as well, or it has learned the world instead of
people.
"""

from __future__ import annotations

from millrace.simulator.draws import Draws, Float64Array, Purpose
from millrace.simulator.mechanisms.gate import GateMechanism
from millrace.simulator.mechanisms.law import Law
from millrace.simulator.mechanisms.situation import Situation


class ShiftedMechanism(GateMechanism):
    """One affinity with a part of its own for every pair of viewer and post, through a lopsided link.

    Parameters
    ----------
    draws
        All randomness.
    """

    name = "shifted"

    def __init__(self, draws: Draws, law: Law | None = None) -> None:
        super().__init__(law)
        self._draws = draws

    def affinity(self, situation: Situation) -> Float64Array:
        """Return one affinity, shape (n, 1)."""
        noise = self._draws.normal(Purpose.NOISE, situation.viewer, situation.key)
        return super().affinity(situation) + self.law.affinity.noise * noise[:, None]
