"""`RankerModel`: a served ranker whole: tables, assembler, caches, runner."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from millrace.base.errors import SchemaError
from millrace.content.semantic_ids import Codebooks
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import Assembler, TokensOf
from millrace.inference.content_cache import CacheCounts, ContentCache
from millrace.inference.model_vectors import own_codebooks
from millrace.inference.numpy_runner import load_weight
from millrace.inference.rank_servers import ServerStanding
from millrace.inference.runner import EncodedViewers, RankRunner, WholeRunner
from millrace.inference.runner_choice import Precision, RunnerName, open_runner
from millrace.inference.tables import EmbeddingTables, Float32Array
from millrace.inference.viewer_cache import ViewerCache, viewer_version

CACHE_BYTES: Final = 64 * 2**20
PROJECTION: Final = "sparse_in.weight"


class RankerCounts(NamedTuple):
    """How the caches of a model fare."""

    viewers: CacheCounts
    posts: CacheCounts


class RankerModel:
    """Predicts every action of one viewer's candidates.

    Parameters
    ----------
    runner
        Runs the graphs.
    tables
        The embedding tables.
    projection
        The weight that projects what depends on a post alone, shape (d, candidate_width - n_dense).
    codebooks
        Of the semantic ids that it reads; None where it reads none.
    folder
        Where it was opened from.
    viewer_bytes, content_bytes
        What may be kept of viewers and of posts.

    Attributes
    ----------
    config, tables
        The ranker's.
    """

    def __init__(
        self,
        runner: RankRunner,
        tables: EmbeddingTables,
        projection: Float32Array,
        *,
        codebooks: Codebooks | None = None,
        folder: Path = Path(),
        viewer_bytes: int = CACHE_BYTES,
        content_bytes: int = CACHE_BYTES,
    ) -> None:
        self.config = runner.config
        self.tables = tables
        self.codebooks = codebooks
        self.folder = folder
        self._runner = runner
        self._whole = runner if isinstance(runner, WholeRunner) else None
        self._assembler = Assembler(runner.config, tables)
        self._posts = ContentCache(self._assembler, projection, content_bytes)
        self._viewers = ViewerCache(viewer_bytes)

    @classmethod
    def open(
        cls, folder: Path, schema: str, precision: Precision = "fp32", runner: RankRunner | RunnerName = "onnx"
    ) -> Self:
        """Return the model of an exported folder.

        Parameters
        ----------
        folder
            Written by `millrace.models.export.export_ranker` and `export_tables`.
        schema
            The hash of the features that are encoded here (`millrace.features.encoding.candidates.schema_hash`).
        precision
            Which is wanted; ``"int8"`` and ``"bf16"`` serve where the model's gate let them through
            (`millrace.inference.precision`), and elsewhere float32 does.
        runner
            The name of what runs it here, or what runs it elsewhere (`millrace.inference.grpc_runner.GrpcRunner`).

        Raises
        ------
        SchemaError
            If the model reads other features, or other semantic ids than those of the codebooks beside it.
        ConfigError, StoreError
            If a file is missing or damaged, or the runner cannot run here or in that precision.
        """
        if isinstance(runner, str):
            runner = open_runner(folder, runner, precision)
        if runner.config.schema != schema:
            raise SchemaError(
                "ranker",
                value=runner.config.schema,
                problem=f"reads other features than this version's {schema}",
                remedy="train it anew: millrace train ranker",
            )
        tables = EmbeddingTables.open(folder, runner.config.trunk.tables)
        codebooks = own_codebooks(folder, runner.config.semantic_ids)
        return cls(runner, tables, load_weight(folder, PROJECTION), codebooks=codebooks, folder=folder)

    @property
    def counters_shares(self) -> tuple[float, ...]:
        """What of the counters' log-odds is to be added to the predictions, by head (`millrace.models.blending`)."""
        return self.config.counters

    @property
    def servers(self) -> tuple[ServerStanding, ...]:
        """How it stands with the servers that it runs on; none where it runs here."""
        standings: tuple[ServerStanding, ...] = getattr(self._runner, "servers", ())
        return standings

    @property
    def counts(self) -> RankerCounts:
        """How the caches fare."""
        return RankerCounts(self._viewers.counts, self._posts.counts)

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
        rows = self._posts.candidates(candidates, tokens_of, vectors)
        if self._whole is not None:  # it keeps encoded viewers itself
            whole: Float32Array = self._whole.predict(self._assembler.viewer(viewer, tokens_of, vectors), rows)[0]
            return whole
        predictions: Float32Array = self._runner.score(rows, self._encoded(viewer, tokens_of, vectors))[0]
        return predictions

    def close(self) -> None:
        """Give back what the runner holds."""
        self._runner.close()

    def _encoded(self, viewer: ViewerInputs, tokens_of: TokensOf, vectors: VectorInputs) -> EncodedViewers:
        version = viewer_version(viewer, tokens_of, vectors)
        kept = self._viewers.find(viewer.viewer_id, version)
        if kept is not None:
            return kept
        encoded = self._runner.encode(self._assembler.viewer(viewer, tokens_of, vectors))
        self._viewers.keep(viewer.viewer_id, version, encoded)
        return encoded
