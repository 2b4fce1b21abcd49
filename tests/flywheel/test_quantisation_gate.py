"""8 bits and bf16: let through where next to nothing is lost, refused with the figures elsewhere, each by itself."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

import torch

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import ConfigError
from millrace.flywheel.quantisation_gate import QuantisationBounds, judge, judge_precisions
from millrace.flywheel.sample_set import SampleSet
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.precision import VERDICT_FILES, Judged, read_verdict, served_precision
from millrace.inference.runner import Viewers
from millrace.inference.runner_choice import open_runner
from millrace.inference.torch_runner import TorchRunner
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
    verdicts = judge_precisions(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)
    assert sorted(verdicts) == ["bf16", "int8"]
    for precision, verdict in verdicts.items():
        assert verdict.is_accepted, verdict.reasons
        assert 0 < verdict.largest_change < 0.05
        assert read_verdict(folder, precision) == verdict
        assert served_precision(folder, precision) == precision
    assert verdicts["int8"].largest_change != verdicts["bf16"].largest_change
    assert served_precision(folder, "fp32") == "fp32"
    assert not (folder / "tapped.onnx").exists()


def test_a_model_that_loses_too_much_is_refused_with_the_figures(
    samples: SampleSet, model: LearnedRanker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strict = QuantisationBounds(max_calibration_moved=0.0, min_positives=20)
    for precision, verdict in judge_precisions(
        model, samples, np.arange(30), np.arange(30, 60), folder, strict
    ).items():
        assert not verdict.is_accepted
        assert any("calibration_moved" in reason for reason in verdict.reasons)
        assert not (folder / "score_int8.onnx").exists()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert served_precision(folder, precision) == "fp32"
        assert f"is served in fp32 instead of {precision}" in caplog.text
        assert "calibration_moved" in caplog.text


def test_one_precision_may_be_let_through_and_the_other_not(
    samples: SampleSet, model: LearnedRanker, folder: Path
) -> None:
    """A verdict speaks of its own precision; one that is gone, of none."""
    verdicts = judge_precisions(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)
    refused = msgspec.structs.replace(verdicts["bf16"], is_accepted=False, reasons=("like: auc_lost 0.1",))
    (folder / VERDICT_FILES["bf16"]).write_bytes(msgspec.json.encode(refused))
    assert [served_precision(folder, wanted) for wanted in VERDICT_FILES] == ["int8", "fp32"]
    (folder / VERDICT_FILES["int8"]).unlink()
    assert [served_precision(folder, wanted) for wanted in VERDICT_FILES] == ["fp32", "fp32"]


def test_bf16_serves_on_the_kind_of_device_alone_that_it_was_judged_on(
    samples: SampleSet, model: LearnedRanker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    verdict = judge_precisions(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)["bf16"]
    assert verdict.device == "cpu"
    path = folder / VERDICT_FILES["bf16"]
    judged_on = {"cpu": "cpu", "cuda": "cuda", "": "a device that was not written down"}
    for judged, told in judged_on.items():
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(verdict, device=judged)))
        for device in ("cpu", "cuda"):
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert served_precision(folder, "bf16", device) == ("bf16" if device == judged else "fp32")
            assert (f"was judged in bf16 on {told}, and serves on {device}" in caplog.text) == (device != judged)


def test_what_is_judged_as_bf16_is_what_serves_as_bf16(samples: SampleSet, model: LearnedRanker, folder: Path) -> None:
    judge_precisions(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)
    runner, exact = open_runner(folder, "torch", "bf16"), open_runner(folder)
    assert isinstance(runner, TorchRunner)
    candidates, viewers = some_candidates(runner.config, 1, 9), some_viewers(runner.config, 1, 8)
    lost = np.abs(runner.score(candidates, runner.encode(viewers)) - exact.score(candidates, exact.encode(viewers)))
    assert 1e-5 < lost.max() < 0.02
    (folder / VERDICT_FILES["bf16"]).unlink()
    plain = open_runner(folder, "torch", "bf16")  # refused: in float32
    lost = np.abs(plain.score(candidates, plain.encode(viewers)) - exact.score(candidates, exact.encode(viewers)))
    assert lost.max() < 1e-5


def test_no_row_of_a_batch_changes_another_to_the_bit(samples: SampleSet, model: LearnedRanker, folder: Path) -> None:
    judge_precisions(model, samples, np.arange(30), np.arange(30, 60), folder, LOOSE)
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
    crowd = np.concatenate([90.0 * some_candidates(runner.config, 1, 60, seed=5), candidates], axis=1)
    np.testing.assert_allclose(runner.score(crowd, encoded.take(0))[:, 60:], alone, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("wanted", VERDICT_FILES)
def test_without_a_verdict_nothing_but_float32_serves(
    folder: Path, wanted: Judged, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert served_precision(folder, wanted) == "fp32"
    assert f"it was never judged in {wanted}" in caplog.text


@pytest.mark.parametrize(("wanted", "name"), VERDICT_FILES.items())
def test_a_damaged_verdict_is_named(folder: Path, wanted: Judged, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(ConfigError, match=name):
        served_precision(folder, wanted)
