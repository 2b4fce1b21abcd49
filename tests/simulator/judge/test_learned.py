from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.flywheel.metrics import auc
from millrace.simulator.judge.intervals import bootstrap_ratio
from millrace.simulator.judge.learned import (
    CALIBRATED,
    COUNTERS,
    TRUTH,
    HeadJudgement,
    Judgement,
    TrueRows,
    cross_entropy,
    expected_auc,
    judge_predictions,
)


def some_rows(n: int = 4_000, seed: int = 1, **slices: Any) -> TrueRows:
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.beta(1, 4, n), rng.beta(1, 40, n)], axis=1)
    return TrueRows(
        actions=("like", "reply"),
        viewers=rng.integers(100, 200, n),
        truth=truth,
        did=rng.random((n, 2)) < truth,
        slices={name: np.asarray(rows) for name, rows in slices.items()},
    )


def flat(rows: TrueRows) -> Any:
    return np.full(rows.truth.shape, 0.1)


def judged(rows: TrueRows, predictions: Mapping[str, Any], **options: Any) -> dict[tuple[str, str], HeadJudgement]:
    found: Judgement = judge_predictions(rows, predictions, **options)
    return {(head.action, head.prediction): head for head in found.heads}


def test_the_truth_closes_the_whole_gap_and_counters_close_nothing() -> None:
    rows = some_rows()
    heads = judged(rows, {COUNTERS: flat(rows), "learned": rows.truth})
    for action in rows.actions:
        for name in ("learned", TRUTH):
            best = heads[action, name]
            assert (best.closed.value, best.closed.low, best.closed.high) == (1.0, 1.0, 1.0)
            assert best.calibration.value == 1.0
        nothing = heads[action, COUNTERS]
        assert (nothing.closed.value, nothing.closed.low, nothing.closed.high) == (0.0, 0.0, 0.0)
        assert nothing.cross_entropy > heads[action, TRUTH].cross_entropy
        assert math.isnan(nothing.closed_calibrated.value)
        assert nothing.auc.value == pytest.approx(0.5)


def test_a_gap_half_closed_in_cross_entropy_is_half() -> None:
    rows = TrueRows(("like",), np.array([1, 2]), np.array([[0.5], [0.5]]), np.array([[True], [False]]), {})
    # Above the floor of log 2: counters on both rows, the learned one on the first alone.
    heads = judged(rows, {COUNTERS: np.array([[0.25], [0.25]]), "half": np.array([[0.25], [0.5]])})
    half = heads["like", "half"]
    assert half.closed.value == pytest.approx(0.5)
    assert heads["like", TRUTH].cross_entropy == pytest.approx(math.log(2))
    assert heads["like", TRUTH].normalised_entropy == pytest.approx(1.0)
    assert half.calibration.value == pytest.approx(0.75)
    assert (half.n, half.n_true, half.n_did) == (2, 1.0, 1)


def test_what_calibration_alone_does_is_told_apart() -> None:
    rows = some_rows()
    base = np.broadcast_to(rows.truth.mean(axis=0), rows.truth.shape)
    heads = judged(rows, {COUNTERS: flat(rows), CALIBRATED: base, "learned": base})
    reply = heads["reply", "learned"]
    assert reply.closed.value > 0.3
    assert reply.closed_calibrated.value == 0.0
    assert heads["reply", COUNTERS].closed_calibrated.value < 0.0
    assert heads["reply", TRUTH].closed_calibrated.value == 1.0


def test_slices_tell_their_own_calibration_and_small_ones_are_left_out() -> None:
    rows = some_rows(n=300, high=np.arange(200), low=np.arange(200, 300))
    predicted = rows.truth.copy()
    predicted[:200] *= 2.0
    found = judge_predictions(rows, {COUNTERS: flat(rows), "learned": predicted}, min_rows=150)
    (high,) = [part for part in found.slices if (part.action, part.prediction) == ("like", "learned")]
    assert (high.slice, high.n) == ("high", 200)
    assert high.calibration.value == pytest.approx(2.0)
    assert high.calibration.low < 2.0 + 1e-9
    assert high.n_true == pytest.approx(rows.truth[:200, 0].sum())
    assert {part.closed for part in found.slices if part.prediction == TRUTH} == {1.0}


def test_an_action_that_cannot_happen_is_left_out() -> None:
    rows = TrueRows(("like", "report"), np.array([1, 2]), np.array([[0.5, 0.0]] * 2), np.zeros((2, 2), np.bool_), {})
    assert {head.action for head in judge_predictions(rows, {COUNTERS: flat(rows)}).heads} == {"like"}


def test_rows_that_hold_each_other_up_are_not_taken_for_many() -> None:
    """A viewer's rows, each ten times: the same figure with the same interval, not one a third as wide."""
    rows = some_rows(n=200)
    viewers, truth, did = (
        np.repeat(rows.viewers, 10),
        np.repeat(rows.truth, 10, axis=0),
        np.repeat(rows.did, 10, axis=0),
    )
    ten = TrueRows(rows.actions, viewers, truth, did, {})
    noisy = np.clip(rows.truth + np.random.default_rng(2).normal(0, 0.05, rows.truth.shape), 0.001, 0.999)
    one = judged(rows, {COUNTERS: flat(rows), "learned": noisy})["like", "learned"]
    many = judged(ten, {COUNTERS: flat(ten), "learned": np.repeat(noisy, 10, axis=0)})["like", "learned"]
    for name in ("closed", "calibration"):
        a, b = getattr(one, name), getattr(many, name)
        assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high))
    assert many.auc.error == pytest.approx(one.auc.error, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_where_the_truth_is_certain_the_expected_auc_is_the_auc(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    did = np.array([did for _, did in rows])
    expected = expected_auc(scores, did.astype(np.float64), np.arange(len(rows))).value
    assert expected == pytest.approx(auc(did, scores), nan_ok=True)


def test_the_interval_of_the_auc_is_as_wide_as_a_bootstrap_over_viewers_says() -> None:
    rng = np.random.default_rng(3)
    viewer = np.repeat(np.arange(150), 8)
    level = rng.normal(0, 1, 150)[viewer]  # what viewers' rows have in common
    truth = 1 / (1 + np.exp(1.0 - level))
    scores = level + rng.normal(0, 1.5, len(viewer))
    found = expected_auc(scores, truth, viewer)
    redrawn = []
    for _ in range(300):
        drawn = rng.integers(150, size=150)
        rows = (drawn[:, None] * 8 + np.arange(8)).ravel()
        redrawn.append(expected_auc(scores[rows], truth[rows], np.arange(len(rows))).value)
    assert found.error == pytest.approx(np.std(redrawn), rel=0.25)


@given(st.floats(0, 1), st.floats(0, 1))
def test_nothing_is_below_the_truths_own_cross_entropy(p: float, q: float) -> None:
    truth = np.array([p])
    assert cross_entropy(truth, np.array([q]))[0] >= cross_entropy(truth, truth)[0] - 1e-12


def test_the_interval_of_the_share_is_the_judges_bootstrap() -> None:
    rows = some_rows(n=500)
    noisy = np.clip(rows.truth * 1.3, 0.001, 0.999)
    head = judged(rows, {COUNTERS: flat(rows), "learned": noisy}, seed=5)["like", "learned"]
    p = rows.truth[:, 0]
    floor = cross_entropy(p, p)
    gap = cross_entropy(p, flat(rows)[:, 0]) - floor
    won = gap - (cross_entropy(p, noisy[:, 0]) - floor)
    _, viewer = np.unique(rows.viewers, return_inverse=True)
    expected = bootstrap_ratio(np.bincount(viewer, won), np.bincount(viewer, gap), seed=5, n_draws=500)
    assert head.closed.value == pytest.approx(expected.value)
    assert (head.closed.low, head.closed.high) == pytest.approx((expected.low, expected.high))
