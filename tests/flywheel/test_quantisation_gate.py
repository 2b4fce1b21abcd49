"""8 bits: let through where next to nothing is lost, refused with the figures elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

import torch

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import ConfigError
from millrace.flywheel.quantisation_gate import QuantisationBounds, judge, quantise
from millrace.flywheel.sample_set import SampleSet
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.precision import read_verdict, served_precision
from millrace.inference.runner import Viewers
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig
from millrace.models.export import export_ranker
from millrace.models.learned_ranker import LearnedRanker
from millrace.testing.rank_runner_contract import some_candidates, some_viewers
from millrace.testing.sample_builders import planted_samples

TRUNK = TrunkConfig(
    d=32, n_layers=2, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
ACTIONS = ActionSpace().names
LOOSE = QuantisationBounds(
    max_auc_lost=0.05, max_entropy_gained=0.05, max_calibration_moved=0.05, min_positives=20, n_calibration_slates=16
)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(60)


@pytest.fixture(scope="module")
def model(samples: SampleSet) -> LearnedRanker:
    torch.manual_seed(1)
    config = RankerConfig(trunk=TRUNK, actions=samples.meta.actions, n_dense=samples.dense.shape[1])
    return LearnedRanker(config).eval()


@pytest.fixture
def folder(model: LearnedRanker, tmp_path: Path) -> Path:
    export_ranker(model.ranker, tmp_path)
    return tmp_path


def predictions(n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and calibrated predictions of every head."""
    rng = np.random.default_rng(1)
    probs = rng.uniform(0.05, 0.6, (n, len(ACTIONS))).astype(np.float32)
    return (rng.random(probs.shape) < probs).astype(np.float32), probs


def test_a_model_that_loses_nothing_serves_in_bytes(samples: SampleSet, model: LearnedRanker, folder: Path) -> None:
    verdict = quantise(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)
    assert verdict.is_accepted, verdict.reasons
    assert 0 < verdict.largest_change < 0.05
    assert read_verdict(folder) == verdict
    assert served_precision(folder, "int8") == "int8"
    assert served_precision(folder, "fp32") == "fp32"
    assert not (folder / "tapped.onnx").exists()


def test_a_model_that_loses_too_much_is_refused_with_the_figures(
    samples: SampleSet, model: LearnedRanker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strict = QuantisationBounds(max_calibration_moved=0.0, min_positives=20)
    verdict = quantise(model, samples, np.arange(30), np.arange(30, 60), folder, strict)
    assert not verdict.is_accepted
    assert any("calibration_moved" in reason for reason in verdict.reasons)
    assert not (folder / "score_int8.onnx").exists()
    with caplog.at_level(logging.WARNING):
        assert served_precision(folder, "int8") == "fp32"
    assert "calibration_moved" in caplog.text


def test_no_row_of_a_batch_changes_another_to_the_bit(samples: SampleSet, model: LearnedRanker, folder: Path) -> None:
    quantise(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)
    runner = OnnxRunner.open(folder, "int8")
    mine, other = some_viewers(runner.config, 1, 8), some_viewers(runner.config, 1, 8, seed=8)
    both = Viewers(*(np.concatenate(pair) for pair in zip(mine, other, strict=True)))
    candidates, encoded = some_candidates(runner.config, 1, 9), runner.encode(both)
    alone = runner.score(candidates, encoded.take(0))
    together = runner.score(np.concatenate([candidates, 90.0 * candidates]), encoded)
    np.testing.assert_allclose(together[:1], alone, rtol=0, atol=1e-6)
    order = np.random.default_rng(3).permutation(9)
    np.testing.assert_allclose(runner.score(candidates[:, order], encoded.take(0)), alone[:, order], rtol=0, atol=1e-6)
    np.testing.assert_allclose(runner.score(candidates[:, 4:5], encoded.take(0)), alone[:, 4:5], rtol=0, atol=1e-6)


def test_equal_predictions_pass() -> None:
    labels, probs = predictions()
    verdict = judge(ACTIONS, labels, probs, probs, QuantisationBounds(max_auc_lost=0.0, max_entropy_gained=0.0))
    assert verdict.is_accepted
    assert verdict.largest_change == 0.0
    assert verdict.heads["like"].auc_lost == 0.0
    assert verdict.heads["dwell_time"].auc_lost is None


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        (lambda p: np.random.default_rng(2).permutation(p), "auc_lost"),
        (lambda p: np.clip(0.3 + 1.5 * (p - 0.3), 0.01, 0.99), "entropy_gained"),
        (lambda p: 1.05 * p, "calibration_moved"),
        (lambda p: np.full_like(p, np.nan), "not finite"),
    ],
)
def test_a_head_that_got_worse_is_named(change: object, figure: str) -> None:
    labels, probs = predictions()
    after = probs.copy()
    after[:, Action.LIKE] = change(probs[:, Action.LIKE])  # type: ignore[operator]
    verdict = judge(ACTIONS, labels, probs, after, QuantisationBounds())
    assert not verdict.is_accepted
    assert any(figure in reason and ("like" in reason or "finite" in figure) for reason in verdict.reasons)
    assert not any(reason.startswith("reply") for reason in verdict.reasons)


def test_a_head_with_few_positives_has_no_say_and_none_at_all_is_no_proof() -> None:
    labels, probs = predictions(100)
    verdict = judge(ACTIONS, labels, probs, probs * np.float32(0.5), QuantisationBounds(min_positives=90))
    assert not verdict.is_accepted
    assert verdict.reasons == ("no head has 90 positives to judge by",)
    assert verdict.heads["like"].auc_lost is None


def test_without_a_verdict_nothing_but_float32_serves(folder: Path) -> None:
    assert served_precision(folder, "int8") == "fp32"


def test_a_damaged_verdict_is_named(folder: Path) -> None:
    (folder / "quantisation.json").write_text("{")
    with pytest.raises(ConfigError, match=r"quantisation\.json"):
        served_precision(folder, "int8")
