"""Looks at posts as the laws of the simulated world take them, made from the few columns that a test is about."""

from __future__ import annotations

from typing import Any

import numpy as np

from millrace.simulator.config import MechanismName, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.mechanisms import make_mechanism
from millrace.simulator.mechanisms.law import Mechanism
from millrace.simulator.mechanisms.situation import Response, Situation, Surroundings
from millrace.simulator.people import make_people

N_PEOPLE = 50
"""Viewers and authors are numbered below this."""

_USUAL: dict[str, Any] = {
    "viewer": np.int64(1),
    "author": np.int64(2),
    "topic": np.int8(3),
    "interest": 0.8,
    "quality": 0.5,
    "author_taste": 0.0,
    "is_followed": True,
    "reads_language": True,
    "propensity": 1.0,
    "n_proofs": np.int64(0),
    "age_ms": np.int64(3_600_000),
    "story_heat": 0.0,
    "arousal": 0.0,
    "is_silent": False,
    "kind": np.int8(0),
    "media": np.int8(0),
    "duration_ms": np.int64(0),
    "has_link": False,
    "is_spam": False,
}


def a_situation(n: int = 1, **columns: Any) -> Situation:
    """Return ``n`` looks of a reader at a fair original of somebody they follow, but for the columns given.

    Posts differ by their keys, which count from 0 unless given.
    """
    values = {"key": np.arange(n, dtype=np.uint64), **_USUAL, **columns}
    return Situation(**{name: np.broadcast_to(np.asarray(value), n).copy() for name, value in values.items()})


def some_situations(n: int, seed: int = 1, **columns: Any) -> Situation:
    """Return ``n`` looks of all sorts, drawn from a seed, but for the columns given."""
    rng = np.random.default_rng(seed)
    media = rng.integers(0, 3, n).astype(np.int8)
    drawn = {
        "viewer": rng.integers(0, N_PEOPLE, n),
        "author": rng.integers(0, N_PEOPLE, n),
        "topic": rng.integers(0, 12, n).astype(np.int8),
        "key": rng.integers(0, 2**63, n).astype(np.uint64),
        "interest": rng.random(n),
        "quality": rng.random(n),
        "author_taste": rng.normal(size=n),
        "is_followed": rng.random(n) < 0.5,
        "reads_language": rng.random(n) < 0.9,
        "propensity": np.exp(0.5 * rng.normal(size=n)),
        "n_proofs": rng.integers(0, 4, n),
        "age_ms": rng.integers(0, 48 * 3_600_000, n),
        "arousal": rng.normal(size=n),
        "is_silent": rng.random(n) < 0.3,
        "kind": rng.integers(0, 4, n).astype(np.int8),
        "media": media,
        "duration_ms": np.where(media == 2, rng.integers(5, 120, n) * 1000, 0),
        "has_link": rng.random(n) < 0.2,
        "is_spam": rng.random(n) < 0.05,
    }
    return a_situation(n, **(drawn | columns))


def a_mechanism(name: MechanismName = "gate") -> Mechanism:
    """Return a law of behaviour over `N_PEOPLE` people."""
    draws = Draws(1)
    return make_mechanism(name, make_people(WorldConfig(size="tiny", n_users=N_PEOPLE), draws), draws)


def respond_alone(mechanism: Mechanism, situation: Situation) -> Response:
    """Return what follows from looks that nothing came before."""
    return mechanism.respond(situation, mechanism.affinity(situation), Surroundings.none(len(situation)))
