"""Exports: what is served is what was trained, within 1e-5, whatever the learned scales are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

import msgspec
import onnxruntime
import torch

from millrace.inference.onnx_runner import score_inputs
from millrace.inference.runner import EncodedViewers
from millrace.models.config import RankerConfig
from millrace.models.export import export_ranker, served_weights
from millrace.models.ranker import Ranker
from millrace.models.ranker_graphs import MAX_LOGIT
from millrace.models.trunk import padding_mask
from millrace.testing.rank_runner_contract import small_config, some_candidates, some_viewers


def a_ranker(scale: float) -> Ranker:
    torch.manual_seed(2)
    ranker = Ranker(small_config()).eval()
    with torch.no_grad():
        for name, value in ranker.named_parameters():
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                value.mul_(scale * (0.7 + 0.6 * torch.rand_like(value)))
    return ranker


def test_the_larger_scale_takes_the_form_without_a_bound() -> None:
    weights = served_weights(a_ranker(5.0))
    scales = [weights[f"trunk.blocks.{i}.q_norm.weight"] * weights[f"trunk.blocks.{i}.k_norm.weight"] for i in (0, 1)]
    assert min(scale.max() for scale in scales) * 8**0.5 > MAX_LOGIT
    weights = served_weights(a_ranker(1.0))
    assert (
        weights["trunk.blocks.0.q_norm.weight"] * weights["trunk.blocks.0.k_norm.weight"]
    ).max() * 8**0.5 < MAX_LOGIT


@pytest.mark.parametrize("scale", [1.0, 5.0], ids=["bounded logits", "logits without a bound"])
@torch.inference_mode()
def test_both_graphs_compute_what_torch_does(tmp_path: Path, scale: float) -> None:
    ranker = a_ranker(scale)
    export_ranker(ranker, tmp_path)
    viewers = some_viewers(ranker.config, 3)
    viewers.mask[2, 1:5] = False
    candidates = some_candidates(ranker.config, 3)
    mask = padding_mask(torch.from_numpy(viewers.mask))
    encoded = ranker.encode(torch.from_numpy(viewers.profile), torch.from_numpy(viewers.history), mask)
    expected = ranker.score(torch.from_numpy(candidates), encoded).numpy()
    encode, score = (
        onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        for name in ("encode_user.onnx", "score.onnx")
    )
    keys, values, mask = encode.run(
        None, {"profile": viewers.profile, "history": viewers.history, "is_token": viewers.mask}
    )
    np.testing.assert_allclose(keys, encoded.keys.numpy(), rtol=1e-5, atol=1e-5)
    is_token = viewers.mask[:, None, None, :, None]
    np.testing.assert_allclose(values[..., :-1], encoded.values.numpy() * is_token, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(values[..., -1:], np.broadcast_to(is_token, values[..., -1:].shape))
    wanted = [each.name for each in score.get_inputs()]
    (scores,) = score.run(None, score_inputs(wanted, candidates, EncodedViewers(keys, values, mask)))
    assert wanted[:5] == ["candidates", "keys.0", "values.0", "keys.1", "values.1"]
    assert wanted[5:] == (["mask"] if scale > 1.0 else [])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_the_config_comes_back_and_training_parts_stay_away(tmp_path: Path) -> None:
    ranker = a_ranker(1.0)
    export_ranker(ranker, tmp_path)
    assert msgspec.json.decode((tmp_path / "ranker.json").read_bytes(), type=RankerConfig) == ranker.config
    with np.load(tmp_path / "weights.npz") as weights:
        assert set(weights) == set(served_weights(ranker))
        assert "position_bias.weight" not in weights
