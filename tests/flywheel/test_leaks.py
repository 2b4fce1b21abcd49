"""The controls: shuffled labels are a coin flip, a future feature is found out, an honest one is not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from millrace.flywheel.leaks import CONTROL_POSITIVES, find_leaks, shuffle_control, shuffled_rows
from millrace.flywheel.metrics import auc


class Log(NamedTuple):
    """Looks in order of time, with the truth, and a post's likes as counted at different moments."""

    viewers: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    likes_before: np.ndarray
    likes_in_the_end: np.ndarray
    rate_before: np.ndarray


def a_log(seed: int, n: int = 20_000, n_posts: int = 3_000) -> Log:
    """A few looks at each post; every post has its own chance to be liked."""
    rng = np.random.default_rng(seed)
    posts, viewers = rng.integers(n_posts, size=n), rng.integers(800, size=n)
    truth = rng.beta(1.0, 9.0, n_posts)[posts]
    labels = rng.random(n) < truth
    before, looks = np.zeros(n), np.zeros(n)
    n_likes, n_looks = np.zeros(n_posts), np.zeros(n_posts)
    for row, post in enumerate(posts.tolist()):
        before[row], looks[row] = n_likes[post], n_looks[post]
        n_likes[post] += labels[row]
        n_looks[post] += 1
    return Log(viewers, truth, labels, before, n_likes[posts], (before + 0.1) / (looks + 1))


@pytest.mark.parametrize("seed", range(3))
def test_a_counter_that_holds_the_future_is_above_the_truth(seed: int) -> None:
    log = a_log(seed)
    scores = {
        "likes before": log.likes_before,
        "rate before": log.rate_before,
        "likes in the end": log.likes_in_the_end,
    }
    found = find_leaks(scores, log.labels, log.viewers, ceiling=log.truth)
    assert [(leak.score, leak.rule) for leak in found] == [("likes in the end", "above truth")]
    assert "the true probabilities themselves reach" in str(found[0])


@pytest.mark.parametrize("seed", range(3))
def test_without_any_truth_the_replay_gives_it_away(seed: int) -> None:
    log = a_log(seed)
    logged = {"likes": log.likes_in_the_end, "rate": log.rate_before}
    found = find_leaks(
        logged, log.labels, log.viewers, replayed={"likes": log.likes_before, "rate": log.rate_before + 1e-6}
    )
    assert [(leak.score, leak.rule) for leak in found] == [("likes", "hindsight")]


def test_the_truth_itself_and_what_orders_like_it_are_no_leaks() -> None:
    log = a_log(5)
    scores = {"truth": log.truth, "its square": log.truth**2, "nearly it": log.truth + 1e-3 * log.rate_before}
    assert find_leaks(scores, log.labels, log.viewers, ceiling=log.truth) == []


def test_the_label_itself_is_implausible() -> None:
    log = a_log(6)
    nearly = log.labels + 0.4 * np.random.default_rng(0).random(len(log.labels))
    (leak,) = find_leaks({"label": nearly, "rate": log.rate_before}, log.labels, log.viewers)
    assert (leak.score, leak.rule, leak.bound) == ("label", "implausible", 0.98)
    assert leak.low > 0.98


def test_labels_of_one_kind_say_nothing() -> None:
    assert find_leaks({"x": np.arange(5.0)}, np.zeros(5, dtype=np.bool_), np.arange(5)) == []


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_give_one_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 400_000
    scores = rng.random(n)
    labels = rng.random(n) < 0.12 * scores  # scores that are good, until labels are shuffled
    control = shuffle_control("like", labels, scores, seed)
    assert control.n_positive >= CONTROL_POSITIVES
    assert auc(labels, scores) > 0.6
    assert abs(control.auc - 0.5) <= 0.005
    assert control.holds
    assert abs(auc(labels[shuffled_rows(n, seed)], scores) - 0.5) <= 0.005


def test_with_few_positives_the_control_allows_what_chance_does() -> None:
    rng = np.random.default_rng(1)
    control = shuffle_control("like", rng.random(500) < 0.1, rng.random(500))
    assert control.holds
    assert control.tolerance > 0.005
