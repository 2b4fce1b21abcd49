from __future__ import annotations

import math

import pytest

from millrace.simulator.judge.calibration import EVERYTHING, calibration, describe_slices, has_predictions
from millrace.testing.run_plan import BEGAN_MS, HOUR_MS
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import a_meta, small_run

USERS = [{"user": 1, "joined_ms": 0}, {"user": 2, "joined_ms": BEGAN_MS + 1}]


def an_item(viewer: int, true: float, predicted: float = math.nan, **rest: object) -> dict[str, object]:
    return {"viewer": viewer, "true_like": true, "pred_like": predicted, **rest}


def test_predicted_over_true_in_all_and_by_slice() -> None:
    items = [
        an_item(1, 0.25, 0.5, is_followed=True),
        an_item(1, 0.5, 0.25, language=1),
        an_item(2, 0.25, 0.75, age_ms=2 * HOUR_MS),
        an_item(2, 0.25),
    ]
    got = {part.slice: part for part in calibration(small_run(users=USERS, items=items), ["like"], n_bins=3)}
    whole = got[EVERYTHING]
    assert (whole.ratio.value, whole.n, whole.n_missing) == (1.5, 3, 1)
    assert (whole.predicted, whole.true) == (0.5, pytest.approx(1 / 3))
    assert whole.mse == pytest.approx((0.0625 + 0.0625 + 0.25) / 3)
    assert whole.rank_correlation == pytest.approx(-0.8660254)
    assert [(each.predicted, each.true, each.n) for each in whole.bins] == [
        (0.25, 0.5, 1),
        (0.5, 0.25, 1),
        (0.75, 0.25, 1),
    ]
    assert got["network=in"].ratio.value == 2.0
    assert got["language=es"].ratio.value == 0.5
    assert got["viewer=new"].ratio.value == 3.0
    assert got["viewer=new"].n_missing == 1
    assert got["age=1 to 6 h"].n == 1
    assert got["age=under 1 h"].n == 2
    assert {name.partition("=")[0] for name in got} == {EVERYTHING, *describe_slices(a_meta())}


def test_a_feed_that_predicts_nothing_is_not_calibrated_and_not_wrong() -> None:
    run = small_run(users=USERS, items=[an_item(1, 0.5)])
    whole = calibration(run, ["like"])[0]
    assert (whole.n, whole.n_missing, whole.bins) == (0, 1, ())
    assert all(math.isnan(value) for value in (whole.ratio.value, whole.mse, whole.rank_correlation))
    assert not has_predictions(run)
    assert calibration(small_run(), ["like"]) == ()


def test_a_planted_bias_is_found_for_every_action() -> None:
    run = a_run(RunPlan(n_users=40, n_days=2, bias=0.5, new_frac=0.0))
    whole = [part for part in calibration(run) if part.slice == EVERYTHING]
    assert len(whole) == len(run.meta.actions)
    for part in whole:
        assert part.ratio.value == pytest.approx(0.5 * math.exp(0.25**2 / 2), rel=0.03)
        assert sum(each.n for each in part.bins) == part.n
        assert [each.predicted for each in part.bins] == sorted(each.predicted for each in part.bins)
