"""`Law`: the numbers of a mechanism, read from its TOML file, and `Mechanism`, the interface of them all."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

from millrace.base.actions import Action
from millrace.base.errors import ConfigError
from millrace.simulator.draws import Float64Array
from millrace.simulator.mechanisms.situation import DISLIKES, WORLD_ACTIONS, Response, Situation, Surroundings

Link = Literal["logistic", "cloglog"]
Share = Annotated[float, Meta(ge=0, le=1)]


class AffinityLaw(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each thing adds to the affinity; see the files for the reasons."""

    interest: float
    quality: float
    followed: float
    author_taste: float
    proof: float
    story: float
    fresh: float
    fresh_half_life_h: float
    foreign: float
    spam: float
    author_fatigue: float
    topic_fatigue: float
    contrast: float
    noise: float = 0.0
    interest_power: float = 1.0
    quality_power: float = 1.0


class DwellLaw(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log-normal seconds of looking."""

    base_s: float
    by_liking: float
    video_frac: float
    sigma: float
    engaged: float


class GroupLaw(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of actions with an affinity of its own."""

    actions: tuple[str, ...]
    own_interest: Share
    own_quality: Share


class Law(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a mechanism is made of."""

    link: Link
    steepness: float
    midpoint: float
    affinity: AffinityLaw
    friendly: dict[str, float]
    dislikes: dict[str, float]
    spam_factor: float
    followed_dislike_factor: float
    arousal: dict[str, float]
    silent_factor: Share
    powers: dict[str, float] = {}
    engaged_frac: Share
    engaged_ratio: float
    dwell: DwellLaw
    groups: dict[str, GroupLaw] = {}


class Mechanism(Protocol):
    """A law of behaviour."""

    @property
    def law(self) -> Law:
        """Its numbers."""

    def affinity(self, situation: Situation) -> Float64Array:
        """Return what does not depend on what came before, shape (n, n_groups); to be given to `respond`."""

    def liking(self, affinity: Float64Array, surroundings: Surroundings) -> Float64Array:
        """Return how much each look is liked, shape (n,), as `respond` has it."""

    def respond(self, situation: Situation, affinity: Float64Array, surroundings: Surroundings) -> Response:
        """Return what follows from each look."""


def load_law(name: str) -> Law:
    """Return the law in ``mechanisms/<name>.toml``.

    Raises
    ------
    ConfigError
        If there is none, or it does not name every action.
    """
    folder = resources.files("millrace.simulator") / "mechanisms"
    file = folder / f"{name}.toml"
    if not name.isalnum() or not file.is_file():
        known = sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
        raise ConfigError(
            "config key world.mechanism", value=name, problem="not known", remedy=f"use one of {', '.join(known)}"
        )
    law = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Law)
    expected = {action.label for action in WORLD_ACTIONS}
    named = set(law.friendly) | set(law.dislikes)
    if named != expected or set(law.dislikes) != {action.label for action in DISLIKES}:
        raise ConfigError(
            f"mechanism {name}",
            value=sorted(named ^ expected),
            problem="actions are missing, unknown or on the wrong side",
            remedy=f"name {', '.join(sorted(expected))}",
        )
    return law


def rates(law: Law, actions: tuple[Action, ...]) -> list[float]:
    """Return the base rates of actions, in their order."""
    both = {**law.friendly, **law.dislikes}
    return [both[action.label] for action in actions]
