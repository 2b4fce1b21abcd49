"""What `LiveModels` tells: what happened to the models of a lane, and how each lane stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from millrace.registry.pointer import Versions


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """What happened to the models of a lane, for metrics.

    Attributes
    ----------
    what
        swapped: they serve now. refused: the old ones go on. retried: tried again, and refused for the same reason.
        closed: the last request of replaced ones has ended.
    lane
        Whose; empty for those that were closed, and where the pointer itself cannot be used.
    versions
        Which.
    reason
        Why they were refused.
    took_s
        Real seconds from the look at the pointer to the swap or the refusal.
    """

    what: Literal["swapped", "refused", "retried", "closed"]
    lane: str
    versions: Versions
    reason: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """How a lane stands.

    Attributes
    ----------
    versions
        What serves its requests now; empty if nothing does.
    wanted
        What the pointer says.
    problem
        Why these differ; empty where they do not, and while what is wanted is being loaded.
    n_leases
        Requests that hold what serves, of all lanes that share it.
    n_refused
        How often what is wanted has been refused in a row; 0 where there is no problem with it.
    retry_in_s
        Real seconds until it is tried again.
    """

    versions: Versions
    wanted: Versions
    problem: str
    n_leases: int
    n_refused: int = 0
    retry_in_s: float = 0.0
