from __future__ import annotations

import numpy as np
import pytest

from millrace.simulator.config import DAY_MS, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.people import choose_by_row, hour_curve, make_people

CONFIG = WorldConfig(n_users=4_000)
PEOPLE = make_people(CONFIG, Draws(CONFIG.seed))


def test_interests_are_two_to_four_shares_that_sum_to_one() -> None:
    n_interests = (PEOPLE.interests > 0).sum(axis=1)
    assert set(n_interests.tolist()) == {2, 3, 4}
    np.testing.assert_allclose(PEOPLE.interests.sum(axis=1), 1.0)


def test_top_topics_are_sorted_by_interest_and_padded() -> None:
    top = PEOPLE.top_topics()
    for user in range(50):
        own = [t for t in top[user].tolist() if t >= 0]
        shares = PEOPLE.interests[user, own]
        assert (np.diff(shares) <= 0).all()
        assert len(own) == (PEOPLE.interests[user] > 0).sum()


def test_languages_have_about_the_configured_shares_and_no_second_one_repeats_the_first() -> None:
    shares = np.bincount(PEOPLE.language, minlength=6) / PEOPLE.n_users
    np.testing.assert_allclose(shares, list(CONFIG.language_shares.values()), atol=0.03)
    assert not (PEOPLE.second_language == PEOPLE.language).any()


def test_many_are_silent_and_few_write_most() -> None:
    rate = PEOPLE.originals_per_day[~PEOPLE.is_spammer]
    assert 0.3 < (rate == 0).mean() < 0.4
    assert rate.mean() == pytest.approx(CONFIG.shape().originals_per_day, rel=0.1)
    loudest = np.sort(rate)[::-1][: len(rate) // 10].sum()
    assert loudest > 0.3 * rate.sum()


def test_the_day_has_mean_one_and_a_quiet_night() -> None:
    minutes = np.arange(0, DAY_MS, 60_000)
    curve = hour_curve(minutes)
    assert curve.mean() == pytest.approx(1.0, abs=0.01)
    assert 3 <= int(np.argmin(curve)) // 60 <= 5
    assert 19 <= int(np.argmax(curve)) // 60 <= 21


def test_a_row_chooses_only_among_its_positive_weights() -> None:
    weights = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    chosen = choose_by_row(np.repeat(weights, 4, axis=0), np.tile([0.0, 0.3, 0.6, 0.999], 2))
    assert chosen.tolist() == [1, 1, 1, 1, 0, 0, 2, 2]


def test_one_language_alone_has_no_second_ones() -> None:
    people = make_people(WorldConfig(n_users=20, language_shares={"de": 1.0}), Draws(1))
    assert (people.second_language == -1).all()


def test_the_people_of_a_world_do_not_change_when_others_join_later() -> None:
    few, many = (make_people(WorldConfig(n_users=200, joins_per_day_frac=frac), Draws(1)) for frac in (0.0, 0.1))
    assert (few.n_users, many.n_users) == (200, 340)
    for name in ("language", "interests", "quality", "propensity", "tolerance", "patience", "is_spammer"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:200])


def test_patience_is_spread_around_the_configured_median_position() -> None:
    half_looks_at = PEOPLE.patience * np.log(2)
    assert np.median(half_looks_at) == pytest.approx(CONFIG.patience, rel=0.05)
    assert 0.3 < np.log(half_looks_at).std() < 0.4
