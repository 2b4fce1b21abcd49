"""A small ranker, exported once; a registry whose models are followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.testing.live_house import LiveHouse
from millrace.testing.rank_runner_contract import small_config


@pytest.fixture(scope="session")
def ranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")
    from millrace.models.export import export_ranker
    from millrace.models.ranker import Ranker

    torch.manual_seed(5)
    ranker = Ranker(small_config())
    with torch.no_grad():
        for name, value in ranker.named_parameters():
            if "norm" in name:
                value.mul_(1.0 + 0.5 * torch.rand_like(value))
    folder = tmp_path_factory.mktemp("ranker")
    export_ranker(ranker, folder)
    return folder


@pytest.fixture
def house(tmp_path: Path) -> Iterator[LiveHouse]:
    house = LiveHouse(tmp_path)
    yield house
    house.live.close()
    assert all(bundle.n_closed == 1 for bundle in house.loaded)  # each, and once
