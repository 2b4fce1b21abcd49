"""Likeness of candidates' texts to those of the viewer's newest likes."""

import numpy as np
import pytest

from millrace.features.columns import CONTENT_ID, TEXT_TASTE
from millrace.features.query_fields import LIKED_POSTS
from millrace.mixer.hydrators.taste import MAX_LIKED, TasteHydrator
from millrace.pipeline.column import BoolArray
from millrace.testing.pipeline_builders import a_batch, a_query

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
VECTORS = {1: EAST, 2: EAST, 3: NORTH, 4: EAST, 5: NORTH, 6: [-1.0, 0.0]}


class KnownVectors:
    def vectors(self, post_ids: np.ndarray) -> tuple[np.ndarray, BoolArray]:
        rows = [VECTORS.get(post, [0.0, 0.0]) for post in post_ids.tolist()]
        has = np.array([post in VECTORS for post in post_ids.tolist()], dtype=np.bool_)
        return np.array(rows, dtype=np.float32).reshape(-1, 2), has


def taste(candidates: list[int], liked: list[int], **params: object) -> list[float]:
    query = a_query(params={MAX_LIKED: params["max_liked"]} if params else {})
    query = query.with_fields({LIKED_POSTS: np.array(liked, dtype=np.int64)})
    batch = a_batch({CONTENT_ID: np.array(candidates, dtype=np.int64)}, n=len(candidates))
    values = TasteHydrator(KnownVectors()).hydrate(query, batch)[TEXT_TASTE]
    assert values.dtype == np.float32
    return values.tolist()


def test_three_likes_of_a_kind_make_a_whole_taste_and_fewer_a_part_of_one() -> None:
    assert taste([4, 5], [1, 2, 4, 3]) == pytest.approx([1.0, 1 / 3])
    assert taste([4], [1]) == pytest.approx([1 / 3])


def test_what_is_unlike_counts_as_nothing_rather_than_against() -> None:
    assert taste([6], [1, 2, 4]) == [0.0]


def test_who_liked_nothing_and_what_has_no_text_have_none() -> None:
    assert taste([4, 5], []) == [0.0, 0.0]
    assert taste([99], [1, 2, 4]) == [0.0]
    assert taste([4], [99]) == [0.0]
    assert taste([], [1, 2]) == []


def test_only_the_newest_likes_are_looked_at() -> None:
    assert taste([5], [1, 2, 3], max_liked=2) == [0.0]
