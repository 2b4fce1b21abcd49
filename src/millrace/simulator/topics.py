"""What people care about as time goes on: interests drift, topics rise and fall, stories break.

Everything here is a function of the seed and the time, never of what happened: twin worlds share it for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.simulator.config import DAY_MS, HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.people import N_TOPICS, People

_DRIFT_DAYS: Final = (2, 7)
"""A taste has moods of two days and turns of a week; each is a straight line between independent knots."""

_FLOOR: Final = 0.004
"""Nobody is closed to anything: what one never cared for may come up."""

_TREND_DAYS: Final = 3
_TREND_SIZE: Final = 0.35
_STORY_HALF_LIFE_MS: Final = (2 * HOUR_MS, 9 * HOUR_MS)
_STORY_RISE_MS: Final = HOUR_MS // 2


def _wander(draws: Draws, purpose: Purpose, days: int, time_ms: int, *keys: Int64Array) -> Float64Array:
    """Return standard-normal-sized values that move continuously with time, one per row of the keys."""
    period = days * DAY_MS
    knot, part = divmod(time_ms, period)
    u = part / period
    before = draws.normal(purpose, *keys, days, knot)
    after = draws.normal(purpose, *keys, days, knot + 1)
    # Divided so that the variance is 1 at every moment, not only at the knots.
    value: Float64Array = ((1 - u) * before + u * after) / np.sqrt((1 - u) ** 2 + u**2)
    return value


def interest_now(config: WorldConfig, draws: Draws, people: People, time_ms: int) -> Float64Array:
    """Return everybody's interest in every topic relative to their strongest, shape (n_users, n_topics), in [0, 1]."""
    user, topic = np.arange(people.n_users)[:, None], np.arange(N_TOPICS)[None, :]
    raw = people.interests + _FLOOR
    if config.drift > 0:
        wander = sum(_wander(draws, Purpose.DRIFT, days, time_ms, user, topic) for days in _DRIFT_DAYS)
        raw = raw * np.exp(config.drift * wander)
    relative: Float64Array = raw / raw.max(axis=1, keepdims=True)
    return relative


def topic_trend(draws: Draws, time_ms: int) -> Float64Array:
    """Return how much more or less is written about each topic at a time, shape (n_topics,), around 1."""
    wander = _wander(draws, Purpose.TREND, _TREND_DAYS, time_ms, np.arange(N_TOPICS))
    trend: Float64Array = np.exp(_TREND_SIZE * wander)
    return trend


@dataclass(frozen=True, slots=True)
class Stories:
    """Stories in the order in which they break; columns of shape (n,).

    Attributes
    ----------
    broke_ms
        When.
    topic
        What it is about.
    size
        Its pull at its height.
    half_life_ms
        How quickly it is forgotten.
    """

    broke_ms: Int64Array
    topic: Int64Array
    size: Float64Array
    half_life_ms: Float64Array

    def heat(self, story: Int64Array, time_ms: Int64Array | int) -> Float64Array:
        """Return a story's pull at a time, shape (n,); 0 for -1 and before it breaks."""
        if not len(self.broke_ms):
            return np.zeros(len(story))
        known = np.maximum(story, 0)
        age = np.asarray(time_ms) - self.broke_ms[known]
        rise = np.minimum(np.maximum(age, 0) / _STORY_RISE_MS, 1.0)
        heat = self.size[known] * rise * np.exp2(-np.maximum(age, 0) / self.half_life_ms[known])
        return np.where((story >= 0) & (age >= 0), heat, 0.0)

    def hottest(self, time_ms: int) -> Int64Array:
        """Return the story of each topic that pulls most, shape (n_topics,); -1 where none does."""
        heat = self.heat(np.arange(len(self.broke_ms)), time_ms)
        hottest = np.full(N_TOPICS, -1, dtype=np.int64)
        live = np.flatnonzero(heat > 0.05)
        for story in live[np.argsort(heat[live], kind="stable")].tolist():
            hottest[self.topic[story]] = story
        return hottest


def make_stories(config: WorldConfig, draws: Draws, begin_ms: int, end_ms: int) -> Stories:
    """Return the stories that break between two moments; more time adds stories and changes none."""
    hours = np.arange(begin_ms // HOUR_MS, end_ms // HOUR_MS)[:, None]
    topic = np.arange(N_TOPICS)[None, :]
    breaks = draws.uniform(Purpose.STORY, hours, topic, 0) < config.stories_per_day / 24
    hour, topics = np.nonzero(breaks)
    at = hours[hour, 0]
    low, high = _STORY_HALF_LIFE_MS
    return Stories(
        broke_ms=at * HOUR_MS + (draws.uniform(Purpose.STORY, at, topics, 1) * HOUR_MS).astype(np.int64),
        topic=topics,
        # Heavy-tailed: most stories stay small, a few are everywhere.
        size=np.minimum(0.4 * (1.0 - draws.uniform(Purpose.STORY, at, topics, 2)) ** (-1 / 1.8), 4.0),
        half_life_ms=low + draws.uniform(Purpose.STORY, at, topics, 3) * (high - low),
    )
