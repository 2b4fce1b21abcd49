"""Products in bfloat16 on a GPU, nothing on a CPU; networks bear the lower precision, gradients included."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from millrace.features.follow_edges import FollowEdges
from millrace.flywheel.follow_batches import FollowBatches
from millrace.flywheel.mixed_precision import mixed_precision, product_type
from millrace.flywheel.pre_ranker_batches import assembled, read_as
from millrace.flywheel.ranker_batches import ranker_batch
from millrace.flywheel.train_social import on_device
from millrace.models.config import PreRankerConfig, TableConfig
from millrace.models.pre_ranker import PreRanker
from millrace.models.social import SocialConfig, SocialEncoder, follow_loss
from millrace.testing.sample_builders import planted_samples


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_a_gpu_products_are_of_bfloat16(device: str) -> None:
    assert product_type(device) is torch.bfloat16


def test_on_a_cpu_nothing_changes() -> None:
    assert product_type("cpu") is None
    context = mixed_precision("cpu")
    assert isinstance(context, nullcontext)
    factors = torch.linspace(0.1, 0.9, 64).reshape(8, 8)
    with context:
        assert not torch.is_autocast_enabled("cpu")
        assert (factors @ factors).dtype is torch.float32


def low_precision() -> torch.autocast:
    """Return what a GPU would compute within, on this machine."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_the_pre_ranker_bears_it() -> None:
    samples = planted_samples(20)
    config = PreRankerConfig(
        d=8,
        n_hidden=16,
        n_interests=2,
        max_history=8,
        tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16),
        actions=samples.meta.actions,
        n_dense=samples.dense.shape[1],
        n_profile_dense=samples.profile_dense.shape[1],
        schema=samples.meta.schema,
    )
    torch.manual_seed(1)
    model = PreRanker(config)
    batch = ranker_batch(samples, np.arange(20), read_as(config))

    def logits() -> torch.Tensor:
        profile, history, mask, candidates = assembled(batch, model)
        return model.logits(candidates, *model.encode(profile, history, mask))

    exact = logits()
    with low_precision():
        found = logits()
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)
    found.float().square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is None or bool(torch.isfinite(value.grad.to_dense()).all()) for value in model.parameters())


def test_the_social_encoder_bears_it() -> None:
    rng = np.random.default_rng(3)
    graph = FollowEdges.of(rng.integers(1, 60, 400), rng.integers(1, 60, 400))
    config = SocialConfig(dim=8, hidden=16, n_signature=64, fanouts=(4, 3), seed=2)
    encoder = SocialEncoder(config)
    batch = FollowBatches(graph, config.fanouts, 32, 16, seed=2).draw(0)
    inputs = torch.randn(len(batch.sample.users), config.shape.n_inputs, generator=torch.Generator().manual_seed(1))
    blocks = [on_device(block, "cpu") for block in batch.sample.blocks]

    def scores() -> torch.Tensor:
        vectors = encoder(inputs, blocks)
        return encoder.follow_scores(
            vectors[torch.from_numpy(batch.followers)], vectors[torch.from_numpy(batch.candidates)]
        )

    exact = scores()
    with low_precision():
        found = scores()
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.1)
    loss = follow_loss(
        found.float(),
        torch.from_numpy(batch.positives),
        torch.from_numpy(batch.log_frequencies),
        torch.from_numpy(batch.is_left_out),
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None and bool(torch.isfinite(value.grad).all()) for value in encoder.parameters())
