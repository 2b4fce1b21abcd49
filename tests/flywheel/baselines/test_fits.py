"""Baselines as predictions: what they learn of planted tastes, and what they may not look at."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.base.errors import ConfigError
from millrace.features.encoding.buckets import log_buckets
from millrace.flywheel.baselines.fits import FITS, fit_baselines
from millrace.flywheel.baselines.popularity import liked_so_far
from millrace.flywheel.baselines.trees import TreesConfig, fit_trees, tree_inputs
from millrace.flywheel.metrics import auc
from millrace.flywheel.sample_set import SampleSet
from millrace.testing.sample_builders import planted_samples

LEARNED, VALIDATED, NEWEST = np.arange(240), np.arange(240, 300), np.arange(300, 400)
QUICK = TreesConfig(min_positives=100, max_trees=30, n_leaves=7, patience=5)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    """Return planted slates whose counters tell what is liked, to those who can read them."""
    planted = planted_samples(400)
    liked = planted.labels[:, Action.LIKE]
    rng = np.random.default_rng(5)
    dense = planted.dense.copy()
    dense[:, planted.meta.dense.index("post:like")] = log_buckets(rng.poisson(2 + 8 * liked))
    return replace(planted, dense=dense)


def like_auc(samples: SampleSet, name: str) -> float:
    predict = fit_baselines([name], samples, LEARNED, VALIDATED)[name]
    likes = samples.labels[samples.rows_of(NEWEST), Action.LIKE] > 0
    return auc(likes, predict(samples, NEWEST)[:, Action.LIKE])


@pytest.mark.parametrize("name", FITS)
def test_predictions_are_probabilities_and_seconds_near_what_happens(samples: SampleSet, name: str) -> None:
    predict = fit_baselines([name], samples, LEARNED, VALIDATED)[name]
    rows = samples.rows_of(NEWEST)
    probs = predict(samples, NEWEST)
    assert probs.shape == (len(rows), len(samples.meta.actions))
    assert probs.dtype == np.float32
    discrete = np.delete(probs, Action.DWELL_TIME, axis=1)
    assert ((discrete >= 0) & (discrete <= 1)).all()
    assert probs[:, Action.LIKE].mean() == pytest.approx(samples.labels[rows, Action.LIKE].mean(), rel=0.25)
    assert predict(samples, np.empty(0, dtype=np.int64)).shape == (0, len(samples.meta.actions))


@pytest.mark.parametrize("name", FITS)
def test_no_baseline_looks_at_what_it_is_asked_about(samples: SampleSet, name: str) -> None:
    labels = samples.labels.copy()
    labels[samples.rows_of(NEWEST)] = 1.0
    honest = fit_baselines([name], samples, LEARNED, VALIDATED)[name](samples, NEWEST)
    other = replace(samples, labels=labels)
    np.testing.assert_array_equal(honest, fit_baselines([name], other, LEARNED, VALIDATED)[name](other, NEWEST))


def test_who_reads_histories_knows_tastes_and_who_reads_counters_knows_counters(samples: SampleSet) -> None:
    assert like_auc(samples, "item_knn") > 0.8
    assert like_auc(samples, "als") > 0.8
    assert like_auc(samples, "popularity") > 0.8
    assert like_auc(samples, "lightgbm") > 0.8
    assert like_auc(samples, "counters_calibrated") == 0.5  # these rates are all the same


def test_popularity_is_what_the_counters_said_at_the_time() -> None:
    planted = planted_samples(2, n_rows=1)
    dense = np.zeros_like(planted.dense)
    dense[0, [planted.meta.dense.index(f"post:{name}") for name in ("like", "reply")]] = log_buckets(np.array([3, 1]))
    dense[1, planted.meta.dense.index("post:dwell")] = 99
    found = liked_so_far(replace(planted, dense=dense), np.array([0, 1]))
    assert found == pytest.approx([np.log(5), 0.0], abs=0.02)


def test_a_head_with_few_positives_keeps_the_calibrated_counters(samples: SampleSet) -> None:
    labels = samples.labels.copy()
    labels[::40, Action.REPLY] = 1.0
    rare = replace(samples, labels=labels)
    counters = fit_baselines(["counters_calibrated"], rare, LEARNED, VALIDATED)["counters_calibrated"](rare, NEWEST)
    trees = fit_trees(rare, LEARNED, VALIDATED, QUICK)(rare, NEWEST)
    np.testing.assert_array_equal(trees[:, Action.REPLY], counters[:, Action.REPLY])
    assert np.ptp(trees[:, Action.LIKE]) > 0.3


def test_trees_without_validation_grow_to_the_end(samples: SampleSet) -> None:
    none = np.empty(0, dtype=np.int64)
    found = fit_trees(samples, LEARNED, none, QUICK)(samples, NEWEST)
    likes = samples.labels[samples.rows_of(NEWEST), Action.LIKE] > 0
    assert auc(likes, found[:, Action.LIKE]) > 0.8


def test_trees_read_dense_fields_and_counters_and_nothing_else(samples: SampleSet) -> None:
    inputs = tree_inputs(samples, np.array([3, 1]))
    assert inputs.shape == (2, samples.dense.shape[1] + samples.baseline.shape[1])
    assert inputs[0, : samples.dense.shape[1]].tolist() == samples.dense[3].tolist()
    assert inputs[1, -1] == pytest.approx(np.log(0.1 / 0.9), rel=1e-5)


def test_a_name_that_is_not_known_is_refused(samples: SampleSet) -> None:
    with pytest.raises(ConfigError, match="not known"):
        fit_baselines(["forest"], samples, LEARNED, VALIDATED)


def test_a_library_that_is_not_there_is_named(samples: SampleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    with pytest.raises(ConfigError, match=r"\.\[bench\]"):
        fit_baselines(["als"], samples, LEARNED, VALIDATED)
