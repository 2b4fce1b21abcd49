"""`RankerModel`: a served ranker whole: tables, assembler, runner."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from millrace.base.errors import SchemaError
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import Assembler, TokensOf
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.runner import RankRunner, WholeRunner
from millrace.inference.tables import EmbeddingTables, Float32Array


class RankerModel:
    """Predicts every action of one viewer's candidates.

    Parameters
    ----------
    runner
        Runs the graphs.
    tables
        The embedding tables.
    """

    def __init__(self, runner: RankRunner, tables: EmbeddingTables) -> None:
        self.config = runner.config
        self._runner = runner
        self._whole = runner if isinstance(runner, WholeRunner) else None
        self._assembler = Assembler(runner.config, tables)

    @classmethod
    def open(cls, folder: Path, schema: str, runner: RankRunner | None = None) -> Self:
        """Return the model of an exported folder, in ONNX Runtime.

        Parameters
        ----------
        folder
            Written by `millrace.models.export.export_ranker` and `export_tables`.
        schema
            The hash of the features that are encoded here (`millrace.features.encoding.candidates.schema_hash`).
        runner
            Runs the folder's graphs elsewhere (`millrace.inference.grpc_runner.GrpcRunner`); None: here.

        Raises
        ------
        SchemaError
            If the model reads other features.
        ConfigError
            If a file is missing or damaged.
        """
        runner = runner or OnnxRunner.open(folder)
        if runner.config.schema != schema:
            raise SchemaError(
                "ranker",
                value=runner.config.schema,
                problem=f"reads other features than this version's {schema}",
                remedy="train it anew: millrace train ranker",
            )
        return cls(runner, EmbeddingTables.open(folder, runner.config.trunk.tables))

    def predict(self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf) -> Float32Array:
        """Return P(action), seconds for the continuous one, shape (n, n_actions)."""
        if not candidates.n:
            return np.zeros((0, len(self.config.actions)), dtype=np.float32)
        viewers = self._assembler.viewer(viewer, tokens_of)
        rows = self._assembler.candidates(candidates, tokens_of)
        if self._whole is not None:
            whole: Float32Array = self._whole.predict(viewers, rows)[0]
            return whole
        predictions: Float32Array = self._runner.score(rows, self._runner.encode(viewers))[0]
        return predictions

    def close(self) -> None:
        """Give back what the runner holds."""
        self._runner.close()
