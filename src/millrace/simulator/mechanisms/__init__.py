"""The laws of behaviour, behind one interface: `millrace.simulator.mechanisms.law.Mechanism`."""

from __future__ import annotations

from typing import Final

from millrace.simulator.config import MechanismName
from millrace.simulator.draws import Draws
from millrace.simulator.mechanisms.gate import GateMechanism
from millrace.simulator.mechanisms.law import Mechanism
from millrace.simulator.mechanisms.multi import MultiMechanism
from millrace.simulator.mechanisms.shifted import ShiftedMechanism
from millrace.simulator.people import People

MECHANISMS: Final[tuple[MechanismName, ...]] = ("gate", "multi", "shifted")


def make_mechanism(name: MechanismName, people: People, draws: Draws) -> Mechanism:
    """Return a law of behaviour for these people."""
    if name == "multi":
        return MultiMechanism(people, draws)
    return ShiftedMechanism(draws) if name == "shifted" else GateMechanism()
