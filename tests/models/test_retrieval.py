"""The towers: what is served computes what torch does, and the loss is what is written about it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

import msgspec
import onnxruntime
import torch

from millrace.models.retrieval import LearnedRetrieval, sampled_softmax
from millrace.models.retrieval_config import COLD, IDS, PostPart, RetrievalConfig
from millrace.models.retrieval_export import export_retrieval
from millrace.models.trunk import padding_mask
from millrace.testing.small_towers import small_towers_config


def towers(reads: tuple[PostPart, ...] = COLD) -> LearnedRetrieval:
    torch.manual_seed(3)
    model = LearnedRetrieval(small_towers_config(reads)).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.mul_(1.0 + 0.5 * torch.rand_like(value))
            if "counts" in name:
                value.copy_(torch.randn_like(value))
    return model


def some_viewers(config: RetrievalConfig, n: int = 3, n_history: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    inputs = config.inputs
    profile = rng.standard_normal((n, inputs.profile_width)).astype(np.float32)
    history = rng.standard_normal((n, n_history, inputs.history_width)).astype(np.float32)
    return profile, history, np.ones((n, n_history + 1), dtype=np.bool_)


def in_torch(model: LearnedRetrieval, profile: np.ndarray, history: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        vectors = model.encode_viewers(
            torch.from_numpy(profile), torch.from_numpy(history), padding_mask(torch.from_numpy(mask))
        )
    plain: np.ndarray = vectors.numpy()
    return plain


@pytest.mark.parametrize("reads", [COLD, IDS], ids=["cold", "ids"])
@pytest.mark.parametrize("n_history", [6, 1, 0])
def test_the_viewers_graph_computes_what_torch_does(
    tmp_path: Path, reads: tuple[PostPart, ...], n_history: int
) -> None:
    model = towers(reads)
    export_retrieval(model, tmp_path)
    profile, history, mask = some_viewers(model.config, n_history=n_history)
    mask[1, 1:4] = False
    session = onnxruntime.InferenceSession(tmp_path / "encode_viewer.onnx", providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {"profile": profile, "history": history, "is_token": mask})
    np.testing.assert_allclose(vectors, in_torch(model, profile, history, mask), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.square(vectors).sum(axis=1), 1.0, rtol=1e-5)


def test_padding_changes_no_viewer() -> None:
    model = towers()
    profile, history, mask = some_viewers(model.config)
    noise = np.full((3, 2, history.shape[2]), 5.0, dtype=np.float32)
    padded = np.concatenate([noise, history], axis=1)
    longer = np.concatenate([mask[:, :1], np.zeros((3, 2), dtype=np.bool_), mask[:, 1:]], axis=1)
    difference = in_torch(model, profile, padded, longer) - in_torch(model, profile, history, mask)
    assert np.abs(difference).max() < 1e-6


def test_what_is_not_read_moves_nothing() -> None:
    width, n_text = small_towers_config().trunk.tables.width, small_towers_config().trunk.text_width
    text_of_token, text_of_post = (slice(n * width, n * width + n_text) for n in (4, 5))
    of_post, content = slice(width, 2 * width), slice(0, width)
    author = slice(2 * width, 3 * width)
    cases = (
        (COLD, of_post, of_post),
        (COLD, author, slice(0, 0)),
        (IDS, content, content),
        (IDS, text_of_token, text_of_post),
    )
    for reads, unread_of_token, unread_of_post in cases:
        model = towers(reads)
        profile, history, mask = some_viewers(model.config)
        posts = torch.randn(4, model.config.post_width)
        before = in_torch(model, profile, history, mask), model.posts(posts).detach()
        history[:, :, unread_of_token] += 9.0
        posts[:, unread_of_post] += 9.0
        assert np.array_equal(in_torch(model, profile, history, mask), before[0])
        assert torch.equal(model.posts(posts), before[1])


def test_a_viewer_begins_as_the_mean_of_what_they_liked() -> None:
    torch.manual_seed(3)
    model = LearnedRetrieval(small_towers_config()).eval()
    profile, history, mask = some_viewers(model.config)
    with torch.no_grad():
        model.viewers.head.weight.zero_()
        liked = model.posts.of_history(torch.from_numpy(history))
    mask[0, 1:3] = False
    mean = torch.stack([liked[0, 2:].mean(dim=0), *liked[1:].mean(dim=1)])
    expected = torch.nn.functional.normalize(mean, dim=-1).numpy()
    np.testing.assert_allclose(in_torch(model, profile, history, mask), expected, rtol=0, atol=1e-6)


def test_a_post_in_a_history_is_the_post_without_author_language_and_traits() -> None:
    model = towers()
    width, n_text = model.config.trunk.tables.width, model.config.trunk.text_width
    _, history, _ = some_viewers(model.config, n=1)
    posts = torch.zeros(history.shape[1], model.config.post_width)
    posts[:, : 4 * width] = torch.from_numpy(history[0, :, : 4 * width])
    posts[:, 2 * width : 3 * width] = 0.0
    posts[:, 5 * width : 5 * width + n_text] = torch.from_numpy(history[0, :, 4 * width : 4 * width + n_text])
    with torch.no_grad():
        difference = model.posts.of_history(torch.from_numpy(history))[0] - model.posts(posts)
    assert float(difference.abs().max()) < 1e-6


def test_the_config_is_written_beside_the_graph(tmp_path: Path) -> None:
    model = towers()
    export_retrieval(model, tmp_path)
    assert msgspec.json.decode((tmp_path / "retrieval.json").read_bytes(), type=RetrievalConfig) == model.config


def test_the_loss_is_a_softmax_over_what_is_not_masked() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.5], [0.0, 3.0, 1.0]])
    masked = torch.tensor([[False, True, False], [False, True, True]])  # its own post counts nevertheless
    loss = sampled_softmax(scores, torch.tensor([0, 1]), torch.zeros(3), masked, torch.tensor([1.0, 3.0]))
    first = math.log(1.0 + math.exp(0.5 - 2.0))
    second = math.log(1.0 + math.exp(0.0 - 3.0))
    assert float(loss) == pytest.approx((first + 3.0 * second) / 4.0, rel=1e-6)


def test_a_post_that_is_sampled_twice_as_often_weighs_half_as_much() -> None:
    scores, nothing = torch.tensor([[1.0, 0.2]]), torch.zeros(1, 2, dtype=torch.bool)
    log_q = torch.tensor([0.0, math.log(2.0)])
    loss = sampled_softmax(scores, torch.tensor([0]), log_q, nothing, torch.ones(1))
    assert float(loss) == pytest.approx(math.log(1.0 + 0.5 * math.exp(0.2 - 1.0)), rel=1e-6)
