"""Which precision a served ranker runs in: what the config wants, if the gate let it through.

`millrace.flywheel.quantisation_gate` writes its verdicts beside the graphs, one a precision. Without one nothing but
float32 is served.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from millrace.base.errors import ConfigError
from millrace.inference.runner_choice import Precision

Judged = Literal["int8", "bf16"]
"""What serves only where it was let through."""

VERDICT_FILES: Final[dict[Judged, str]] = {"int8": "quantisation.json", "bf16": "quantisation_bf16.json"}

BYTES_FILE: Final = "score_int8.onnx"
"""The score graph with products of bytes; bf16 needs no file of its own."""

logger = logging.getLogger(__name__)


class HeadLosses(Struct, frozen=True, kw_only=True):
    """What one head loses in a lower precision; None where there are too few positives to tell.

    Attributes
    ----------
    n_positive
        Among the held-out rows.
    auc_lost
        Area under the ROC curve in float32, less that in the lower precision.
    entropy_gained
        Normalised entropy in the lower precision over that in float32, less 1.
    calibration_moved
        Sum of predictions in the lower precision over that in float32, less 1, without its sign.
    """

    n_positive: int
    auc_lost: float | None = None
    entropy_gained: float | None = None
    calibration_moved: float | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a model may be served in a lower precision, and the figures.

    Attributes
    ----------
    is_accepted
        Whether it may.
    reasons
        Why not: which head lost more of what than the bound.
    n_rows
        Held-out rows.
    largest_change
        The most that a probability of any head changed.
    heads
        By name.
    device
        Kind of the device that it was judged on, such as ``"cpu"``; empty: not told (an older verdict).
    """

    is_accepted: bool
    reasons: tuple[str, ...]
    n_rows: int
    largest_change: float
    heads: dict[str, HeadLosses]
    device: str = ""


def read_verdict(folder: Path, precision: Judged) -> Verdict | None:
    """Return the verdict on an exported ranker in a precision, or None where nobody has judged.

    Raises
    ------
    ConfigError
        If the file is damaged.
    """
    path = folder / VERDICT_FILES[precision]
    try:
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"verdict on {precision}",
            value=str(path),
            problem=str(error),
            remedy="train the ranker again, or remove it",
        ) from error


def served_precision(folder: Path, wanted: Precision, device: str = "cpu") -> Precision:
    """Return the precision to serve a ranker in: float32 where another is wanted and was not let through.

    Parameters
    ----------
    folder
        Of the export.
    wanted
        By the config.
    device
        Kind of the device that serves. What was judged in bf16 on another kind was not judged on this one: kernels
        differ in what they round, and where.
    """
    served, reason = let_through(folder, wanted, device)
    if reason:
        logger.warning("the ranker in %s is served in fp32 instead of %s: %s", folder, wanted, reason)
    return served


def let_through(folder: Path, wanted: Precision, device: str = "cpu") -> tuple[Precision, str]:
    """Return what `served_precision` does, and why it is not the one that is wanted; empty if it is."""
    if wanted == "fp32":
        return "fp32", ""
    reason = _reason_against(folder, wanted, device)
    return (wanted, "") if reason is None else ("fp32", reason)


def _reason_against(folder: Path, wanted: Judged, device: str) -> str | None:
    verdict = read_verdict(folder, wanted)
    if verdict is None:
        return f"it was never judged in {wanted}"
    if not verdict.is_accepted:
        return "; ".join(verdict.reasons)
    if wanted == "bf16" and verdict.device != device:
        on = f"on {verdict.device}" if verdict.device else "on a device that was not written down"
        return f"it was judged in bf16 {on}, and serves on {device}; train it where it serves"
    if wanted == "int8" and not (folder / BYTES_FILE).is_file():
        return "its graph is gone"
    return None
