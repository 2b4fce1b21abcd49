"""How fast posts rise: worked by hand."""

import math

import numpy as np
import pytest

from millrace.mixer.sources.trending import velocity

RULE = {"half_life_h": 6.0, "prior_h": 1.0, "prior_per_h": 2.0}


def speed(heat: float, total: float, age_h: float) -> float:
    return float(velocity(np.array([heat]), np.array([total]), np.array([age_h]), **RULE)[0])


@pytest.mark.parametrize("age_h", [1.0, 6.0, 47.0])
def test_a_post_that_is_engaged_with_evenly_has_its_rate_at_any_age(age_h: float) -> None:
    rate = 5.0
    lived_h = age_h + 1.0
    heat = rate * 6.0 / math.log(2) * (1 - 2 ** (-lived_h / 6.0))
    assert speed(heat, rate * lived_h, age_h) == pytest.approx(rate)


def test_a_rise_counts_more_and_a_fall_less_than_the_rate_alone() -> None:
    even = speed(20.0, 40.0, 12.0)
    assert speed(20.0, 25.0, 12.0) > even > speed(20.0, 200.0, 12.0)


def test_the_example_of_the_docstring_by_hand() -> None:
    now = 10.0 * math.log(2) / 6 / (1 - 2 ** (-(5.0 + 1.0) / 6.0))  # 2.3105 an hour, of a post 5 hours old
    assert now == pytest.approx(2.31049, abs=1e-5)
    assert speed(10.0, 12.0, 5.0) == pytest.approx(now * (now + 2.0) / (12.0 / 6.0 + 2.0))


def test_a_like_in_the_first_minute_is_no_storm() -> None:
    assert speed(1.0, 1.0, 1 / 60) < 1.1
    assert speed(1.0, 1.0, -0.5) == speed(1.0, 1.0, 0.0)  # clocks differ


def test_no_posts_have_no_velocity() -> None:
    none = np.empty(0)
    assert len(velocity(none, none, none, **RULE)) == 0
