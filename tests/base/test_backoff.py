"""Backoff: how long what fails is left alone."""

from __future__ import annotations

import random

import pytest

from millrace.base.backoff import Backoff
from millrace.testing.told_clock import ToldClock


def test_rests_double_up_to_the_longest_and_a_success_ends_them() -> None:
    backoff = Backoff(ToldClock(), 1.0, 5.0)
    assert [backoff.fail() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.succeed()
    assert (backoff.n_failures, backoff.left_s) == (0, 0.0)
    assert backoff.fail() == 1.0


def test_jitter_shortens_each_rest_by_up_to_a_half() -> None:
    backoff = Backoff(ToldClock(), 8.0, 8.0, jitter=random.Random(1))
    rests = [backoff.fail() for _ in range(200)]
    assert 4.0 <= min(rests) < 4.2
    assert 7.8 < max(rests) <= 8.0


def test_a_rest_passes_with_the_clock() -> None:
    clock = ToldClock()
    backoff = Backoff(clock, 4.0, 60.0)
    assert backoff.left_s == 0.0
    backoff.fail()
    clock.s += 3.0
    assert backoff.left_s == pytest.approx(1.0)
    clock.s += 1.0
    assert backoff.left_s == 0.0


def test_some_failures_may_be_free_and_thousands_are_no_overflow() -> None:
    backoff = Backoff(ToldClock(), 1.0, 30.0, n_free=2)
    assert [backoff.fail() for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
    backoff.succeed()
    backoff.fail()
    assert backoff.left_s == 0.0
    assert [backoff.fail() for _ in range(3_000)][-1] == 30.0
