"""`RetrievalModel`: served towers whole: viewers and posts to vectors, without torch."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import msgspec
import numpy as np
from onnxruntime import InferenceSession

from millrace.base.errors import ConfigError, SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import MAX_TOKENS, UInt16Array
from millrace.content.semantic_ids import Codebooks
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.history import N_HISTORY_DENSE, HistoryTokens
from millrace.features.encoding.posts import PostInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import Assembler, TokensOf
from millrace.inference.model_vectors import own_codebooks
from millrace.inference.onnx_runner import open_session
from millrace.inference.tables import EmbeddingTables, Float32Array
from millrace.inference.viewer_cache import viewer_version
from millrace.models.retrieval_config import RetrievalConfig
from millrace.stores.profiles import MAX_LANGUAGES

VIEWER_FILE: Final = "encode_viewer.onnx"
POST_FILE: Final = "post_tower.npz"
CONFIG_FILE: Final = "retrieval.json"

MAX_REMEMBERED: Final = 4_096
"""Viewers whose vectors are kept until they act: a quarter of a kilobyte each."""

_AT_ONCE: Final = 256


class RetrievalModel:
    """Both towers of one version; belongs to one thread.

    Parameters
    ----------
    config
        Sizes.
    version
        Names the towers: vectors of two versions do not compare.
    session
        The viewers' graph.
    tower
        The posts' tower by its names in torch.
    tables
        The embedding tables.
    codebooks
        Of the semantic ids that they read; None where they read none.
    """

    def __init__(
        self,
        config: RetrievalConfig,
        version: str,
        session: InferenceSession,
        tower: dict[str, Float32Array],
        tables: EmbeddingTables,
        codebooks: Codebooks | None = None,
    ) -> None:
        self.config = config
        self.version = version
        self.codebooks = codebooks
        self._session = session
        self._tables = tables
        self._assembler = Assembler(config.inputs, tables)
        self._hidden = np.ascontiguousarray(tower["hidden.weight"].T), tower["hidden.bias"]
        self._out = np.ascontiguousarray(tower["out.weight"].T), tower["out.bias"]
        self._remembered: OrderedDict[bytes, Float32Array] = OrderedDict()

    @classmethod
    def open(cls, folder: Path, schema: str, version: str = "") -> Self:
        """Return the towers of an exported folder.

        Parameters
        ----------
        folder
            Written by `millrace.models.retrieval_export.export_retrieval` and `export_tables`.
        schema
            The hash of the features that are encoded here (`millrace.features.encoding.candidates.schema_hash`).
        version
            Names the towers; the folder's path if it is empty.

        Raises
        ------
        SchemaError
            If the towers read other features, or other semantic ids than those of the codebooks beside them.
        ConfigError, StoreError
            If a file is missing or damaged.
        """
        config = _config(folder)
        if config.schema != schema:
            raise SchemaError(
                "retrieval towers",
                value=config.schema,
                problem=f"read other features than this version's {schema}",
                remedy="train them anew: millrace train retrieval",
            )
        session = open_session(folder / VIEWER_FILE)
        tables = EmbeddingTables.open(folder, config.trunk.tables)
        codebooks = own_codebooks(folder, config.semantic_ids)
        return cls(config, version or str(folder), session, _tower(folder, config), tables, codebooks)

    def viewer(self, viewer: ViewerInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING) -> Float32Array:
        """Return a viewer's vector, shape (width,), of length 1.

        It is kept until something that it is made of changes: an act, the profile, a text of the history's posts.

        Parameters
        ----------
        viewer, tokens_of
            The inputs, and where the posts' texts are.
        vectors
            Where their vectors are (`millrace.inference.model_vectors.vector_inputs`).

        Raises
        ------
        SchemaError
            If the towers read text vectors or semantic ids and ``vectors`` gives none.
        """
        viewer = _newest(viewer, self.config.trunk.max_history)
        key = viewer_version(viewer, tokens_of, vectors)
        known = self._remembered.get(key)
        if known is not None:
            self._remembered.move_to_end(key)
            return known
        floats = self._assembler.viewer(viewer, tokens_of, vectors)
        inputs = {"profile": floats.profile, "history": floats.history, "is_token": floats.mask}
        vector: Float32Array = self._session.run(None, inputs)[0][0]
        vector.setflags(write=False)
        self._remembered[key] = vector
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return vector

    def posts(self, posts: PostInputs, vectors: VectorInputs = NOTHING) -> Float32Array:
        """Return posts' vectors, shape (n, width), each of length 1; but for rounding, a post's hangs on it alone.

        Raises
        ------
        SchemaError
            As `viewer` does.
        """
        out = np.empty((posts.n, self.config.width), dtype=np.float32)
        for first in range(0, posts.n, _AT_ONCE):
            some = posts.take(np.arange(first, min(first + _AT_ONCE, posts.n)))
            hidden = np.maximum(self._assembled(some, vectors) @ self._hidden[0] + self._hidden[1], 0.0)
            found = hidden @ self._out[0] + self._out[1]
            length = np.sqrt(np.square(found).sum(axis=1, keepdims=True))
            out[first : first + some.n] = found / np.maximum(length, np.float32(1e-12))
        return out

    def warm(self) -> None:
        """Run the viewers' tower once, so that no request pays for the first time.

        Raises
        ------
        StoreError
            If its vector is not finite.
        """
        self._tables.touch()
        found = self.viewer(_nobody(self.config), _no_tokens)
        self._remembered.clear()
        if not np.isfinite(found).all():
            raise StoreError(
                "retrieval towers",
                value=self.version,
                problem="give vectors that are not finite",
                remedy="train them anew: millrace train retrieval",
            )

    def close(self) -> None:
        """Nothing to give back: sessions end with their last reference."""

    def _assembled(self, posts: PostInputs, vectors: VectorInputs) -> Float32Array:
        tables, width, trunk = self._tables, self._tables.width, self.config.trunk
        floats = np.zeros((posts.n, self.config.post_width), dtype=np.float32)
        floats[:, :width] = tables.content(posts.tokens)
        floats[:, width : 2 * width] = tables.post(posts.post_ids)
        floats[:, 2 * width : 3 * width] = tables.author(posts.author_ids)
        if trunk.tables.n_sid_levels:
            floats[:, 3 * width : 4 * width] = tables.semantic(vectors.codes(posts.post_ids))
        floats[:, 4 * width : 5 * width] = tables.language(posts.languages)
        at = 5 * width + trunk.text_width
        if trunk.text_width:
            floats[:, 5 * width : at] = vectors.texts(posts.post_ids, trunk.text_width)
        floats[:, at:] = posts.traits * np.float32(SCALE)
        return floats


def _newest(viewer: ViewerInputs, max_history: int) -> ViewerInputs:
    """Return a viewer with no more tokens than the towers read."""
    return replace(viewer, history=viewer.history.newest(max_history))


def _nobody(config: RetrievalConfig) -> ViewerInputs:
    ids, bytes_ = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8)
    history = HistoryTokens(ids, ids, np.empty(0, dtype=np.uint64), bytes_.reshape(0, N_HISTORY_DENSE), bytes_, 0)
    bio = np.zeros(MAX_TOKENS, dtype=np.uint16)
    dense = np.zeros(config.n_profile_dense, dtype=np.uint8)
    return ViewerInputs(0, history, np.zeros(MAX_LANGUAGES, dtype=np.uint8), bio, dense)


def _no_tokens(post_ids: Int64Array) -> UInt16Array:
    return np.zeros((len(post_ids), MAX_TOKENS), dtype=np.uint16)


def _config(folder: Path) -> RetrievalConfig:
    path = folder / CONFIG_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=RetrievalConfig)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            "retrieval towers", value=str(path), problem=str(error), remedy="train them: millrace train retrieval"
        ) from error


def _tower(folder: Path, config: RetrievalConfig) -> dict[str, Float32Array]:
    path = folder / POST_FILE
    shapes = {
        "hidden.weight": (config.hidden, config.post_width),
        "hidden.bias": (config.hidden,),
        "out.weight": (config.width, config.hidden),
        "out.bias": (config.width,),
    }
    try:
        with np.load(path, allow_pickle=False) as file:
            tower = {name: file[name] for name in shapes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError("post tower", value=str(path), problem=str(error), remedy="export it again") from error
    for name, shape in shapes.items():
        if tower[name].shape != shape or not np.isfinite(tower[name]).all():
            raise ConfigError(
                f"post tower {name}",
                value=tower[name].shape,
                problem=f"not finite numbers of shape {shape}",
                remedy="export it again",
            )
    return tower
