from __future__ import annotations

import numpy as np

from millrace.simulator.marginals.cascades import chains
from millrace.simulator.marginals.statistics import Marginals

NONE = np.empty(0, dtype=np.int64)


def found(chain: list[int], user: list[int], follows: list[tuple[int, int]], every_ms: int = 1_000) -> Marginals:
    edges = np.array(follows, dtype=np.int64).reshape(-1, 2)
    times_ms = np.arange(len(chain)) * every_ms
    return chains(np.array(chain), np.array(user), times_ms, edges[:, 0], edges[:, 1])


def test_sizes_count_the_beginner() -> None:
    sizes = found([1, 2, 2, 3], [7, 8, 9, 7], [])["cascade size"]
    assert sizes["mean"] == 4 / 3
    assert sizes["largest"] == 2
    assert sizes["never passed on"] == 2 / 3
    assert sizes["of 5 and more"] == 0


def test_a_line_of_followers_is_deep_and_a_crowd_is_flat() -> None:
    line = found([1] * 5, [0, 1, 2, 3, 4], [(1, 0), (2, 1), (3, 2), (4, 3)])
    crowd = found([1] * 5, [0, 1, 2, 3, 4], [(1, 0), (2, 0), (3, 0), (4, 0)])
    assert line["cascade depth, of 5 and more"]["median"] == 4
    assert crowd["cascade depth, of 5 and more"]["median"] == 1
    assert line["cascade depth, of 5 and more"]["passed on by a follower"] == 1.0


def test_it_came_from_the_last_who_is_followed_else_from_the_beginner() -> None:
    # 4 follows 0 and 2: 2 was later. 3 follows nobody here. 1 follows 4, who came after.
    depth = found([1] * 5, [0, 1, 2, 3, 4], [(2, 1), (4, 0), (4, 2), (1, 4)])["cascade depth, of 5 and more"]
    assert depth["median"] == 3  # 0 → 1 (unknown way) → 2 → 4
    assert depth["passed on by a follower"] == 2 / 4


def test_timing_is_relative_to_a_chains_own_life() -> None:
    timing = found([1] * 5, [0, 1, 2, 3, 4], [], every_ms=2_000)["cascade timing, of 5 and more"]
    assert timing == {"median s between two": 2.0, "done by half its life": 0.5}


def test_no_chain_gives_nothing() -> None:
    assert chains(NONE, NONE, NONE, NONE, NONE) == {}
