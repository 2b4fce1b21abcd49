"""The counters' part beside the network's: log-odds add up, and calibration finds how much of each helps."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from millrace.models.blending import blended, log_odds
from millrace.models.config import RankerConfig
from millrace.models.learned_ranker import (
    calibrate,
    fitted_scales,
    known_scales,
    scaled,
    uncalibrate,
    with_scales,
)


def test_log_odds_add_up_head_by_head() -> None:
    network = np.array([[0.5, 0.2], [0.9, 0.5]], dtype=np.float32)
    counters = np.array([[0.9, 0.9], [0.5, 0.1]], dtype=np.float32)
    found = blended(network, counters, (1.0, 0.0))
    assert found[:, 0].tolist() == pytest.approx([0.9, 0.9])
    assert found[:, 1].tolist() == network[:, 1].tolist()


def test_a_network_that_speaks_alone_is_left_as_it_is() -> None:
    network = np.array([[0.5]], dtype=np.float32)
    assert blended(network, network, ()) is network
    assert blended(network, network, (0.0,)) is network


def test_certainty_stays_finite() -> None:
    assert np.isfinite(log_odds(np.array([0.0, 1.0], dtype=np.float32))).all()


def test_calibration_finds_what_each_knows() -> None:
    generator = torch.Generator().manual_seed(1)
    network, counters = torch.randn(20_000, 2, generator=generator), torch.randn(20_000, 2, generator=generator)
    # The truth of the first head is half of the network and all of the counters; the second one is seconds.
    odds = 0.5 * network[:, 0] + counters[:, 0] - 1.0
    labels = torch.stack(
        [
            (torch.rand(20_000, generator=generator) < torch.sigmoid(odds)).float(),
            nn.functional.softplus(network[:, 1]),
        ],
        dim=1,
    )
    ranker = SimpleNamespace(head=nn.Linear(3, 2), continuous=1)
    fitted = calibrate(ranker, network, labels, torch.ones(20_000), counters)
    assert fitted[0].tolist() == pytest.approx([0.5, -1.0, 1.0], abs=0.06)
    assert fitted[1].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=0.02)


def test_what_was_built_in_is_taken_out_again_and_is_what_the_next_fit_is_drawn_to() -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(400, 3, generator=generator)
    ranker = SimpleNamespace(head=nn.Linear(3, 2), continuous=1)
    logits = ranker.head(inputs).detach()
    labels, weights = (torch.rand(400, 2, generator=generator) < 0.3).float(), torch.ones(400)
    config = RankerConfig(actions=("like", "dwell_time"))
    assert known_scales(config).tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    fitted = calibrate(ranker, logits, labels, weights, torch.randn(400, 2, generator=generator))
    config = with_scales(config, fitted)
    assert torch.equal(known_scales(config), fitted)
    assert uncalibrate(ranker, config) == config
    assert torch.allclose(ranker.head(inputs).detach(), logits, atol=1e-5)
    nothing = torch.zeros(0, 2)
    assert torch.equal(fitted_scales(nothing, nothing, torch.zeros(0), 1, nothing, fitted), fitted)


@pytest.mark.parametrize("n_done", [2, 4, 8])
def test_a_head_with_a_handful_of_positives_far_below_its_rate_is_not_turned_upside_down(n_done: int) -> None:
    generator = torch.Generator().manual_seed(5)
    network = 0.12 * torch.randn(13_000, 2, generator=generator) - 10.0
    counters = 1.8 * torch.randn(13_000, 2, generator=generator) - 11.6
    labels = torch.zeros(13_000, 2)
    labels[:n_done, 0] = 1.0
    known = torch.tensor([[1.19, -0.26, 0.14], [1.0, 0.0, 0.0]])
    fitted = fitted_scales(network, labels, torch.ones(13_000), 1, counters, known)
    slope, shift, share = fitted[0].tolist()
    assert 0.5 < slope < 1.5
    n_expected = float(torch.sigmoid(slope * network[:, 0] + shift + share * counters[:, 0]).sum())
    assert 0.1 * n_done < n_expected < 1.1 * n_done


def test_a_head_that_was_turned_upside_down_stays_as_it_is() -> None:
    ranker = SimpleNamespace(head=nn.Linear(3, 2), continuous=1)
    before = ranker.head.weight.detach().clone()
    config = RankerConfig(actions=("like", "dwell_time"), scales=((-0.5, 0.3), (2.0, 1.0)), counters=(0.7, 0.0))
    left = uncalibrate(ranker, config)
    assert left.scales == ((1.0, 0.0), (2.0, 1.0))
    assert left.counters == config.counters
    assert torch.allclose(ranker.head.weight.detach(), before / torch.tensor([[1.0], [2.0]]))


def test_what_calibration_would_build_in_is_told_without_building_it_in() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs, counters = torch.randn(500, 3, generator=generator), torch.randn(500, 2, generator=generator)
    labels, weights = (torch.rand(500, 2, generator=generator) < 0.2).float(), torch.ones(500)
    ranker = SimpleNamespace(head=nn.Linear(3, 2), continuous=1)
    logits = ranker.head(inputs).detach()
    told = scaled(logits, fitted_scales(logits, labels, weights, 1, counters), 1, counters)
    assert torch.equal(ranker.head(inputs).detach(), logits)
    fitted = calibrate(ranker, logits, labels, weights, counters)
    besides = torch.stack([counters[:, 0] * fitted[0, 2], torch.zeros(500)], dim=1)
    assert torch.allclose(told, (ranker.head(inputs).detach() + besides).float(), atol=1e-5)
