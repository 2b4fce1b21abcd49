from __future__ import annotations

import numpy as np
import pytest

from millrace.simulator.marginals.following import following


def edges(*pairs: tuple[int, int]) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
    return tuple(np.array(pairs, dtype=np.int64).T)


def test_degrees_count_everybody_and_each_follow_once() -> None:
    follower, followee = edges((0, 1), (0, 1), (2, 1), (1, 0), (3, 3))
    found = following(follower, followee, 8, is_mutual=False)
    assert found["followers per user"]["mean"] == 3 / 8
    assert found["followers per user"]["none at all"] == 6 / 8
    assert found["following per user"]["mean"] == 3 / 8
    assert found["follow graph"]["reciprocity"] == pytest.approx(2 / 3)
    assert found["neighbours per user"]["mean"] == 4 / 8


def test_friendships_have_no_direction() -> None:
    follower, followee = edges((0, 1), (1, 0), (1, 2), (2, 1))
    found = following(follower, followee, is_mutual=True)
    assert list(found) == ["neighbours per user", "closed triangles"]
    assert found["neighbours per user"]["mean"] == pytest.approx(4 / 3)


def test_a_triangle_is_closed_and_a_star_is_open() -> None:
    triangle = following(*edges((0, 1), (1, 2), (2, 0)), is_mutual=False)
    star = following(*edges((0, 1), (0, 2), (0, 3)), is_mutual=False)
    assert triangle["closed triangles"] == {"local": 1.0, "transitivity": 1.0}
    assert star["closed triangles"] == {"local": 0.0, "transitivity": 0.0}


def test_sampled_clustering_is_close_to_what_counting_gives() -> None:
    # Two triangles that share 0: one of its six pairs is not the point, two of six are closed; the others' all are.
    bow_tie = following(*edges((0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)), is_mutual=False)["closed triangles"]
    assert bow_tie["transitivity"] == pytest.approx(6 / 10, abs=0.01)
    assert bow_tie["local"] == pytest.approx((4 + 1 / 3) / 5, abs=0.08)


def test_nobody_follows_anybody() -> None:
    none = np.empty(0, dtype=np.int64)
    assert following(none, none, 5, is_mutual=False) == {}
    assert following(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), is_mutual=False)["closed triangles"] == {
        "local": 0.0,
        "transitivity": 0.0,
    }
