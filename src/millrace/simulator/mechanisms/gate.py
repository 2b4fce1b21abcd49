"""`GateMechanism`: one affinity, one gate, all actions. And what the other mechanisms share with it.

The synthetic world that X's release trains its examples on is of this form: affinity, a steep sigmoid, a base rate per
action. Here negative feedback, fatigue, surroundings, acquaintance and social proof are added to it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.config import HOUR_MS
from millrace.simulator.draws import Float64Array
from millrace.simulator.mechanisms.law import AffinityLaw, Law, load_law, rates
from millrace.simulator.mechanisms.situation import (
    COLUMN,
    DISLIKES,
    N_FRIENDLY,
    WORLD_ACTIONS,
    Response,
    Situation,
    Surroundings,
)
from millrace.simulator.people import BoolArray
from millrace.simulator.posts import IMAGE, QUOTE, REPLY, VIDEO

_MAX_PROBABILITY: Final = 0.95
_MAX_ANNOYED: Final = 0.5
_FULL_AUTHOR_COUNT: Final = 6.0
_HALF_TOPIC_COUNT: Final = 10.0


class GateMechanism:
    """All actions are driven by one affinity through one gate; each has its own base rate."""

    name = "gate"

    def __init__(self, law: Law | None = None) -> None:
        self.law = law or load_law(self.name)
        self._friendly = np.array(rates(self.law, WORLD_ACTIONS[:N_FRIENDLY]))
        self._dislikes = np.array(rates(self.law, DISLIKES))
        self._group_of = np.zeros(N_FRIENDLY, dtype=np.int64)
        self._arousal = {COLUMN[Action[name.upper()]]: sigma for name, sigma in self.law.arousal.items()}
        self._powers = np.array([self.law.powers.get(a.label, 1.0) for a in WORLD_ACTIONS[:N_FRIENDLY]])

    def affinity(self, situation: Situation) -> Float64Array:
        """Return one affinity, shape (n, 1)."""
        return self._affinity(situation, situation.interest, situation.quality)[:, None]

    def respond(self, situation: Situation, affinity: Float64Array, surroundings: Surroundings) -> Response:
        """Return what follows from each look."""
        law = self.law.affinity
        tired = (
            law.author_fatigue * np.minimum(surroundings.author_count, _FULL_AUTHOR_COUNT)
            + law.topic_fatigue * surroundings.topic_count / (surroundings.topic_count + _HALF_TOPIC_COUNT)
            + law.contrast * surroundings.contrast
        )
        likings = self._gate(affinity - tired[:, None])
        liking = likings.mean(axis=1)
        by_action = likings[:, self._group_of]
        if (self._powers != 1.0).any():
            by_action = by_action**self._powers
        probs = np.zeros((len(situation), len(WORLD_ACTIONS)))
        friendly = probs[:, :N_FRIENDLY]
        np.multiply(by_action, situation.propensity[:, None], out=friendly)
        friendly *= self._friendly
        self._rouse(friendly, situation)
        _forbid_impossible(friendly, situation)
        np.minimum(friendly, _MAX_PROBABILITY, out=friendly)
        reluctance = (1.0 - liking) * np.where(situation.is_spam, self.law.spam_factor, 1.0)
        reluctance *= np.where(situation.is_followed, self.law.followed_dislike_factor, 1.0)
        dislikes = probs[:, N_FRIENDLY:]
        np.multiply(reluctance[:, None], self._dislikes, out=dislikes)
        annoyed = dislikes.sum(axis=1)
        too_much = annoyed > _MAX_ANNOYED
        if too_much.any():
            dislikes[too_much] *= (_MAX_ANNOYED / annoyed[too_much])[:, None]
            annoyed = np.minimum(annoyed, _MAX_ANNOYED)
        friendly *= (1.0 - annoyed)[:, None]  # who dislikes a post does nothing friendly with it
        return Response(liking, probs, annoyed, self._dwell_mu(situation, liking))

    def _affinity(self, situation: Situation, interest: Float64Array, quality: Float64Array) -> Float64Array:
        law = self.law.affinity
        affinity: Float64Array = _powered(interest, law.interest_power) * law.interest + (
            _powered(quality, law.quality_power) * law.quality
            + law.followed * situation.is_followed
            + law.author_taste * situation.author_taste
            + law.proof * np.log1p(situation.n_proofs)
            + law.story * np.minimum(situation.story_heat, 1.0)
            + _freshness(law, situation)
            - law.foreign * ~situation.reads_language
            - law.spam * situation.is_spam
        )
        return affinity

    def _rouse(self, friendly: Float64Array, situation: Situation) -> None:
        """Let some posts call for answers far more than others, the mean kept; silent people hardly give any."""
        for action, sigma in self._arousal.items():
            friendly[:, action] *= np.exp(sigma * situation.arousal - 0.5 * sigma * sigma)
            friendly[:, action] *= np.where(situation.is_silent, self.law.silent_factor, 1.0)

    def _gate(self, affinity: Float64Array) -> Float64Array:
        x = self.law.steepness * (affinity - self.law.midpoint)
        if self.law.link == "cloglog":
            return -np.expm1(-np.exp(np.minimum(x, 30.0)))
        gate: Float64Array = 1.0 / (1.0 + np.exp(-x))
        return gate

    def _dwell_mu(self, situation: Situation, liking: Float64Array) -> Float64Array:
        law = self.law.dwell
        seconds = law.base_s + law.video_frac * liking * (situation.media == VIDEO) * situation.duration_ms / 1000
        mu: Float64Array = np.log(seconds) + law.by_liking * liking
        return mu


def _powered(values: Float64Array, power: float) -> Float64Array:
    return values if power == 1.0 else values**power


def _freshness(law: AffinityLaw, situation: Situation) -> Float64Array:
    fresh: Float64Array = law.fresh * np.exp2(-situation.age_ms / (law.fresh_half_life_h * HOUR_MS))
    return fresh


def _forbid_impossible(friendly: Float64Array, situation: Situation) -> None:
    """Set to 0 what cannot be done with a post of its kind."""
    possible: dict[Action, BoolArray | npt.NDArray[np.bool_]] = {
        Action.PHOTO_EXPAND: situation.media == IMAGE,
        Action.VIDEO_VIEW: situation.media == VIDEO,
        Action.LINK_OPEN: situation.has_link,
        Action.QUOTE_CLICK: situation.kind == QUOTE,
        Action.FOLLOW_AUTHOR: ~situation.is_followed,
        Action.REPOST: situation.kind != REPLY,
    }
    for action, holds in possible.items():
        friendly[:, COLUMN[action]] *= holds
