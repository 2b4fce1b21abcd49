"""`Assembler`: from encoded inputs to the floats that a ranker's graphs read, in the one layout that training has too.

Training assembles by `millrace.flywheel.ranker_batches.assembled`; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.runner import Viewers
from millrace.inference.tables import EmbeddingTables, Float32Array
from millrace.models.config import N_SURFACES, RankerConfig

TokensOf = Callable[[Int64Array], UInt16Array]
"""Gives the token rows of posts' texts, shape (n, 64)."""


class Assembler:
    """Gathers a ranker's inputs.

    Parameters
    ----------
    config
        The ranker's.
    tables
        Its tables.

    Attributes
    ----------
    config
        The ranker's.
    """

    def __init__(self, config: RankerConfig, tables: EmbeddingTables) -> None:
        self.config = config
        self._tables = tables
        self._bits = np.arange(len(config.actions), dtype=np.uint64)

    def viewer(self, viewer: ViewerInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING) -> Viewers:
        """Return one viewer's floats, a batch of one.

        Raises
        ------
        SchemaError
            If the ranker reads text vectors, semantic ids or social vectors and ``vectors`` gives none.
        """
        config, tables = self.config, self._tables
        history = viewer.history.newest(config.trunk.max_history)
        n, width = history.n, tables.width
        floats = np.zeros((1, n, config.history_width), dtype=np.float32)
        if n:
            token = floats[0]
            token[:, :width] = tables.content(tokens_of(history.post_ids))
            token[:, width : 2 * width] = tables.post(history.post_ids)
            token[:, 2 * width : 3 * width] = tables.author(history.author_ids)
            if config.trunk.tables.n_sid_levels:
                token[:, 3 * width : 4 * width] = tables.semantic(vectors.codes(history.post_ids))
            at = 4 * width + config.trunk.text_width
            if config.trunk.text_width:
                token[:, 4 * width : at] = vectors.texts(history.post_ids, config.trunk.text_width)
            token[:, at : at + len(self._bits)] = history.actions[:, None] >> self._bits & np.uint64(1)
            at += len(self._bits)
            token[:, at : at + 3] = history.dense * np.float32(SCALE)
            known = np.flatnonzero(history.surfaces)
            token[known, at + 3 + history.surfaces[known].astype(np.intp) % N_SURFACES] = 1.0
            if config.trunk.media_width:
                token[:, at + 3 + N_SURFACES :] = vectors.media(history.post_ids, config.trunk.media_width)
        profile = np.zeros((1, config.profile_width), dtype=np.float32)
        profile[:, :width] = tables.spoken(viewer.languages[None])
        profile[:, width : 2 * width] = tables.content(viewer.bio[None])
        if config.trunk.social_width:
            viewer_id = np.array([viewer.viewer_id], dtype=np.int64)
            profile[:, 2 * width : 2 * width + config.trunk.social_width] = vectors.social(
                viewer_id, config.trunk.social_width
            )
        profile[:, config.profile_width - config.n_profile_dense :] = viewer.dense * np.float32(SCALE)
        return Viewers(profile, floats, np.ones((1, n + 1), dtype=np.bool_))

    def posts(self, inputs: CandidateInputs, tokens: UInt16Array, vectors: VectorInputs = NOTHING) -> Float32Array:
        """Return those of candidates' floats that depend on the post alone, shape (n, candidate_width - n_dense).

        Parameters
        ----------
        inputs
            The candidates.
        tokens
            Token rows of their texts, shape (n, 64).
        vectors
            Where their vectors are.

        Raises
        ------
        SchemaError
            As `viewer` does.
        """
        config, tables, trunk = self.config, self._tables, self.config.trunk
        width = tables.width
        floats = np.zeros((inputs.n, config.candidate_width - config.n_dense), dtype=np.float32)
        floats[:, :width] = tables.content(tokens)
        floats[:, width : 2 * width] = tables.post(inputs.post_ids)
        floats[:, 2 * width : 3 * width] = tables.author(inputs.author_ids)
        if trunk.tables.n_sid_levels:
            floats[:, 3 * width : 4 * width] = tables.semantic(vectors.codes(inputs.post_ids))
        floats[:, 4 * width : 5 * width] = tables.language(inputs.languages)
        at = 5 * width + trunk.text_width
        if trunk.text_width:
            floats[:, 5 * width : at] = vectors.texts(inputs.post_ids, trunk.text_width)
        if trunk.social_width:
            floats[:, at : at + trunk.social_width] = _by_author(inputs.author_ids, vectors, trunk.social_width)
        if trunk.media_width:
            floats[:, at + trunk.social_width :] = vectors.media(inputs.post_ids, trunk.media_width)
        return floats


def _by_author(author_ids: Int64Array, vectors: VectorInputs, width: int) -> Float32Array:
    """Return the social vector of each row's author; an author of many candidates is looked up once."""
    authors, place = np.unique(author_ids, return_inverse=True)
    return vectors.social(authors, width)[place]
