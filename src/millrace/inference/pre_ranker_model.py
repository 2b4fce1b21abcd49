"""`PreRankerModel`: a served pre-ranker whole: projected tables, what is kept of posts, two graphs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np
from onnxruntime import InferenceSession

from millrace.base.errors import ConfigError, SchemaError
from millrace.content.text_index import TextIndex
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.onnx_runner import open_session
from millrace.inference.post_vectors import KeptVectors, PostVectors
from millrace.inference.pre_ranker_kernels import add_deeds, add_rest
from millrace.inference.tables import EmbeddingTables, Float32Array
from millrace.models.config import PreRankerConfig

CONFIG_FILE: Final = "pre_ranker.json"
ENCODE_FILE: Final = "encode_viewer.onnx"
SCORE_FILE: Final = "pre_score.onnx"

N_AT_ONCE: Final = 2_048
"""Candidates a run: what they become stays in the processor's caches, and in memory that is used again."""

_SCALE: Final = np.float32(SCALE)


class EncodedViewer(NamedTuple):
    """A viewer, as what they make of candidates.

    Attributes
    ----------
    matrix, bias
        Shapes (candidate_width, n_hidden) and (n_hidden,), float32: the hidden layer.
    """

    matrix: Float32Array
    bias: Float32Array


class PreRankerModel:
    """Predicts every action of one viewer's candidates, roughly and fast.

    A prediction depends on its candidate and the viewer alone. For one thread at a time.

    Parameters
    ----------
    config
        Of the pre-ranker.
    encode_session, score_session
        The graphs.
    tables
        Projected, ``d`` wide.
    """

    def __init__(
        self,
        config: PreRankerConfig,
        encode_session: InferenceSession,
        score_session: InferenceSession,
        tables: EmbeddingTables,
    ) -> None:
        self.config = config
        self.tables = tables
        self._encode = encode_session
        self._score = score_session

    @classmethod
    def open(cls, folder: Path, schema: str) -> Self:
        """Return the model of an exported folder.

        Parameters
        ----------
        folder
            Written by `millrace.models.pre_ranker_export.export_pre_ranker`.
        schema
            The hash of the features that are encoded here (`millrace.features.encoding.candidates.schema_hash`).

        Raises
        ------
        SchemaError
            If the model reads other features.
        ConfigError
            If a file is missing or damaged.
        """
        path = folder / CONFIG_FILE
        try:
            config = msgspec.json.decode(path.read_bytes(), type=PreRankerConfig)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                "pre-ranker config", value=str(path), problem=str(error), remedy="export the pre-ranker again"
            ) from error
        if config.schema != schema:
            raise SchemaError(
                "pre-ranker",
                value=config.schema,
                problem=f"reads other features than this version's {schema}",
                remedy="train it anew: millrace train pre-ranker",
            )
        return cls(
            config,
            open_session(folder / ENCODE_FILE),
            open_session(folder / SCORE_FILE),
            EmbeddingTables.open(folder, config.served_tables),
        )

    def vectors_over(self, texts: TextIndex) -> KeptVectors:
        """Return this model's vectors of the posts of an index, none of them made yet; to be kept by the caller."""
        return KeptVectors(self.tables, texts)

    def encode(self, viewer: ViewerInputs, vectors: PostVectors) -> EncodedViewer:
        """Return a viewer, encoded; once a request."""
        config, tables, history = self.config, self.tables, viewer.history
        d, n_known = config.d, min(viewer.history.n, config.max_history)
        newest = slice(history.n - n_known, history.n)
        tokens = np.empty((n_known, config.history_width), dtype=np.float32)
        if n_known:
            vectors.write(history.post_ids[newest], tokens)
            add_deeds(
                tokens,
                np.ascontiguousarray(history.author_ids[newest]),
                np.ascontiguousarray(history.actions[newest]),
                np.ascontiguousarray(history.dense[newest]),
                np.ascontiguousarray(history.surfaces[newest]),
                tables.authors,
                len(config.actions),
            )
        profile = np.empty((1, config.profile_width), dtype=np.float32)
        profile[:, :d] = tables.spoken(viewer.languages[None])
        profile[:, d : 2 * d] = tables.content(viewer.bio[None])
        profile[:, 2 * d :] = viewer.dense * _SCALE
        return EncodedViewer(*self._encode.run(None, {"profile": profile, "history": tokens}))

    def assemble(self, candidates: CandidateInputs, vectors: PostVectors) -> Float32Array:
        """Return candidates' floats, shape (n, candidate_width)."""
        out = np.empty((candidates.n, self.config.candidate_width), dtype=np.float32)
        vectors.write(candidates.post_ids, out)
        add_rest(
            out,
            np.ascontiguousarray(candidates.author_ids),
            np.ascontiguousarray(candidates.languages),
            np.ascontiguousarray(candidates.dense),
            self.tables.authors,
            self.tables.languages,
        )
        return out

    def score(self, floats: Float32Array, viewer: EncodedViewer) -> Float32Array:
        """Return predictions of assembled candidates, shape (n, n_actions): probabilities, and seconds of dwell."""
        n_runs = -(-len(floats) // N_AT_ONCE)
        parts = np.array_split(floats, n_runs) if n_runs > 1 else [floats]
        inputs = {"matrix": viewer.matrix, "bias": viewer.bias}
        found: list[Float32Array] = [self._score.run(None, {"candidates": part, **inputs})[0] for part in parts]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def predict(self, viewer: ViewerInputs, candidates: CandidateInputs, vectors: PostVectors) -> Float32Array:
        """Return P(action), seconds for the continuous one, shape (n, n_actions)."""
        if not candidates.n:
            return np.zeros((0, len(self.config.actions)), dtype=np.float32)
        return self.score(self.assemble(candidates, vectors), self.encode(viewer, vectors))
