from __future__ import annotations

import numpy as np
import pytest

from millrace.simulator.marginals.statistics import (
    HOUR_MS,
    concentration,
    day_profile,
    gaps_s,
    gini,
    rhythm,
    spread,
    top_share,
)
from millrace.simulator.marginals.visits import VISIT_GAP_MS, visits


def column(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_gini_does_not_depend_on_order_or_unit() -> None:
    assert gini(column(3, 1, 2)) == pytest.approx(2 / 9)
    assert gini(column(10, 20, 30)) == pytest.approx(2 / 9)
    assert gini(column(0, 0)) == 0.0


def test_the_top_share_takes_at_least_one() -> None:
    assert top_share(column(1, 1, 2), 0.01) == 0.5
    assert top_share(column(0, 0), 0.5) == 0.0


def test_shape_is_relative_to_the_median_and_absent_where_that_is_zero() -> None:
    assert spread(column(*range(101)))["p90/median"] == pytest.approx(1.8)
    assert "p90/median" not in spread(column(0, 0, 0, 9))


def test_nothing_gives_nothing() -> None:
    none = column()
    assert spread(none) == concentration(none) == rhythm(none, none) == day_profile(none) == {}
    assert visits(none, none) == {}


def test_gaps_are_between_successive_moments_of_one_owner() -> None:
    who, gap = gaps_s(column(2, 1, 2, 1, 2), column(9_000, 1_000, 3_000, 4_500, 4_000))
    assert who.tolist() == [1, 2, 2]
    assert gap.tolist() == [3.5, 1.0, 5.0]


def test_a_clock_is_at_one_end_of_burstiness() -> None:
    assert rhythm(np.zeros(10, dtype=np.int64), np.arange(10) * 1000)["burstiness"] == -1.0


def test_exponential_gaps_are_not_bursty_and_log_normal_ones_are() -> None:
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(50), 400)

    def of(gaps: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return rhythm(owner, np.cumsum(gaps * 1000).astype(np.int64))["burstiness"]

    assert of(rng.exponential(60.0, 20_000)) == pytest.approx(0.0, abs=0.03)
    assert of(rng.lognormal(3.0, 2.0, 20_000)) > 0.5


def test_a_long_log_is_cut_to_the_length_of_a_short_one() -> None:
    owner, times_ms = np.zeros(4, dtype=np.int64), column(0, 2_000, 9_000, 10_000)
    assert rhythm(owner, times_ms)["median s"] == 2.0
    assert rhythm(owner, times_ms, window_ms=5_000)["median s"] == 2.0
    assert rhythm(owner, times_ms, window_ms=9_500)["p99 s"] == pytest.approx(6.95)


def test_burstiness_takes_several_gaps() -> None:
    assert "burstiness" not in rhythm(column(1, 1, 1), column(0, 1_000, 2_000))


def test_hours_count_per_time_that_the_log_has_them() -> None:
    # One event in each of 36 hours: twelve hours of the day come twice, and still stand out by nothing.
    assert day_profile(np.arange(36) * HOUR_MS) == {"busiest hour": 1.0, "quietest hour": 1.0}
    assert day_profile(np.arange(12) * HOUR_MS) == {}


def test_half_an_hour_of_silence_ends_a_visit() -> None:
    times_ms = column(0, 60_000, 60_000 + VISIT_GAP_MS, 60_001 + 2 * VISIT_GAP_MS)
    found = visits(np.zeros(4, dtype=np.int64), times_ms)
    assert found["posts per visit"]["mean"] == 2.0
    assert found["seconds per visit"]["p99"] == pytest.approx(0.99 * (60 + VISIT_GAP_MS / 1000))
    assert found["gaps between visits"]["median s"] == pytest.approx((60_001 + 2 * VISIT_GAP_MS) / 1000)
