from __future__ import annotations

import numpy as np
import pytest

from millrace.simulator.config import DAY_MS, HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.people import N_TOPICS, make_people
from millrace.simulator.topics import Stories, interest_now, make_stories, topic_trend

CONFIG = WorldConfig(size="tiny", n_users=600)
DRAWS = Draws(CONFIG.seed)
PEOPLE = make_people(CONFIG, DRAWS)
NOW_MS = 1_800_000_000_000


def interest(time_ms: int, drift: float = 0.35) -> np.ndarray:
    return interest_now(WorldConfig(size="tiny", n_users=600, drift=drift), DRAWS, PEOPLE, time_ms)


def a_story(**columns: list[float]) -> Stories:
    values = {"broke_ms": [NOW_MS], "topic": [2], "size": [2.0], "half_life_ms": [4.0 * HOUR_MS]} | columns
    return Stories(
        np.array(values["broke_ms"], dtype=np.int64),
        np.array(values["topic"], dtype=np.int64),
        np.array(values["size"], dtype=np.float64),
        np.array(values["half_life_ms"], dtype=np.float64),
    )


def test_interests_are_relative_to_the_strongest_one() -> None:
    now = interest(NOW_MS)
    assert now.shape == (PEOPLE.n_users, N_TOPICS)
    np.testing.assert_array_equal(now.max(axis=1), 1.0)
    assert now.min() > 0.0  # nobody is closed to anything


def test_without_drift_interests_stay() -> None:
    np.testing.assert_array_equal(interest(NOW_MS, drift=0.0), interest(NOW_MS + 30 * DAY_MS, drift=0.0))
    np.testing.assert_array_equal(interest(NOW_MS, drift=0.0).argmax(axis=1), PEOPLE.interests.argmax(axis=1))


def log_wander(time_ms: int) -> np.ndarray:
    """Return the drift of a topic against another one, as it shows: differences of logs cancel the scaling."""
    now, still = np.log(interest(time_ms, 1.0)), np.log(interest(time_ms, 0.0))
    moved = now - still
    return moved[:, 1:] - moved[:, :-1]


@pytest.mark.parametrize("hours", [0, 7, 24, 61, 100])
def test_drift_has_the_same_variance_at_every_moment(hours: int) -> None:
    # Two wanders of variance 1 for each of two topics: 4 in all.
    assert log_wander(NOW_MS + hours * HOUR_MS).var() == pytest.approx(4.0, rel=0.08)


def test_drift_is_continuous_and_goes_a_long_way_in_a_week() -> None:
    begin = log_wander(NOW_MS)
    knot = -(-NOW_MS // (2 * DAY_MS)) * 2 * DAY_MS
    assert np.abs(log_wander(knot) - log_wander(knot - 1)).max() < 1e-6
    minute = np.abs(log_wander(NOW_MS + 60_000) - begin)
    assert minute.max() < 0.02
    assert np.corrcoef(begin.ravel(), log_wander(NOW_MS + HOUR_MS).ravel())[0, 1] > 0.99
    assert abs(np.corrcoef(begin.ravel(), log_wander(NOW_MS + 30 * DAY_MS).ravel())[0, 1]) < 0.05


def test_topics_rise_and_fall_around_one() -> None:
    trends = np.stack([topic_trend(DRAWS, NOW_MS + day * 3 * DAY_MS) for day in range(200)])
    assert np.log(trends).mean() == pytest.approx(0.0, abs=0.03)
    assert np.log(trends).std() == pytest.approx(0.35, rel=0.05)


def test_a_story_rises_within_half_an_hour_and_then_halves_and_halves() -> None:
    times = NOW_MS + np.array([-1, 0, HOUR_MS // 4, 4 * HOUR_MS, 8 * HOUR_MS])
    heat = a_story().heat(np.zeros(5, dtype=np.int64), times)
    np.testing.assert_allclose(heat, [0.0, 0.0, 2.0 * 0.5 * 2 ** (-1 / 16), 1.0, 0.5])


def test_no_story_has_no_heat() -> None:
    assert a_story().heat(np.array([-1]), NOW_MS + HOUR_MS).tolist() == [0.0]
    none = a_story(broke_ms=[], topic=[], size=[], half_life_ms=[])
    assert none.heat(np.array([0, -1]), NOW_MS).tolist() == [0.0, 0.0]
    assert none.hottest(NOW_MS).tolist() == [-1] * N_TOPICS


def test_the_hottest_story_of_each_topic_is_written_about() -> None:
    stories = a_story(broke_ms=[NOW_MS] * 3, topic=[2, 2, 5], size=[1.0, 3.0, 1.0], half_life_ms=[HOUR_MS] * 3)
    hottest = stories.hottest(NOW_MS + HOUR_MS)
    assert (hottest[2], hottest[5]) == (1, 2)
    assert (np.delete(hottest, [2, 5]) == -1).all()
    assert (stories.hottest(NOW_MS + 30 * HOUR_MS) == -1).all()


def test_a_longer_horizon_adds_stories_and_changes_none() -> None:
    short = make_stories(CONFIG, DRAWS, NOW_MS, NOW_MS + 10 * DAY_MS)
    long = make_stories(CONFIG, DRAWS, NOW_MS, NOW_MS + 40 * DAY_MS)
    n = len(short.broke_ms)
    assert n == pytest.approx(0.5 * N_TOPICS * 10, rel=0.3)
    assert len(long.broke_ms) > 3 * n
    for name in ("broke_ms", "topic", "size", "half_life_ms"):
        np.testing.assert_array_equal(getattr(long, name)[:n], getattr(short, name))


def test_most_stories_stay_small_and_a_few_are_everywhere() -> None:
    size = make_stories(WorldConfig(size="tiny", stories_per_day=20), DRAWS, NOW_MS, NOW_MS + 30 * DAY_MS).size
    assert np.median(size) < 0.7
    assert size.max() == 4.0
    assert size.min() >= 0.4
