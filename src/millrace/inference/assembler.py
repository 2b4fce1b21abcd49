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
    """

    def __init__(self, config: RankerConfig, tables: EmbeddingTables) -> None:
        self._config = config
        self._tables = tables
        self._bits = np.arange(len(config.actions), dtype=np.uint64)

    def viewer(self, viewer: ViewerInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING) -> Viewers:
        """Return one viewer's floats, a batch of one.

        Raises
        ------
        SchemaError
            If the ranker reads semantic ids or social vectors and ``vectors`` gives none.
        """
        config, tables, history = self._config, self._tables, viewer.history
        n, width = history.n, tables.width
        floats = np.zeros((1, n, config.history_width), dtype=np.float32)
        if n:
            token = floats[0]
            token[:, :width] = tables.content(tokens_of(history.post_ids))
            token[:, width : 2 * width] = tables.post(history.post_ids)
            token[:, 2 * width : 3 * width] = tables.author(history.author_ids)
            if config.trunk.tables.n_sid_levels:
                token[:, 3 * width : 4 * width] = tables.semantic(vectors.codes(history.post_ids))
            at = 4 * width
            token[:, at : at + len(self._bits)] = history.actions[:, None] >> self._bits & np.uint64(1)
            at += len(self._bits)
            token[:, at : at + 3] = history.dense * np.float32(SCALE)
            known = np.flatnonzero(history.surfaces)
            token[known, at + 3 + history.surfaces[known] % N_SURFACES] = 1.0
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

    def candidates(self, inputs: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING) -> Float32Array:
        """Return candidates' floats, shape (1, n, candidate_width); it raises as `viewer` does."""
        config, tables, trunk = self._config, self._tables, self._config.trunk
        width = tables.width
        floats = np.zeros((1, inputs.n, config.candidate_width), dtype=np.float32)
        rows = floats[0]
        rows[:, :width] = tables.content(tokens_of(inputs.post_ids))
        rows[:, width : 2 * width] = tables.post(inputs.post_ids)
        rows[:, 2 * width : 3 * width] = tables.author(inputs.author_ids)
        if trunk.tables.n_sid_levels:
            rows[:, 3 * width : 4 * width] = tables.semantic(vectors.codes(inputs.post_ids))
        rows[:, 4 * width : 5 * width] = tables.language(inputs.languages)
        at = 5 * width
        if trunk.social_width:
            rows[:, at : at + trunk.social_width] = _by_author(inputs.author_ids, vectors, trunk.social_width)
        if trunk.media_width:
            at += trunk.social_width
            rows[:, at : at + trunk.n_media] = vectors.media(inputs.post_ids, trunk.media_width)
        rows[:, config.candidate_width - config.n_dense :] = inputs.dense * np.float32(SCALE)
        return floats


def _by_author(author_ids: Int64Array, vectors: VectorInputs, width: int) -> Float32Array:
    """Return the social vector of each row's author; an author of many candidates is looked up once."""
    authors, place = np.unique(author_ids, return_inverse=True)
    return vectors.social(authors, width)[place]
