"""`PreRankerModel`: a served pre-ranker whole: projected tables, what is kept of posts, two graphs in ONNX Runtime."""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from millrace.base.errors import ConfigError, SchemaError
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.content.text_index import TextIndex
from millrace.features.encoding.buckets import SCALE, UInt8Array
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.hashing import id_row
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.onnx_runner import open_session
from millrace.inference.post_vectors import KeptVectors, PostVectors
from millrace.inference.tables import EmbeddingTables, Float32Array
from millrace.models.config import N_SURFACES, PreRankerConfig

UInt64Array = npt.NDArray[np.uint64]

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
            _add_deeds(
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
        _add_rest(
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


@njit(cache=True)
def _add_deeds(
    tokens: Float32Array,
    author_ids: Int64Array,
    actions: UInt64Array,
    dense: UInt8Array,
    surfaces: UInt8Array,
    authors: Float32Array,
    n_actions: int,
) -> None:
    """Add authors to the vectors that are there, and write behind them what was done, when, and on which surface."""
    d, n_dense = authors.shape[1], dense.shape[1]
    for i in range(len(tokens)):
        first, second = id_row(author_ids[i], 0, len(authors)), id_row(author_ids[i], 1, len(authors))
        for k in range(d):
            tokens[i, k] += authors[first, k] + authors[second, k]
        for action in range(n_actions):
            tokens[i, d + action] = np.float32(actions[i] >> np.uint64(action) & np.uint64(1))
        at = d + n_actions
        for j in range(n_dense):
            tokens[i, at + j] = np.float32(dense[i, j]) * _SCALE
        tokens[i, at + n_dense :] = 0.0
        if surfaces[i]:
            tokens[i, at + n_dense + surfaces[i] % N_SURFACES] = 1.0


@njit(cache=True)
def _add_rest(
    out: Float32Array,
    author_ids: Int64Array,
    languages: UInt8Array,
    dense: UInt8Array,
    authors: Float32Array,
    language_rows: Float32Array,
) -> None:
    """Add authors and languages to the vectors that are there, and write the dense fields behind them."""
    d = authors.shape[1]
    for i in range(len(out)):
        first, second = id_row(author_ids[i], 0, len(authors)), id_row(author_ids[i], 1, len(authors))
        language = languages[i]
        for k in range(d):
            out[i, k] += authors[first, k] + authors[second, k] + language_rows[language, k]
        for j in range(dense.shape[1]):
            out[i, d + j] = np.float32(dense[i, j]) * _SCALE
