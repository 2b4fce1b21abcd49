"""Which precision a served ranker runs in: what the config wants, if the gate let it through.

`millrace.flywheel.quantisation_gate` writes its verdict beside the graphs. Without one nothing but float32 is served.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from millrace.base.errors import ConfigError
from millrace.inference.onnx_runner import SCORE_FILES, Precision

VERDICT_FILE: Final = "quantisation.json"

logger = logging.getLogger(__name__)


class HeadLosses(Struct, frozen=True, kw_only=True):
    """What one head loses in 8 bits; None where there are too few positives to tell.

    Attributes
    ----------
    n_positive
        Among the held-out rows.
    auc_lost
        Area under the ROC curve in float32, less that in 8 bits.
    entropy_gained
        Normalised entropy in 8 bits over that in float32, less 1.
    calibration_moved
        Sum of predictions in 8 bits over that in float32, less 1, without its sign.
    """

    n_positive: int
    auc_lost: float | None = None
    entropy_gained: float | None = None
    calibration_moved: float | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a model may be served in 8 bits, and the figures.

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
    """

    is_accepted: bool
    reasons: tuple[str, ...]
    n_rows: int
    largest_change: float
    heads: dict[str, HeadLosses]


def read_verdict(folder: Path) -> Verdict | None:
    """Return the verdict on an exported ranker, or None where nobody has judged.

    Raises
    ------
    ConfigError
        If the file is damaged.
    """
    path = folder / VERDICT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            "verdict on 8 bits", value=str(path), problem=str(error), remedy="train the ranker again, or remove it"
        ) from error


def served_precision(folder: Path, wanted: Precision) -> Precision:
    """Return the precision to serve a ranker in: float32 where 8 bits are wanted but were not let through."""
    if wanted == "fp32":
        return "fp32"
    verdict = read_verdict(folder)
    if verdict is not None and verdict.is_accepted and (folder / SCORE_FILES["int8"]).is_file():
        return "int8"
    reason = "it was never judged in 8 bits" if verdict is None else "; ".join(verdict.reasons) or "its graph is gone"
    logger.warning("the ranker in %s is served in fp32: %s", folder, reason)
    return "fp32"
