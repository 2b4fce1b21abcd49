"""The gate: each rule lets in what it should, keeps out what it must, and says why."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.base.actions import N_ACTIONS, Action, ActionSpace
from millrace.flywheel.decisions import HeadMetrics, RuleOutcome
from millrace.flywheel.learning_config import GateConfig
from millrace.flywheel.promotion_gate import Cost, JudgedRows, against_live, costs, crowd, memory, surprise
from millrace.flywheel.sample_set import Float32Array

ACTIONS = ActionSpace().names
GATE = GateConfig(n_resamples=100)
N = 4_000


def a_truth(seed: int = 1) -> tuple[Float32Array, Float32Array]:
    """Return labels and what each row's probabilities are."""
    rng = np.random.default_rng(seed)
    truth = np.full((N, N_ACTIONS), 1e-4, dtype=np.float32)
    truth[:, Action.LIKE] = np.where(rng.random(N) < 0.4, 0.5, 0.05)
    labels = np.zeros_like(truth)
    labels[:, Action.LIKE] = rng.random(N) < truth[:, Action.LIKE]
    return labels, truth


def noised(probs: Float32Array, scale: float, rows: slice = slice(None), seed: int = 2) -> Float32Array:
    """Return probabilities with their log-odds off by chance."""
    out = probs.astype(np.float64)
    odds = np.log(out / (1 - out))
    odds[rows] += np.random.default_rng(seed).normal(0, scale, odds[rows].shape)
    found: Float32Array = (1 / (1 + np.exp(-odds))).astype(np.float32)
    return found


def rows(labels: Float32Array, live: Float32Array, candidate: Float32Array, **slices: slice) -> JudgedRows:
    places = {name: np.arange(N)[which] for name, which in slices.items()}
    return JudgedRows(labels, live, candidate, np.repeat(np.arange(N // 20), 20), places)


def broken(rules: list[RuleOutcome]) -> list[str]:
    return [rule.name for rule in rules if not rule.is_kept]


def test_what_is_better_passes_and_what_is_worse_does_not() -> None:
    labels, truth = a_truth()
    worse = noised(truth, 1.5)
    assert broken(against_live(rows(labels, worse, truth), ACTIONS, GATE)) == []
    assert {"entropy", "auc"} <= set(broken(against_live(rows(labels, truth, worse), ACTIONS, GATE)))


def test_the_same_model_passes_and_its_gains_are_nothing() -> None:
    labels, truth = a_truth()
    rules = {rule.name: rule for rule in against_live(rows(labels, truth, truth), ACTIONS, GATE)}
    assert all(rule.is_kept for rule in rules.values())
    assert rules["entropy"].value == rules["auc"].value == 0.0


def test_harm_to_a_slice_is_told_though_the_mean_is_better() -> None:
    labels, truth = a_truth()
    few = slice(0, 600)
    live = noised(truth, 1.0, slice(600, N))
    candidate = noised(truth, 1.0, few)
    rules = against_live(rows(labels, live, candidate, few=few, others=slice(600, N)), ACTIONS, GATE)
    assert broken(rules) == ["slice few"]
    (harm,) = [rule for rule in rules if not rule.is_kept]
    assert harm.high is not None
    assert harm.high < -GATE.max_slice_entropy_lost
    assert harm.words.startswith("few: normalised entropy")
    assert "higher" in harm.words


def test_a_slice_of_few_rows_has_no_say() -> None:
    labels, truth = a_truth()
    few = slice(0, 200)
    rules = against_live(rows(labels, noised(truth, 0.8), noised(truth, 3.0, few), few=few), ACTIONS, GATE)
    assert "slice few" not in [rule.name for rule in rules]


def test_who_predicts_three_times_too_much_is_refused_unless_the_live_model_is_no_better() -> None:
    labels, truth = a_truth()
    thrice = np.minimum(3 * truth, 0.99)
    assert "calibration" in broken(against_live(rows(labels, truth, thrice), ACTIONS, GATE))
    assert "calibration" not in broken(against_live(rows(labels, thrice, thrice), ACTIONS, GATE))


def test_a_head_that_is_hardly_ever_done_may_not_be_predicted_of_everybody() -> None:
    labels, truth = a_truth()
    mad = truth.copy()
    mad[:, Action.MUTE_AUTHOR] = 0.9
    rules = against_live(rows(labels, truth, mad), ACTIONS, GATE)
    assert broken(rules) == ["rare"]
    (harm,) = [rule for rule in rules if rule.name == "rare"]
    assert harm.words.startswith("mute_author: predicted 3600.0 times, happened 0 times")
    assert broken(against_live(rows(labels, mad, mad), ACTIONS, GATE)) == []  # no worse than what serves
    some = truth.copy()
    some[:, Action.MUTE_AUTHOR] = 8.9 / N  # that none of nine happened is chance
    assert broken(against_live(rows(labels, truth, some), ACTIONS, GATE)) == []


def test_what_is_not_finite_and_what_cannot_be_judged_is_refused() -> None:
    labels, truth = a_truth()
    candidate = truth.copy()
    candidate[7, Action.BLOCK_AUTHOR] = np.nan
    assert broken(against_live(rows(labels, truth, candidate), ACTIONS, GATE)) == ["finite"]
    assert broken(against_live(rows(0 * labels, truth, truth), ACTIONS, GATE)) == ["evidence"]


def test_earlier_pages_must_not_be_forgotten() -> None:
    labels, truth = a_truth()
    assert memory(None, GATE).is_kept
    assert memory(rows(labels, truth, truth), GATE).is_kept
    forgot = memory(rows(labels, truth, noised(truth, 0.8)), GATE)
    assert not forgot.is_kept
    assert "on earlier pages" in forgot.words


def test_a_live_model_that_is_suddenly_wrong_means_an_hour_that_nobody_believes() -> None:
    def told(auc: float) -> list[HeadMetrics]:
        return [HeadMetrics(action="like", n_positive=90, auc=auc, normalised_entropy=1.0, calibration=1.0)]

    assert surprise(told(0.70), {"like": 0.75}, GATE).is_kept
    assert not surprise(told(0.51), {"like": 0.75}, GATE).is_kept
    assert surprise(told(0.51), {}, GATE).is_kept
    assert surprise(told(0.51), {"reply": 0.9}, GATE).value is None


def test_what_a_few_did_is_not_what_people_did() -> None:
    labels = np.zeros((3_000, N_ACTIONS), dtype=np.float32)
    viewers = np.repeat(np.arange(300), 10)
    labels[::10, Action.LIKE] = 1  # one like each
    usual = (labels.copy(), viewers)
    assert crowd(labels, viewers, usual, ACTIONS, GATE).is_kept
    labels[viewers < 3] = 0
    mad = labels.copy()
    mad[np.isin(viewers, (0, 1, 2)), Action.LIKE] = 1
    mad_viewers = viewers.copy()
    mad_viewers[:300] = np.arange(300) % 3  # pages that three viewers asked for
    mad[:300, Action.LIKE] = 1
    refused = crowd(mad, mad_viewers, usual, ACTIONS, GATE)
    assert not refused.is_kept
    assert refused.value == pytest.approx(300 / 570, abs=0.01)
    assert refused.words.startswith("the 3 busiest viewers did 53% of every like")


def test_looking_is_no_doing_and_a_handful_of_viewers_tells_nothing() -> None:
    labels = np.zeros((1_000, N_ACTIONS), dtype=np.float32)
    labels[:100, Action.DWELL] = 1
    assert crowd(labels, np.repeat(np.arange(100), 10), None, ACTIONS, GATE).value is None
    labels[:100, Action.LIKE] = 1
    assert crowd(labels, np.repeat(np.arange(10), 100), None, ACTIONS, GATE).value is None
    assert not crowd(labels, np.repeat(np.arange(100), 10), None, ACTIONS, GATE.__class__(max_crowd_share=0.2)).is_kept


def test_a_dearer_model_is_refused() -> None:
    live = Cost(ms=2.0, n_bytes=1_000)
    assert broken(costs(live, Cost(2.4, 1_050), GATE)) == []
    assert broken(costs(live, Cost(2.6, 1_050), GATE)) == ["latency"]
    assert broken(costs(live, Cost(2.0, 1_200), GATE)) == ["size"]
