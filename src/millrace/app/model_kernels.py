"""Kernels that only models need, compiled or loaded before there is one.

The first promotion would else compile them inside of a serving process: half a minute after a fresh install, in which
it answers nobody. Here each runs once on a few rows, of the types that serving has: among others, tables are mapped and
columns of a batch belong to it, so that both cannot be written. Neither models nor what runs them are needed, or
imported. `tests/app/test_warm_up.py` promotes models after this, and finds nothing compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.content.ngrams import MAX_TOKENS
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.content.vectors import N_DIMS
from millrace.features.encoding.candidates import READS, CandidateInputs
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.history import N_HISTORY_DENSE
from millrace.features.encoding.languages import N_LANGUAGE_ROWS
from millrace.inference.content_cache import load_kernels as load_content_cache
from millrace.inference.near_line_layer import load_kernels as load_near_line
from millrace.inference.post_vectors import KeptVectors
from millrace.inference.pre_ranker_kernels import add_deeds, add_rest
from millrace.inference.tables import EmbeddingTables
from millrace.inference.vector_index import Eligibility
from millrace.inference.vector_index_exact import ExactIndex
from millrace.mixer.home_pipeline import home_dims
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn, Column

if TYPE_CHECKING:
    from millrace.base.ids import Int64Array
    from millrace.mixer.feed_state import FeedState

ArrayT = TypeVar("ArrayT", bound=npt.NDArray[Any])

_NOW_MS: Final = 1_800_000_000_000
_WIDTH: Final = 4
_N_ROWS: Final = 100_000
"""More than any row of tokens; zeros that nobody touches take no memory."""


def load_model_kernels(state: FeedState, actions: ActionSpace) -> None:
    """Run what encodes posts, looks vectors up and assembles what models read, over a state with a few posts."""
    kept = state.texts.by_row().post_ids
    post_ids: Int64Array = kept[kept != 0][:8].copy()
    candidates = _encode(state, actions, post_ids)
    tables = _mapped_tables()
    tables.content(np.zeros((1, MAX_TOKENS), dtype=np.uint16))
    tables.spoken(np.zeros((1, 4), dtype=np.uint8))
    _pre_rank(state, actions, candidates, tables)
    load_content_cache(candidates)
    _search(post_ids)
    load_near_line(len(actions.names))
    codebooks = Codebooks(
        SemanticIdSettings(n_levels=1, n_codes=2, n_dims=N_DIMS), np.zeros((1, 2, N_DIMS), dtype=np.float32)
    )
    codebooks.encode(np.ones((1, N_DIMS), dtype=np.int8))


def _encode(state: FeedState, actions: ActionSpace, post_ids: Int64Array) -> CandidateInputs:
    n, sizes = len(post_ids), home_dims(actions)
    columns: dict[AnyColumn, Any] = {
        column: np.full(
            (n, *(sizes[size] if isinstance(size, str) else size for size in column.shape)), column.fill, column.dtype
        )
        for column in READS
        if isinstance(column, Column)
    }
    encoders = Encoders.of(state, state.texts, state.profile_texts)
    return encoders.candidates.encode(CandidateBatch(columns), _NOW_MS, 0)


def _mapped_tables() -> EmbeddingTables:
    def mapped(n_rows: int) -> npt.NDArray[np.float32]:
        return _frozen(np.zeros((n_rows, _WIDTH), dtype=np.float32))

    return EmbeddingTables(mapped(_N_ROWS), mapped(8), mapped(8), mapped(N_LANGUAGE_ROWS))


def _pre_rank(state: FeedState, actions: ActionSpace, candidates: CandidateInputs, tables: EmbeddingTables) -> None:
    n, n_dense = candidates.n, candidates.dense.shape[1]
    out = np.zeros((n, _WIDTH + n_dense), dtype=np.float32)
    KeptVectors(tables, state.texts).write(candidates.post_ids, out)
    for ids in (candidates.author_ids, candidates.author_ids.copy()):  # of a batch, and of warming up
        add_rest(out, ids, candidates.languages, candidates.dense, tables.authors, tables.languages)
    n_actions = len(actions.names)
    add_deeds(
        np.zeros((n, _WIDTH + n_actions + N_HISTORY_DENSE + 256), dtype=np.float32),
        candidates.author_ids.copy(),
        np.zeros(n, dtype=np.uint64),
        np.zeros((n, N_HISTORY_DENSE), dtype=np.uint8),
        np.zeros(n, dtype=np.uint8),
        tables.authors,
        n_actions,
    )


def _search(post_ids: Int64Array) -> None:
    n = len(post_ids)
    index = ExactIndex(_WIDTH, "")
    vectors = np.full((n, _WIDTH), 0.5, dtype=np.float32)
    index.add(post_ids, vectors, np.full(n, _NOW_MS), post_ids, np.zeros(n, dtype=np.int32))
    listed = np.sort(post_ids)[:1]
    eligible = Eligibility(
        not_before_ms=0, languages=np.ones(1, dtype=np.int32), excluded_authors=listed, excluded_posts=listed
    )
    for query in (vectors[0], _frozen(vectors[0].copy())):
        index.search(query, 2, eligible)
    index.remove(post_ids)


def _frozen(array: ArrayT) -> ArrayT:
    array.flags.writeable = False
    return array
