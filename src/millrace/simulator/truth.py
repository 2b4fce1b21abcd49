"""The truth: what a look is worth, and what the best slate would be. Reachable from this room alone.

``make check`` proves (import-linter) that nothing that serves or learns can get here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from millrace.base.actions import Action
from millrace.mixer.value_model.weights import X_WEIGHTS
from millrace.simulator.acts import dwell_moments
from millrace.simulator.draws import Float64Array, Int64Array
from millrace.simulator.mechanisms.law import Law, Mechanism
from millrace.simulator.mechanisms.situation import N_FRIENDLY, WORLD_ACTIONS, Response, Situation, Surroundings
from millrace.simulator.people import BoolArray

WEIGHTS: Final = np.array([X_WEIGHTS[action] for action in WORLD_ACTIONS])
"""The value model's weights of what is sent, in the order of `WORLD_ACTIONS`."""

SHORT_S: Final = 3.0
_MIN_COMPLETE_S: Final = 10.0
COST: Final = 0.1
"""What a look costs the viewer in satisfaction: less liked than this, and the time was wasted."""

ANNOYANCE: Final = 4.0
"""What one dislike costs."""

_POOL: Final = 200
"""Posts that a best slate is chosen from: those that could be worth most. What came before only lowers a post."""


class Utility(NamedTuple):
    """Expected utility of looks, shape (n,) each: by the value model's weights, and plain satisfaction."""

    value: Float64Array
    satisfaction: Float64Array


def expected_utility(law: Law, situation: Situation, response: Response) -> Utility:
    """Return what looks are worth, exactly."""
    moments = dwell_moments(law, situation, response, SHORT_S)
    is_long = situation.duration_ms > _MIN_COMPLETE_S * 1000
    value = (
        response.probs @ WEIGHTS
        + X_WEIGHTS[Action.DWELL_TIME] * moments[:, 0]
        + X_WEIGHTS[Action.NOT_DWELLED] * moments[:, 1]
        + X_WEIGHTS[Action.COMPLETE] * moments[:, 2] * is_long
    )
    return Utility(value, response.liking - COST - ANNOYANCE * response.annoyed)


def realised_utility(situation: Situation, response: Response, did: BoolArray, dwell_ms: Int64Array) -> Utility:
    """Return what looks were worth by what was done."""
    is_complete = (dwell_ms >= situation.duration_ms) & (situation.duration_ms > _MIN_COMPLETE_S * 1000)
    value = (
        did @ WEIGHTS
        + X_WEIGHTS[Action.DWELL_TIME] * dwell_ms / 1000.0
        + X_WEIGHTS[Action.NOT_DWELLED] * (dwell_ms < SHORT_S * 1000)
        + X_WEIGHTS[Action.COMPLETE] * is_complete
    )
    return Utility(value, response.liking - COST - ANNOYANCE * did[:, N_FRIENDLY:].any(axis=1))


def examination(patience: Float64Array, position: Int64Array) -> Float64Array:
    """Return P(a viewer looks at a position of a page), shape (n,): falls exponentially, 1 at the top."""
    examine: Float64Array = np.exp(-position / patience)
    return examine


class BestSlate(NamedTuple):
    """A slate chosen with the truth at hand.

    Attributes
    ----------
    rows
        Of the situation that was chosen from, best first, shape (k,).
    value
        The slate's expected value, examination included.
    bound
        No slate of these posts can be worth more: the best posts by themselves, nobody tiring of anything.
    """

    rows: Int64Array
    value: float
    bound: float


def best_slate(
    mechanism: Mechanism,
    situation: Situation,
    lately: tuple[Float64Array, Float64Array],
    patience: float,
    k: int,
    content: Int64Array | None = None,
) -> BestSlate:
    """Return the best slate of one viewer's posts: position by position what is worth most after those above.

    Greedy, and evaluated exactly: with what has been chosen above, each post's value is computed in closed form. The
    first position counts most and later ones less, so that greedy is optimal but for tiring within the page; how far
    it can be from the optimum is bounded by ``bound``.

    Parameters
    ----------
    situation
        The posts, one viewer's.
    lately
        How often the viewer has met each post's author and topic before this page, shape (n,) each.
    patience
        The viewer's.
    k
        Posts wanted.
    content
        What each post shows, shape (n,): a repost what it carries. Nothing is on a slate twice. None: all differ.
    """
    law = mechanism.law
    n = len(situation)
    k = min(k, n)
    if not k:
        return BestSlate(np.empty(0, dtype=np.int64), 0.0, 0.0)
    affinity = mechanism.affinity(situation)
    at_most = _untired(mechanism, situation, affinity)
    pool = _first(-at_most, max(_POOL, 4 * k))
    examine = examination(np.full(k, patience), np.arange(k))
    bound = float(at_most[pool[:k]] @ examine)
    some, some_affinity = situation.take(pool), affinity[pool]
    authors, topics = lately[0][pool].copy(), lately[1][pool].copy()
    likings = mechanism.liking(some_affinity, Surroundings.none(len(pool)))
    shown = None if content is None else content[pool]
    free = np.ones(len(pool), dtype=np.bool_)
    chosen: list[int] = []
    total, contrast = 0.0, 0.0
    for position in range(k):
        if not free.any():
            break
        response = mechanism.respond(some, some_affinity, Surroundings(authors, topics, np.full(len(pool), contrast)))
        value = np.where(free, expected_utility(law, some, response).value, -np.inf)
        best = int(np.argmax(value))
        total += float(value[best]) * float(examine[position])
        chosen.append(best)
        free[best] = False
        if shown is not None:
            free &= shown != shown[best]
        authors += some.author == some.author[best]
        topics += some.topic == some.topic[best]
        contrast = float(likings[best]) - 0.5
    return BestSlate(pool[np.array(chosen, dtype=np.int64)], total, bound)


def _first(values: Float64Array, n: int) -> Int64Array:
    """Return the rows of the ``n`` smallest values, ascending, ties by row; only those are sorted."""
    rows = np.arange(len(values))
    if n < len(values):
        rows = np.flatnonzero(values <= np.partition(values, n - 1)[n - 1])
    first: Int64Array = rows[np.argsort(values[rows], kind="stable")][:n]
    return first


def _untired(mechanism: Mechanism, situation: Situation, affinity: Float64Array) -> Float64Array:
    """Return the largest value that each post can have, whatever came before, shape (n,)."""
    n = len(situation)
    # The contrast that helps most: after the dullest post, or after the best one where that lifts.
    helpful = -0.5 if mechanism.law.affinity.contrast > 0 else 0.5
    freshest = Surroundings(np.zeros(n), np.zeros(n), np.full(n, helpful))
    return expected_utility(mechanism.law, situation, mechanism.respond(situation, affinity, freshest)).value
