"""`OnnxRunner`: the ranker in ONNX Runtime, on one thread; what serves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import onnxruntime
from onnxruntime import InferenceSession

from millrace.base.errors import ConfigError
from millrace.inference.numpy_runner import load_config
from millrace.inference.precision import BYTES_FILE
from millrace.inference.runner import EncodedViewers, Float32Array, Viewers, check_candidates, check_viewers
from millrace.models.config import RankerConfig

OnnxPrecision = Literal["fp32", "int8"]

ENCODE_FILE: Final = "encode_user.onnx"
SCORE_FILES: Final[dict[OnnxPrecision, str]] = {"fp32": "score.onnx", "int8": BYTES_FILE}


def open_session(path: Path) -> InferenceSession:
    """Return a session on one thread that does not spin.

    Raises
    ------
    ConfigError
        If the file is missing or ONNX Runtime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base of their own
        raise ConfigError("model file", value=str(path), problem=str(error), remedy="export it again") from error


def score_inputs(names: Iterable[str], candidates: Float32Array, encoded: EncodedViewers) -> dict[str, Float32Array]:
    """Return what a score graph reads, by the names of its inputs.

    Parameters
    ----------
    names
        ``candidates``, ``mask``, and ``keys.0``, ``values.0`` and so on, layer by layer; ``keys`` and ``values`` of all
        layers were read by graphs of older versions.
    candidates, encoded
        As of `RankRunner.score`.
    """
    given: dict[str, Float32Array] = {"candidates": candidates, **encoded._asdict()}
    for name in names:
        whole, _, layer = name.partition(".")
        if layer:
            given[name] = np.ascontiguousarray(given[whole][:, int(layer)])  # of one viewer, it is already
    return {name: given[name] for name in names}


class OnnxRunner:
    """Runs a ranker's two graphs; one a worker.

    Parameters
    ----------
    config
        Of the ranker.
    encode_session, score_session
        The graphs.
    """

    def __init__(self, config: RankerConfig, encode_session: InferenceSession, score_session: InferenceSession) -> None:
        self.config = config
        self._encode = encode_session
        self._score = score_session
        self._reads = tuple(given.name for given in score_session.get_inputs())

    @classmethod
    def open(cls, folder: Path, precision: OnnxPrecision = "fp32") -> Self:
        """Return the runner of an exported ranker, from the folder of `millrace.models.export.export_ranker`.

        Parameters
        ----------
        folder
            Of the export.
        precision
            Of the products of candidates; viewers are encoded in float32 always.

        Raises
        ------
        ConfigError
            If a file is missing, damaged, or of another form.
        """
        path = folder / SCORE_FILES[precision]
        config, score = load_config(folder), open_session(path)
        width = score.get_inputs()[0].shape[-1]
        if width != config.scored_width:
            raise ConfigError(
                "model file",
                value=str(path),
                problem=f"reads {width} floats of a candidate, not {config.scored_width}",
                remedy="export it again: an older version wrote it",
            )
        return cls(config, open_session(folder / ENCODE_FILE), score)

    def encode(self, viewers: Viewers) -> EncodedViewers:
        """Encode viewers; see `RankRunner`."""
        check_viewers(self.config, viewers)
        inputs = {"profile": viewers.profile, "history": viewers.history, "is_token": viewers.mask}
        return EncodedViewers(*self._encode.run(None, inputs))

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        """Score candidates; see `RankRunner`."""
        check_candidates(self.config, candidates, encoded)
        inputs = score_inputs(self._reads, candidates, encoded)
        predictions: Float32Array = self._score.run(None, inputs)[0]
        return predictions

    def close(self) -> None:
        """Nothing to give back: sessions end with their last reference."""
