"""A new post has its text vector and, where codebooks serve, its semantic ids with the batch that wrote it."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import IdKind
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.content.vectors import text_vectors
from millrace.inference.model_vectors import vector_inputs
from millrace.mixer.feed_state import FeedState
from millrace.stores.config import StoresConfig
from millrace.testing.builders import a_batch_of, a_post_annotated, a_post_created


def test_a_new_post_has_vector_and_semantic_ids_at_once() -> None:
    rng = np.random.default_rng(4)
    books = Codebooks(
        SemanticIdSettings(n_levels=2, n_codes=16, n_dims=64), rng.standard_normal((2, 16, 64)).astype(np.float32)
    )
    state = FeedState(StoresConfig())
    inputs = vector_inputs(books, None, state.texts)
    post = np.array([state.hasher.one(IdKind.POST, "1")], dtype=np.int64)
    assert inputs.codes(post).tolist() == [[-1, -1]]
    batch = a_batch_of([a_post_created(1, 30, text="an old mill on a stream")])
    for fold in state.folds():
        fold.apply(batch)
    expected = books.encode(text_vectors(["an old mill on a stream"]))
    assert inputs.codes(post).tolist() == expected.tolist()
    assert inputs.texts(post, 64).any()
    given = tuple(1.0 if k == 5 else 0.0 for k in range(64))
    annotated = a_batch_of([a_post_annotated(1, vector=given)], first_offset=1)
    for fold in state.folds():
        fold.apply(annotated)
    assert inputs.codes(post).tolist() == books.encode(np.array([given], dtype=np.float32)).tolist()
