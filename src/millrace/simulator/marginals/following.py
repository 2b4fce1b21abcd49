"""Who follows whom, as numbers: degrees, returned follows, closed triangles."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.simulator.marginals.statistics import Int64Array, Marginals, Statistics, concentration, spread
from millrace.simulator.marginals.tails import tail_of

_N_WEDGES: Final = 40_000
_N_PEOPLE: Final = 4_000
_WEDGES_EACH: Final = 25


def following(follower: Int64Array, followee: Int64Array, n_users: int | None = None, *, is_mutual: bool) -> Marginals:
    """Return the marginals of a graph.

    Parameters
    ----------
    follower, followee
        Shape (n_edges,), codes; edges that occur twice count once, and nobody follows themselves.
    n_users
        How many people there are, so that those without followers count; without it, who has an edge.
    is_mutual
        Friendships: there is no direction, so there are only neighbours, and no share of returned follows.
    """
    if len(follower) == 0:
        return {}
    both, code = np.unique(np.concatenate([follower, followee]), return_inverse=True)
    n = max(n_users or 0, len(both))
    pair = np.unique((code[: len(follower)] * n + code[len(follower) :])[follower != followee])
    source, target = pair // n, pair % n
    out_degree, in_degree = np.bincount(source, minlength=n), np.bincount(target, minlength=n)
    found: Marginals = {}
    if not is_mutual:
        found["followers per user"] = _degrees(in_degree)
        found["following per user"] = _degrees(out_degree)
        back = np.isin(target * n + source, pair, assume_unique=True)
        found["follow graph"] = {"reciprocity": float(back.mean())}
    low, high = np.minimum(source, target), np.maximum(source, target)
    met = np.unique(low * n + high)
    low, high = met // n, met % n
    found["neighbours per user"] = _degrees(np.bincount(np.concatenate([low, high]), minlength=n))
    found["closed triangles"] = _clustering(low, high, n)
    return found


def _degrees(degree: Int64Array) -> Statistics:
    return {
        **spread(degree),
        "none at all": float((degree == 0).mean()),
        **concentration(degree),
        **tail_of(degree),
    }


def _clustering(low: Int64Array, high: Int64Array, n: int) -> Statistics:
    """Return clustering from sampled wedges of the undirected graph (Schank and Wagner 2005), always the same sample.

    Edges come ascending by ``low * n + high``.

    ``local`` is the mean over people of the share of their pairs of neighbours who know each other; ``transitivity``
    the share over all such pairs.
    """
    keys = low * n + high
    owner, neighbour = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.argsort(owner, kind="stable")
    neighbour = neighbour[order]
    degree = np.bincount(owner, minlength=n)
    starts = np.cumsum(degree) - degree
    centre = np.flatnonzero(degree >= 2)
    if len(centre) == 0:
        return {"local": 0.0, "transitivity": 0.0}
    rng = np.random.default_rng(0)
    n_pairs = degree[centre].astype(np.float64) * (degree[centre] - 1)

    def share_closed(at: Int64Array) -> float:
        first = (rng.random(len(at)) * degree[at]).astype(np.int64)
        second = (rng.random(len(at)) * (degree[at] - 1)).astype(np.int64)
        second += second >= first
        a, b = neighbour[starts[at] + first], neighbour[starts[at] + second]
        wanted = np.minimum(a, b) * n + np.maximum(a, b)
        return float((keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted).mean())

    people = centre if len(centre) <= _N_PEOPLE else rng.choice(centre, _N_PEOPLE, replace=False)
    heavy = rng.choice(centre, _N_WEDGES, p=n_pairs / n_pairs.sum())
    return {"local": share_closed(np.repeat(people, _WEDGES_EACH)), "transitivity": share_closed(heavy)}
