from __future__ import annotations

import numpy as np
import pytest

from millrace.simulator.marginals.attention import by_position, is_answered, pages_of, popularity

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


def column(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def pages(n: int, length: int) -> tuple[Ints, Ints]:
    return np.repeat(np.arange(n), length), np.tile(np.arange(length), n)


def test_a_planted_decay_is_found() -> None:
    page, position = pages(40_000, 12)
    clicked = np.random.default_rng(3).random(len(page)) < 0.2 * (1.0 + position) ** -0.7
    found = by_position(page, position, clicked)
    assert found["decay"] == pytest.approx(0.7, abs=3 * found["decay se"])
    assert found["decay se"] < 0.02
    assert found["plain at 3"] == pytest.approx(4**-0.7, abs=0.03)


def test_long_pages_with_few_clicks_make_plain_rates_fall_but_not_those_within_pages() -> None:
    short_page, short_position = pages(20_000, 2)
    long_page, long_position = pages(20_000, 12)
    rng = np.random.default_rng(4)
    found = by_position(
        np.concatenate([short_page, 20_000 + long_page]),
        np.concatenate([short_position, long_position]),
        np.concatenate([rng.random(40_000) < 0.3, rng.random(240_000) < 0.05]),
    )
    assert found["plain at 4-5"] < 0.4
    assert found["at 4-5"] == pytest.approx(1.0, abs=0.1)
    assert found["plain decay"] > 0.3
    assert found["decay"] == pytest.approx(0.0, abs=4 * found["decay se"])


def test_rates_are_exact_and_rows_without_position_are_left_out() -> None:
    found = by_position(column(1, 1, 2, 2, 2), column(0, 1, 0, 1, -1), np.array([True, False, True, True, True]))
    assert found["rate"] == 0.75
    assert found["rate at 0"] == 1.0


def test_no_click_gives_nothing_and_one_place_has_no_decay() -> None:
    assert by_position(column(1), column(0), np.array([False])) == {}
    assert by_position(column(1, 2), column(0, 0), np.array([True, False]))["decay"] == 0.0


def test_a_page_is_a_request_or_a_run_of_rising_positions() -> None:
    viewer, position = column(1, 1, 1, 1, 2, 2), column(0, 1, 0, 2, 3, 4)
    request = column(-1, -1, -1, -1, 5, 5)
    page = pages_of(viewer, column(1, 2, 3, 4, 5, 6), position, request)
    assert len(set(page[:2])) == len(set(page[2:4])) == len(set(page[4:])) == 1
    assert len(set(page)) == 3


def test_an_action_belongs_to_the_nearest_impression_of_the_same_post() -> None:
    shown = (column(1, 1, 1, 2), column(7, 7, 8, 7), column(0, 60_000, 60_000, 61_000))
    acted = (column(1, 3), column(7, 7), column(59_000, 60_000))
    assert is_answered(shown, acted).tolist() == [False, True, False, False]
    assert is_answered(shown, (column(1), column(7), column(2_000))).tolist() == [True, False, False, False]


def test_an_action_after_the_last_impression_belongs_to_it() -> None:
    shown = (column(1, 1), column(7, 8), column(0, 5_000))
    assert is_answered(shown, (column(1), column(7), column(90_000))).tolist() == [True, False]
    assert is_answered(shown, (column(1), column(8), column(90_000))).tolist() == [False, True]


def test_counts_of_equal_rates_have_no_spread_behind_them_whatever_their_level() -> None:
    rng = np.random.default_rng(6)
    assert popularity(rng.poisson(2.0, 50_000))["cv of the rate"] < 0.1
    for level in (0.5, 5.0):
        uneven = popularity(rng.poisson(level * rng.gamma(1.0, 1.0, 50_000)))
        assert uneven["cv of the rate"] == pytest.approx(1.0, abs=0.07)


def test_popularity_counts_posts_that_got_nothing() -> None:
    found = popularity(column(0, 0, 0, 4))
    assert found["none at all"] == 0.75
    assert found["gini"] == 0.75
