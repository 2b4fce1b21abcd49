"""All checks of the judge, by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from millrace.app.simulation.validation.check import Bench, Check
from millrace.app.simulation.validation.honesty import determinism, negative_controls, same_against_same
from millrace.app.simulation.validation.planted import broken_stages, creators_interfere, planted_effects
from millrace.app.simulation.validation.variants import offline_and_online

CHECKS: Final[dict[str, Callable[[Bench], Check]]] = {
    "1": determinism,
    "2": same_against_same,
    "3": planted_effects,
    "4": negative_controls,
    "5": offline_and_online,
    "6": broken_stages,
    "7": creators_interfere,
}
