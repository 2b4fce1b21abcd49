"""Which runner runs a ranker, and in which precision: the choice of ``[home] runner`` and ``millrace rank-server``.

Each is imported when it is opened, not before: what serves by ONNX Runtime needs no torch. bf16 is torch's alone, for
ONNX Runtime has no such products on processors.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.inference.runner import RankRunner

RunnerName = Literal["onnx", "torch", "numpy"]

Precision = Literal["fp32", "int8", "bf16"]

PRECISIONS: Final[dict[RunnerName, tuple[Precision, ...]]] = {
    "onnx": ("fp32", "int8"),
    "torch": ("fp32", "bf16"),
    "numpy": ("fp32",),
}
"""What each runner can multiply in."""

logger = logging.getLogger(__name__)


def check_precision(runner: RunnerName, precision: Precision) -> None:
    """Raise `ConfigError` unless a runner can multiply in a precision."""
    if precision in PRECISIONS[runner]:
        return
    able = ", ".join(name for name, precisions in PRECISIONS.items() if precision in precisions)
    raise ConfigError(
        "precision",
        value=precision,
        problem=f"is none of the {runner} runner, which has {', '.join(PRECISIONS[runner])}",
        remedy=f"choose the runner {able}, or another precision",
    )


def check_runner(runner: RunnerName, precision: Precision) -> None:
    """Raise `ConfigError` unless a runner can run here, in a precision."""
    check_precision(runner, precision)
    if runner == "torch" and importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "runner",
            value="torch",
            problem="torch is not installed",
            remedy="install it: pip install -e '.[train]' from the checkout; or choose the runner onnx",
        )


def open_runner(folder: Path, runner: RunnerName = "onnx", precision: Precision = "fp32") -> RankRunner:
    """Return the runner of an exported ranker.

    Parameters
    ----------
    folder
        Of the export.
    runner
        Which. The torch one takes a GPU where there is one.
    precision
        What is wanted; float32 where the model was not let through (`millrace.inference.precision`).

    Raises
    ------
    ConfigError
        If a file is missing or damaged, torch is not installed, or the runner has no such precision.
    """
    from millrace.inference.precision import served_precision

    check_runner(runner, precision)
    if runner == "torch":
        from millrace.inference.torch_runner import TorchRunner, serving_device

        served = served_precision(folder, precision, serving_device())
        opened = TorchRunner.serving(folder, "bf16" if served == "bf16" else "fp32")
        logger.info("the ranker in %s runs in torch, in %s on %s", folder, served, opened.device)
        return opened
    if runner == "numpy":
        from millrace.inference.numpy_runner import NumpyRunner

        return NumpyRunner.open(folder)
    from millrace.inference.onnx_runner import OnnxRunner

    return OnnxRunner.open(folder, "int8" if served_precision(folder, precision) == "int8" else "fp32")
