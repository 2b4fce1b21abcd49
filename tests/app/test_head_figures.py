"""Figures of heads beside counters: what is compared is calibrated, and what hardly ever happens is not told."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.app.distilling import student_heads
from millrace.app.training import MIN_POSITIVES, calibrated, head_figures
from millrace.base.actions import Action
from millrace.testing.sample_builders import planted_samples

N = 2_000


def table(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((N, len(Action)), value, dtype=np.float32)


def test_rates_that_are_several_times_too_high_come_down_to_what_was_seen() -> None:
    labels = table(0.0)
    labels[: N // 10] = 1.0
    found = calibrated(table(0.4), table(0.4), labels)
    assert found[:, Action.LIKE] == pytest.approx(0.1, abs=0.02)
    assert (found[:, Action.DWELL_TIME] == np.float32(0.4)).all()  # an amount, no probability


def test_of_no_rows_of_before_predictions_stay_as_they_are() -> None:
    given = table(0.4)
    found = calibrated(given, given[:0], given[:0])
    np.testing.assert_allclose(found, given, rtol=1e-6)
    assert found is not given


def test_heads_that_hardly_ever_happen_have_no_figures() -> None:
    samples = planted_samples(2)
    labels, probs = table(0.0), table(0.2)
    labels[:MIN_POSITIVES, Action.LIKE] = 1.0
    labels[: MIN_POSITIVES - 1, Action.REPLY] = 1.0
    labels[MIN_POSITIVES - 1 :, Action.SHARE] = 1.0  # all but too few
    probs[:MIN_POSITIVES, Action.LIKE] = 0.9
    (head,) = head_figures(labels, probs, table(0.1), samples, {"like": 7})
    assert (head.action, head.n_learned, head.n_held_out) == ("like", 7, MIN_POSITIVES)
    assert (head.auc, head.counters_auc) == (1.0, 0.5)
    assert head.counters_calibration == pytest.approx(0.1 * N / MIN_POSITIVES)
    assert [student.action for student in student_heads(labels, probs, probs, samples.meta.actions)] == ["like"]


@pytest.mark.parametrize("shape", [(N - 1, len(Action)), (N, 2)])
def test_tables_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    labels, short = table(0.0), np.full(shape, 0.2, dtype=np.float32)
    labels[:MIN_POSITIVES, Action.SHARE] = 1.0
    with pytest.raises(IndexError):
        head_figures(labels, short, table(0.1), planted_samples(2), {"share": 1})
    with pytest.raises(IndexError):
        student_heads(labels, table(0.1), short, planted_samples(2).meta.actions)
    with pytest.raises((ValueError, IndexError)):
        calibrated(table(0.1), short, labels)
