"""LightGBM on counters: boosted trees over the dense fields and the counters' rates, one model a head.

What trees cannot read here is what the networks have besides: ids, texts, histories. (Extra: millrace[bench].)

References
----------
Ke et al.: LightGBM: a highly efficient gradient boosting decision tree, NeurIPS 2017.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from millrace.base.actions import CONTINUOUS
from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.contract import Predict
from millrace.flywheel.baselines.counters import fit_counters
from millrace.flywheel.baselines.libraries import library
from millrace.flywheel.metrics import Float64Array
from millrace.flywheel.platt import Platt, fit_platt, logit
from millrace.flywheel.sample_set import Float32Array, SampleSet


class TreesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How trees are grown."""

    min_positives: Annotated[int, Meta(ge=1, description="heads with fewer keep the calibrated counters")] = 200
    max_trees: Annotated[int, Meta(ge=1)] = 300
    n_leaves: Annotated[int, Meta(ge=2)] = 31
    learning_rate: Annotated[float, Meta(gt=0)] = 0.05
    patience: Annotated[int, Meta(ge=1, description="trees without a better validation before the end")] = 20
    seed: int = 1


def fit_trees(
    samples: SampleSet, learned: Int64Array, validated: Int64Array, config: TreesConfig | None = None
) -> Predict:
    """Return predictions of trees, their number chosen and their logits calibrated on the validated slates.

    Raises
    ------
    ConfigError
        If LightGBM is not installed.
    """
    config = config or TreesConfig()
    fallback = fit_counters(samples, learned, validated)
    rows, held_out = samples.rows_of(learned), samples.rows_of(validated)
    inside, outside = tree_inputs(samples, rows), tree_inputs(samples, held_out)
    heads: dict[int, tuple[Any, Platt]] = {}
    for head in range(len(samples.meta.actions)):
        labels = np.asarray(samples.labels[rows, head] > 0)
        if head in CONTINUOUS or not config.min_positives <= labels.sum() < len(labels):
            continue
        y, weights = np.asarray(samples.labels[held_out, head] > 0), np.asarray(samples.weights[held_out])
        booster = _grown(inside, labels, np.asarray(samples.weights[rows]), (outside, y, weights), config)
        raw = booster.predict(outside, raw_score=True, num_threads=1) if len(held_out) else np.empty(0)
        heads[head] = booster, fit_platt(raw, y.astype(np.float64), weights)

    def predict(samples: SampleSet, slates: Int64Array) -> Float32Array:
        found = fallback(samples, slates)
        inputs = tree_inputs(samples, samples.rows_of(slates))
        for head, (booster, platt) in heads.items():
            if len(inputs):
                found[:, head] = platt(booster.predict(inputs, raw_score=True, num_threads=1))
        return found

    return predict


def tree_inputs(samples: SampleSet, rows: Int64Array) -> Float32Array:
    """Return what trees read of some rows, shape (n, n_dense + n_actions): dense fields, log odds of the counters.

    Rates of continuous heads are taken as they are.
    """
    rates: Float64Array = np.array(samples.baseline[rows], dtype=np.float64)
    discrete = [head for head in range(rates.shape[1]) if head not in CONTINUOUS]
    rates[:, discrete] = logit(rates[:, discrete])
    return np.concatenate([samples.dense[rows], rates], axis=1).astype(np.float32)


def _grown(
    inputs: Float32Array,
    labels: Any,
    weights: Float32Array,
    held_out: tuple[Float32Array, Any, Float32Array],
    config: TreesConfig,
) -> Any:
    lightgbm = library("lightgbm")
    params = {
        "objective": "binary",
        "num_leaves": config.n_leaves,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(inputs, label=labels.astype(np.float32), weight=weights, params=params)
    if not len(held_out[0]):
        return lightgbm.train(params, data, num_boost_round=config.max_trees)
    valid = lightgbm.Dataset(
        held_out[0], label=held_out[1].astype(np.float32), weight=held_out[2], reference=data, params=params
    )
    stop = lightgbm.early_stopping(config.patience, verbose=False)
    return lightgbm.train(params, data, num_boost_round=config.max_trees, valid_sets=[valid], callbacks=[stop])
