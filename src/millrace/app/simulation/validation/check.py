"""`Check`: one check's verdict; and the `Bench` on which the checks are made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app.simulation.cells import run_cells
from millrace.app.simulation.homes import world_key
from millrace.app.simulation.run import RunSpec
from millrace.simulator.config import WorldConfig
from millrace.simulator.policies import Policy
from millrace.simulator.records import RunRecords

_WORLDS: Final = "worlds"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found.

    Attributes
    ----------
    name
        Of the check.
    passed
        Whether the judge did as it must; None where the check only reports.
    number
        The figure that decides, in words.
    figures
        Everything measured.
    """

    name: str
    passed: bool | None
    number: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What checks are made on.

    Attributes
    ----------
    folder
        For runs and worlds; a run that several checks need is made once. See `fresh`.
    world
        The world of the larger checks.
    hours
        Virtual hours of its runs.
    n_processes
        Runs at a time.
    n_variants
        How many variants of the ranker are compared.
    on_progress
        Called with what is being done and how far it is.
    """

    folder: Path
    world: WorldConfig
    hours: float
    n_processes: int
    n_variants: int
    on_progress: Callable[[str, float], None]

    def fresh(self) -> None:
        """Remove the runs of an earlier validation: they may be of other code. Worlds say themselves what they are."""
        for path in self.folder.glob("*"):
            if path.is_dir() and path.name != _WORLDS:
                shutil.rmtree(path)

    def runs(
        self,
        what: str,
        *arms: tuple[Policy, ...],
        hours: float | None = None,
        world: WorldConfig | None = None,
        regret_frac: float = 0.0,
        keeps_items: bool = False,
    ) -> list[RunRecords]:
        """Return the records of one run for each tuple of policies."""
        config = world or self.world
        key = world_key(config)
        specs = [
            RunSpec(
                folder=str(self.folder / f"{_names(policies)}-{key}-{hours or self.hours:g}h-r{regret_frac:g}"),
                worlds=str(self.folder / _WORLDS),
                world=config,
                policies=policies,
                hours=hours or self.hours,
                regret_frac=regret_frac,
                keeps_items=keeps_items,
            )
            for policies in arms
        ]
        return run_cells(specs, self.n_processes, lambda share: self.on_progress(what, share))


def _names(policies: tuple[Policy, ...]) -> str:
    return "-vs-".join(policy.name for policy in policies)
