"""`SemanticIdCache`: the codes of the vectors that posts have now, whatever was computed before."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import IdHasher, IdKind
from millrace.content.config import ContentConfig
from millrace.content.semantic_id_cache import SemanticIdCache
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings, table_rows
from millrace.content.text_index import TextIndex
from millrace.content.vectors import text_vectors
from millrace.events.envelope import AnyEvent
from millrace.testing.builders import a_batch_of, a_post_created, a_post_deleted, a_post_edited, a_user_erased

HASHER = IdHasher()
TEXTS = ("an old mill on a stream", "election results tonight", "a recipe for rye bread", "")


def codebooks(n_levels: int = 2) -> Codebooks:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((n_levels, 16, 64)).astype(np.float32)
    return Codebooks(SemanticIdSettings(n_levels=n_levels, n_codes=16, n_dims=64), vectors)


def posts(*names: int) -> np.ndarray:
    return np.array([HASHER.one(IdKind.POST, str(name)) for name in names], dtype=np.int64)


def an_index(*events: AnyEvent, max_posts: int = 100) -> TextIndex:
    index = TextIndex(ContentConfig(max_posts=max_posts), HASHER)
    index.apply(a_batch_of(events))
    return index


def of_texts(*texts: str) -> list[list[int]]:
    codes: list[list[int]] = codebooks().encode(text_vectors(texts)).tolist()
    return codes


def test_codes_are_those_of_the_texts_and_missing_ones_are_minus_one() -> None:
    index = an_index(*(a_post_created(str(i), text=text) for i, text in enumerate(TEXTS)))
    cache = SemanticIdCache(codebooks(), index)
    found = cache.codes(posts(2, 0, 3, 77, 0))
    first, _, third, _ = of_texts(*TEXTS)
    assert found.tolist() == [third, first, [-1, -1], [-1, -1], first]
    assert found.dtype == np.int16
    assert cache.codes(posts()).shape == (0, 2)
    assert cache.codes(posts(1)).tolist() == of_texts(TEXTS[1])
    assert cache.nbytes > 0


def test_an_edit_a_deletion_and_an_erasure_are_seen_at_once() -> None:
    index = an_index(*(a_post_created(str(i), f"author-{i}", text=text) for i, text in enumerate(TEXTS)))
    cache = SemanticIdCache(codebooks(), index)
    cache.codes(posts(0, 1, 2, 3))
    index.apply(
        a_batch_of([a_post_edited("0", text=TEXTS[1]), a_post_deleted("1"), a_user_erased("author-2")], first_offset=10)
    )
    assert cache.codes(posts(0, 1, 2, 3)).tolist() == [*of_texts(TEXTS[1]), [-1, -1], [-1, -1], [-1, -1]]


def test_what_takes_an_old_posts_row_has_codes_of_its_own() -> None:
    index = an_index(a_post_created("0", text=TEXTS[0]), a_post_created("1", text=TEXTS[1]), max_posts=2)
    cache = SemanticIdCache(codebooks(), index)
    cache.codes(posts(0, 1))
    index.apply(a_batch_of([a_post_created("2", text=TEXTS[2])], first_offset=10))
    assert cache.codes(posts(0, 1, 2)).tolist() == [[-1, -1], *of_texts(TEXTS[1], TEXTS[2])]


def test_rows_of_the_table_begin_behind_the_padding_a_stretch_for_each_level() -> None:
    codes = np.array([[0, 0], [15, 3], [-1, -1]], dtype=np.int16)
    assert table_rows(codes, 16).tolist() == [[1, 17], [16, 20], [0, 0]]
