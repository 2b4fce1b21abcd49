"""`GateMechanism`: one affinity, one gate, all actions. And what the other mechanisms share with it.

The synthetic world that X's release trains its examples on is of this form: affinity, a steep sigmoid, a base rate per
action. Here negative feedback, fatigue, surroundings, acquaintance and social proof are added to it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.simulator.config import HOUR_MS
from millrace.simulator.draws import Float64Array, Int64Array
from millrace.simulator.mechanisms.law import AffinityLaw, Law, load_law, rates
from millrace.simulator.mechanisms.probabilities import probabilities
from millrace.simulator.mechanisms.situation import (
    COLUMN,
    DISLIKES,
    N_FRIENDLY,
    WORLD_ACTIONS,
    Response,
    Situation,
    Surroundings,
)
from millrace.simulator.posts import VIDEO

_FULL_AUTHOR_COUNT: Final = 6.0
_HALF_TOPIC_COUNT: Final = 10.0


class GateMechanism:
    """All actions are driven by one affinity through one gate; each has its own base rate."""

    name = "gate"

    def __init__(self, law: Law | None = None) -> None:
        self.law = law or load_law(self.name)
        self._friendly = np.array(rates(self.law, WORLD_ACTIONS[:N_FRIENDLY]))
        self._dislikes = np.array(rates(self.law, DISLIKES))
        self._roused = np.array([COLUMN[Action[name.upper()]] for name in self.law.arousal], dtype=np.int64)
        self._sigmas = tuple(self.law.arousal.values())
        self._last_rousing: tuple[Float64Array, Float64Array] = np.empty(0), np.empty((0, len(self._sigmas)))
        self._factors = np.array(
            [self.law.silent_factor, self.law.spam_factor, self.law.followed_dislike_factor], dtype=np.float64
        )
        self._powers = np.array([self.law.powers.get(a.label, 1.0) for a in WORLD_ACTIONS[:N_FRIENDLY]])
        self._powered = np.flatnonzero(self._powers != 1.0)
        self._set_groups(np.zeros(N_FRIENDLY, dtype=np.int64))

    def _set_groups(self, group_of: Int64Array) -> None:
        """Say which affinity drives each friendly action; powers of them stand in columns behind the affinities."""
        self._group_of = group_of
        self._source = group_of.copy()
        self._source[self._powered] = int(group_of.max()) + 1 + np.arange(len(self._powered))

    def affinity(self, situation: Situation) -> Float64Array:
        """Return one affinity, shape (n, 1)."""
        return self._affinity(situation, situation.interest, situation.quality)[:, None]

    def liking(self, affinity: Float64Array, surroundings: Surroundings) -> Float64Array:
        """Return how much each look is liked, shape (n,), as `respond` has it."""
        return _mean(self._gate(affinity - self._tired(surroundings)[:, None]))

    def respond(self, situation: Situation, affinity: Float64Array, surroundings: Surroundings) -> Response:
        """Return what follows from each look."""
        likings = self._gate(affinity - self._tired(surroundings)[:, None])
        liking = _mean(likings)
        drives = likings
        if len(self._powered):
            powered = [likings[:, self._group_of[c]] ** float(self._powers[c]) for c in self._powered.tolist()]
            drives = np.column_stack([likings, *powered])
        probs, annoyed = probabilities(
            drives,
            self._source,
            self._friendly,
            self._rousing(situation),
            self._roused,
            self._dislikes,
            self._factors,
            liking,
            situation,
        )
        return Response(liking, probs, annoyed, self._dwell_mu(situation, liking))

    def _tired(self, surroundings: Surroundings) -> Float64Array:
        law = self.law.affinity
        tired: Float64Array = (
            law.author_fatigue * np.minimum(surroundings.author_count, _FULL_AUTHOR_COUNT)
            + law.topic_fatigue * surroundings.topic_count / (surroundings.topic_count + _HALF_TOPIC_COUNT)
            + law.contrast * surroundings.contrast
        )
        return tired

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

    def _rousing(self, situation: Situation) -> Float64Array:
        """Return how much more some posts call for answers than others, the mean kept, shape (n, n_roused)."""
        if situation.arousal is not self._last_rousing[0]:  # a best slate asks of the same posts again and again
            rousing = np.empty((len(situation), len(self._sigmas)))
            for i, sigma in enumerate(self._sigmas):
                rousing[:, i] = np.exp(sigma * situation.arousal - 0.5 * sigma * sigma)
            self._last_rousing = situation.arousal, rousing
        kept: Float64Array = self._last_rousing[1]
        return kept

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


def _mean(likings: Float64Array) -> Float64Array:
    """Return the mean of each row; one column after the other, so that the order of summing never depends on n."""
    total = likings[:, 0].copy()
    for group in range(1, likings.shape[1]):
        total += likings[:, group]
    mean: Float64Array = total / likings.shape[1]
    return mean
