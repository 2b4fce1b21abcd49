"""Who lives in the world: languages, interests, activity, posting, qualities. All of it hidden truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.vocabulary import TOPICS

N_TOPICS: Final = len(TOPICS)
MAX_INTERESTS: Final = 4

_TOPIC_POPULARITY: Final = np.array([1.2, 1.4, 0.6, 1.0, 1.3, 1.1, 0.7, 0.9, 1.0, 0.6, 0.8, 0.8])
_UTC_OFFSETS_H: Final[dict[str, tuple[int, ...]]] = {
    "en": (-8, -5, -5, 0, 1, 10),
    "es": (-6, -5, -3, 1),
    "zh": (8,),
    "ja": (9,),
    "ar": (2, 3),
    "de": (1,),
}
_MAX_ORIGINALS_PER_DAY: Final = 18.0
_PARETO_TAIL: Final = 1.5
_SPAM_PER_DAY: Final = 5.0
_TOLERANCE: Final = -0.04

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class People:
    """Columns over people, shape (n_users,) unless said otherwise.

    Attributes
    ----------
    language, second_language
        Codes into the world's languages; -1 for no second one.
    interests
        Shape (n_users, n_topics), float64; rows sum to 1, two to four topics are positive.
    sessions_per_day, originals_per_day
        Rates at the mean hour of the day.
    quality
        How good their posts tend to be, in [0, 1].
    charisma
        Pull on followers beyond posting; heavy-tailed.
    propensity
        How readily they act on what they like; log-normal around 1.
    utc_offset_ms
        Their time zone.
    is_silent
        They read and like, write nothing of their own, and hardly ever answer.
    tolerance
        The satisfaction per look below which they are bored.
    patience
        Positions after which a share of 1/e still looks; log-normal.
    """

    language: Int8Array
    second_language: Int8Array
    interests: Float64Array
    sessions_per_day: Float64Array
    originals_per_day: Float64Array
    quality: Float64Array
    charisma: Float64Array
    propensity: Float64Array
    utc_offset_ms: Int64Array
    is_silent: BoolArray
    is_spammer: BoolArray
    is_verified: BoolArray
    shows_sensitive: BoolArray
    tolerance: Float64Array
    patience: Float64Array

    @property
    def n_users(self) -> int:
        """How many there are."""
        return len(self.language)

    def top_topics(self) -> Int64Array:
        """Return topics by interest, strongest first, shape (n_users, `MAX_INTERESTS`); -1 where there is none."""
        order = np.argsort(-self.interests, axis=1, kind="stable")[:, :MAX_INTERESTS]
        has = np.take_along_axis(self.interests, order, axis=1) > 0
        return np.where(has, order, -1)


def make_people(config: WorldConfig, draws: Draws) -> People:
    """Return the people of a world."""
    size = config.shape()
    user = np.arange(config.n_people())
    language = choose(_shares(config), draws.uniform(Purpose.LANGUAGE, user)).astype(np.int8)
    is_spammer = draws.uniform(Purpose.SPAMMER, user) < config.spammer_frac
    is_silent = draws.uniform(Purpose.SILENT, user) < config.silent_frac
    activity = np.exp(0.85 * draws.normal(Purpose.ACTIVITY, user))
    return People(
        language=language,
        second_language=_second_language(config, draws, user, language),
        interests=_interests(draws, user),
        # Log-normal: a few people come every hour, many once in two days.
        sessions_per_day=np.clip(size.sessions_per_day * activity / activity.mean(), 0.15, 14.0),
        originals_per_day=_posting_rates(config, draws, user, is_silent, is_spammer),
        quality=np.where(is_spammer, 0.03, draws.symmetric(Purpose.QUALITY, user)),
        charisma=np.where(is_spammer, 0.02, (1.0 - draws.uniform(Purpose.CHARISMA, user)) ** (-1 / _PARETO_TAIL)),
        propensity=np.exp(0.5 * draws.normal(Purpose.PROPENSITY, user)),
        is_silent=is_silent,
        utc_offset_ms=_utc_offsets(config, draws, user, language),
        is_spammer=is_spammer,
        is_verified=(draws.uniform(Purpose.FLAGS, user, 0) < config.verified_frac) & ~is_spammer,
        shows_sensitive=draws.uniform(Purpose.FLAGS, user, 1) < 0.3,
        tolerance=_TOLERANCE + 0.06 * draws.normal(Purpose.TOLERANCE, user),
        patience=config.patience / np.log(2) * np.exp(0.35 * draws.normal(Purpose.PATIENCE, user)),
    )


def hour_curve(times_ms: Int64Array) -> Float64Array:
    """Return activity relative to the daily mean at local times, shape (n,): asleep at 4, busiest at 20."""
    hour = (times_ms % (24 * HOUR_MS)) / HOUR_MS
    evening = np.exp(2.0 * (np.cos((hour - 20.0) * np.pi / 12.0) - 1.0))
    morning = np.exp(6.0 * (np.cos((hour - 8.0) * np.pi / 12.0) - 1.0))
    noon = np.exp(8.0 * (np.cos((hour - 13.0) * np.pi / 12.0) - 1.0))
    return (0.05 + 1.7 * evening + 0.8 * morning + 0.7 * noon) / 0.808


def choose(shares: Float64Array, u: Float64Array) -> Int64Array:
    """Return codes drawn by shares with these uniforms, shape (n,)."""
    cumulative = np.cumsum(shares)
    codes: Int64Array = np.minimum(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(shares) - 1)
    return codes


def choose_by_row(weights: Float64Array, u: Float64Array) -> Int64Array:
    """Return one column per row, drawn by the row's weights with these uniforms, shape (n,)."""
    cumulative = np.cumsum(weights, axis=1)
    n_passed = (cumulative <= (u * cumulative[:, -1])[:, None]).sum(axis=1)
    columns: Int64Array = np.minimum(n_passed, weights.shape[1] - 1)
    return columns


def _shares(config: WorldConfig) -> Float64Array:
    return np.array(list(config.language_shares.values()), dtype=np.float64)


def _second_language(config: WorldConfig, draws: Draws, user: Int64Array, first: Int8Array) -> Int8Array:
    """Most second languages are the largest one; its own speakers read one of the others."""
    shares = _shares(config)
    n = len(shares)
    largest = int(np.argmax(shares))
    if n == 1:
        return np.full(len(user), -1, dtype=np.int8)
    other = (largest + 1 + (draws.uniform(Purpose.SECOND_LANGUAGE, user, 1) * (n - 1)).astype(np.int64)) % n
    second = np.where(first == largest, other, largest)
    has = draws.uniform(Purpose.SECOND_LANGUAGE, user, 0) < config.second_language_frac
    return np.where(has, second, -1).astype(np.int8)


def _interests(draws: Draws, user: Int64Array) -> Float64Array:
    """Two to four topics, drawn without replacement by popularity (Efraimidis and Spirakis 2006)."""
    topic = np.arange(N_TOPICS)[None, :]
    u = draws.uniform(Purpose.INTEREST_CHOICE, user[:, None], topic)
    keys = np.log(u + 1e-300) / _TOPIC_POPULARITY
    n_interests = 2 + (draws.uniform(Purpose.N_INTERESTS, user) * (MAX_INTERESTS - 1)).astype(np.int64)
    rank = np.argsort(np.argsort(-keys, axis=1, kind="stable"), axis=1, kind="stable")
    weight = 0.25 - np.log1p(-draws.uniform(Purpose.INTEREST_WEIGHT, user[:, None], topic))
    weight = np.where(rank < n_interests[:, None], weight, 0.0)
    normalised: Float64Array = weight / weight.sum(axis=1, keepdims=True)
    return normalised


def _posting_rates(
    config: WorldConfig, draws: Draws, user: Int64Array, is_silent: BoolArray, is_spammer: BoolArray
) -> Float64Array:
    """Silent readers post nothing; the others' rates are heavy-tailed, scaled to the size's mean."""
    rate = (1.0 - draws.uniform(Purpose.POSTING_RATE, user)) ** (-1 / _PARETO_TAIL)
    rate[is_silent] = 0.0
    target = config.shape().originals_per_day
    for _ in range(3):  # the cap takes from the mean; scaling up again pushes a few more over it
        if (mean := float(rate.mean())) > 0:
            rate = np.minimum(rate * target / mean, _MAX_ORIGINALS_PER_DAY)
    return np.where(is_spammer, _SPAM_PER_DAY, rate)


def _utc_offsets(config: WorldConfig, draws: Draws, user: Int64Array, language: Int8Array) -> Int64Array:
    offsets = np.zeros(len(user), dtype=np.int64)
    u = draws.uniform(Purpose.TIME_ZONE, user)
    for code, tag in enumerate(config.language_shares):
        choices = np.array(_UTC_OFFSETS_H.get(tag, (0,)), dtype=np.int64)
        rows = language == code
        offsets[rows] = choices[(u[rows] * len(choices)).astype(np.int64)] * HOUR_MS
    return offsets
