"""Every runner, held against the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.errors import ConfigError
from millrace.inference.numpy_runner import NumpyRunner
from millrace.inference.onnx_runner import OnnxRunner
from millrace.testing.rank_runner_contract import RankRunnerContract


class TestNumpyRunner(RankRunnerContract):
    @pytest.fixture
    def runner(self, ranker_folder: Path) -> NumpyRunner:
        return NumpyRunner.open(ranker_folder)


class TestOnnxRunner(RankRunnerContract):
    @pytest.fixture
    def runner(self, ranker_folder: Path) -> OnnxRunner:
        return OnnxRunner.open(ranker_folder)


class TestTorchRunner(RankRunnerContract):
    @pytest.fixture
    def runner(self, ranker_folder: Path) -> object:
        from millrace.inference.torch_runner import TorchRunner

        return TorchRunner.open(ranker_folder)


class TestTorchRunnerInBf16(RankRunnerContract):
    """Eight bits of mantissa: products differ by up to one part in 256, and with them scores by some hundredths."""

    tolerance = 0.02
    encoding_tolerance = 0.1
    padding_tolerance = 0.01

    @pytest.fixture
    def runner(self, ranker_folder: Path) -> object:
        from millrace.inference.torch_runner import TorchRunner

        return TorchRunner.serving(ranker_folder, "bf16")


def test_a_missing_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ranker config .*ranker.json.*export the ranker again"):
        OnnxRunner.open(tmp_path)
