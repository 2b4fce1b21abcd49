"""How far posts travel: sizes, depths and delays of chains of reposts and quotes.

A chain is its beginner and all who passed it on, in order of time. Who had it from whom is inferred from the follow
graph, as Goel, Anderson, Hofman and Watts ("The structural virality of online diffusion", 2016) do: from the last
earlier person of the chain whom one follows; from the beginner if there is none.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.simulator.marginals.statistics import Int64Array, Marginals, Statistics, spread
from millrace.simulator.marginals.tails import tail_of

LARGE: Final = 5
"""Public collections keep chains from this size on; only such chains are compared."""

_MAX_INFERRED: Final = 1_000
"""Depth is inferred among so many of a chain's first people: the work grows with their square."""


def chains(
    chain: Int64Array, user: Int64Array, times_ms: Int64Array, follower: Int64Array, followee: Int64Array
) -> Marginals:
    """Return the marginals of chains.

    Parameters
    ----------
    chain, user, times_ms
        Shape (n,), one row for everybody who took part, the beginner first.
    follower, followee
        Shape (n_edges,), codes of the same people.
    """
    if len(chain) == 0:
        return {}
    order = np.lexsort((times_ms, chain))
    chain, user, times_ms = chain[order], user[order], times_ms[order]
    starts = np.flatnonzero(np.r_[True, chain[1:] != chain[:-1]])
    size = np.diff(np.r_[starts, len(chain)])
    is_large = size >= LARGE
    found: Marginals = {"cascade size": _sizes(size)}
    if not is_large.any():
        return found
    large = size[is_large]
    found["cascade size, of 5 and more"] = {**spread(large), **tail_of(large)}
    depth, is_followed = _depths(starts[is_large], large, user, follower, followee)
    found["cascade depth, of 5 and more"] = {**spread(depth), "passed on by a follower": is_followed}
    rows = np.repeat(starts[is_large], large - 1) + _running(large - 1) + 1
    delay = (times_ms[rows] - times_ms[rows - 1]) / 1000.0
    age = (times_ms[rows] - np.repeat(times_ms[starts[is_large]], large - 1)) / 1000.0
    life = np.repeat((times_ms[starts[is_large] + large - 1] - times_ms[starts[is_large]]) / 1000.0, large - 1)
    relative = age[life > 0] / life[life > 0]
    found["cascade timing, of 5 and more"] = {
        "median s between two": float(np.median(delay)),
        **({"done by half its life": float((relative <= 0.5).mean())} if len(relative) else {}),
    }
    return found


def _sizes(size: Int64Array) -> Statistics:
    return {
        "mean": float(size.mean()),
        "p99": float(np.quantile(size, 0.99)),
        "largest": float(size.max()),
        "never passed on": float((size == 1).mean()),
        "of 5 and more": float((size >= LARGE).mean()),
    }


def _running(count: Int64Array) -> Int64Array:
    ends = np.cumsum(count)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count, count)


def _depths(
    starts: Int64Array, size: Int64Array, user: Int64Array, follower: Int64Array, followee: Int64Array
) -> tuple[npt.NDArray[np.int64], float]:
    """Return the depth of each chain, and the share of passings-on that came from somebody followed."""
    top = int(max(user.max(), follower.max(initial=0), followee.max(initial=0))) + 1
    edges = np.unique(follower * top + followee)
    depths = np.zeros(len(starts), dtype=np.int64)
    n_followed = 0
    size = np.minimum(size, _MAX_INFERRED)
    for at, (start, n) in enumerate(zip(starts.tolist(), size.tolist(), strict=True)):
        people = user[start : start + n]
        wanted = people[:, None] * top + people[None, :]
        found = np.minimum(np.searchsorted(edges, wanted), max(len(edges) - 1, 0))
        knows = edges[found] == wanted if len(edges) else np.zeros((n, n), dtype=np.bool_)
        knows &= np.tri(n, k=-1, dtype=np.bool_)
        n_followed += int(knows.any(axis=1).sum())
        parent = np.where(knows.any(axis=1), n - 1 - np.argmax(knows[:, ::-1], axis=1), 0)
        depth = [0] * n
        for child in range(1, n):
            depth[child] = depth[parent[child]] + 1
        depths[at] = max(depth)
    return depths, n_followed / max(int((size - 1).sum()), 1)
