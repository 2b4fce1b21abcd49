"""`RankerModel`: a served ranker whole: tables, assembler, runner."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from millrace.base.errors import SchemaError
from millrace.content.semantic_ids import Codebooks
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import Assembler, TokensOf
from millrace.inference.model_vectors import own_codebooks
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.runner import RankRunner
from millrace.inference.tables import EmbeddingTables, Float32Array


class RankerModel:
    """Predicts every action of one viewer's candidates.

    Parameters
    ----------
    runner
        Runs the graphs.
    tables
        The embedding tables.
    codebooks
        Of the semantic ids that it reads; None where it reads none.
    folder
        Where it was opened from.
    """

    def __init__(
        self, runner: RankRunner, tables: EmbeddingTables, codebooks: Codebooks | None = None, folder: Path = Path()
    ) -> None:
        self.folder = folder
        self.config = runner.config
        self.codebooks = codebooks
        self._runner = runner
        self._assembler = Assembler(runner.config, tables)

    @classmethod
    def open(cls, folder: Path, schema: str) -> Self:
        """Return the model of an exported folder, in ONNX Runtime.

        Parameters
        ----------
        folder
            Written by `millrace.models.export.export_ranker` and `export_tables`.
        schema
            The hash of the features that are encoded here (`millrace.features.encoding.candidates.schema_hash`).

        Raises
        ------
        SchemaError
            If the model reads other features, or other semantic ids than those of the codebooks beside it.
        ConfigError, StoreError
            If a file is missing or damaged.
        """
        runner = OnnxRunner.open(folder)
        if runner.config.schema != schema:
            raise SchemaError(
                "ranker",
                value=runner.config.schema,
                problem=f"reads other features than this version's {schema}",
                remedy="train it anew: millrace train ranker",
            )
        tables = EmbeddingTables.open(folder, runner.config.trunk.tables)
        return cls(runner, tables, own_codebooks(folder, runner.config.semantic_ids), folder)

    def predict(
        self,
        viewer: ViewerInputs,
        candidates: CandidateInputs,
        tokens_of: TokensOf,
        vectors: VectorInputs = NOTHING,
    ) -> Float32Array:
        """Return P(action), seconds for the continuous one, shape (n, n_actions).

        Parameters
        ----------
        viewer, candidates, tokens_of
            The inputs, and where the posts' texts are.
        vectors
            Where the vectors are that it was trained with (`millrace.inference.model_vectors.vector_inputs`).

        Raises
        ------
        SchemaError
            If it reads semantic ids or social vectors and ``vectors`` gives none.
        """
        if not candidates.n:
            return np.zeros((0, len(self.config.actions)), dtype=np.float32)
        encoded = self._runner.encode(self._assembler.viewer(viewer, tokens_of, vectors))
        rows = self._assembler.candidates(candidates, tokens_of, vectors)
        predictions: Float32Array = self._runner.score(rows, encoded)[0]
        return predictions

    def close(self) -> None:
        """Give back what the runner holds."""
        self._runner.close()
