"""What people do, drawn: from probabilities to actions and seconds. Kernels and NumPy references agree bit for bit.

Actions of one look come together: in three looks of ten the viewer is in the mood to act and does everything about
twice as often, in the others less. Each action's own probability stays exactly what the law says, so the truth is known
in closed form. Dislikes stand apart: at most one happens, and then nothing friendly does.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose, Uint64Array
from millrace.simulator.mechanisms.law import Law
from millrace.simulator.mechanisms.situation import N_FRIENDLY, WORLD_ACTIONS, Response, Situation
from millrace.simulator.people import BoolArray

MAX_DWELL_S: Final = 600.0
MIN_DWELL_S: Final = 0.2
_CODES: Final = np.array([int(action) for action in WORLD_ACTIONS[:N_FRIENDLY]], dtype=np.uint64)

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MUL_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MUL_2: Final = np.uint64(0x94D049BB133111EB)
_SHIFT_1: Final = np.uint64(30)
_SHIFT_2: Final = np.uint64(27)
_SHIFT_3: Final = np.uint64(31)
_TO_53_BITS: Final = np.uint64(11)
_SCALE: Final = 2.0**-53


@njit(cache=True)
def _step(state: np.uint64, key: np.uint64) -> np.uint64:
    """Take one more key into a hash, as `Draws.bits` does."""
    x = (state ^ key) + _GOLDEN
    x = (x ^ (x >> _SHIFT_1)) * _MUL_1
    x = (x ^ (x >> _SHIFT_2)) * _MUL_2
    return x ^ (x >> _SHIFT_3)


@njit(cache=True)
def act_kernel(
    prefix: Uint64Array,
    codes: Uint64Array,
    probs: Float64Array,
    annoyed: Float64Array,
    u_annoyed: Float64Array,
    u_engaged: Float64Array,
    engaged_frac: float,
    engaged_ratio: float,
    did: BoolArray,
) -> None:
    """Fill ``did`` as `act_reference` returns it."""
    n, n_friendly, n_actions = len(prefix), len(codes), probs.shape[1]
    for row in range(n):
        if u_annoyed[row] < annoyed[row]:
            passed = 0.0
            for column in range(n_friendly, n_actions):
                passed += probs[row, column]
                if u_annoyed[row] < passed or column == n_actions - 1:
                    did[row, column] = True
                    break
            continue
        is_engaged = u_engaged[row] < engaged_frac
        calm = 1.0 - annoyed[row]
        for column in range(n_friendly):
            p = probs[row, column] / calm
            if p <= 0.0:
                continue
            high = min(p * engaged_ratio, 1.0)
            if not is_engaged:
                high = max((p - engaged_frac * high) / (1.0 - engaged_frac), 0.0)
            u = float(_step(prefix[row], codes[column]) >> _TO_53_BITS) * _SCALE
            did[row, column] = u < high


def act_reference(
    prefix: Uint64Array,
    codes: Uint64Array,
    probs: Float64Array,
    annoyed: Float64Array,
    u_annoyed: Float64Array,
    u_engaged: Float64Array,
    engaged_frac: float,
    engaged_ratio: float,
) -> BoolArray:
    """Return who did what, shape (n, n_actions).

    Parameters
    ----------
    prefix
        Hashes of everything but the action, shape (n,).
    codes
        Of the friendly actions, shape (n_friendly,).
    probs, annoyed
        Of the response.
    u_annoyed, u_engaged
        Uniforms, shape (n,).
    engaged_frac, engaged_ratio
        How often one is in the mood to act, and how much more one then does.
    """
    did = np.zeros(probs.shape, dtype=np.bool_)
    is_annoyed = u_annoyed < annoyed
    passed = np.cumsum(probs[:, len(codes) :], axis=1)
    kind = np.minimum((u_annoyed[:, None] >= passed).sum(axis=1), passed.shape[1] - 1)
    who = np.flatnonzero(is_annoyed)
    did[who, len(codes) + kind[who]] = True
    p = probs[:, : len(codes)] / (1.0 - annoyed)[:, None]
    high = np.minimum(p * engaged_ratio, 1.0)
    low = np.maximum((p - engaged_frac * high) / (1.0 - engaged_frac), 0.0)
    x = (prefix[:, None] ^ codes[None, :]) + _GOLDEN
    x = (x ^ (x >> _SHIFT_1)) * _MUL_1
    x = (x ^ (x >> _SHIFT_2)) * _MUL_2
    u = ((x ^ (x >> _SHIFT_3)) >> _TO_53_BITS).astype(np.float64) * _SCALE
    did[:, : len(codes)] = (u < np.where(u_engaged[:, None] < engaged_frac, high, low)) & ~is_annoyed[:, None]
    return did


def draw_actions(
    draws: Draws, law: Law, viewer: Int64Array, key: Uint64Array, occasion: Int64Array, response: Response
) -> tuple[BoolArray, BoolArray]:
    """Return who did what, shape (n, len(WORLD_ACTIONS)), and who was in the mood to act, shape (n,)."""
    n = len(viewer)
    did = np.zeros((n, len(WORLD_ACTIONS)), dtype=np.bool_)
    if not n:
        return did, np.zeros(0, dtype=np.bool_)
    u_annoyed = draws.uniform(Purpose.ANNOYED, viewer, key, occasion)
    u_engaged = draws.uniform(Purpose.ENGAGED, viewer, key, occasion)
    prefix = draws.bits(Purpose.ACTION, viewer, key, occasion)
    act_kernel(
        prefix,
        _CODES,
        response.probs,
        response.annoyed,
        u_annoyed,
        u_engaged,
        law.engaged_frac,
        law.engaged_ratio,
        did,
    )
    return did, u_engaged < law.engaged_frac


def draw_dwell_ms(
    draws: Draws,
    law: Law,
    viewer: Int64Array,
    key: Uint64Array,
    occasion: Int64Array,
    response: Response,
    is_engaged: BoolArray,
) -> Int64Array:
    """Return how long each post was looked at, shape (n,): log-normal, longer for what is liked and when engaged."""
    z = draws.normal(Purpose.DWELL, viewer, key, occasion)
    high, low = engaged_shifts(law)
    seconds = np.exp(response.dwell_mu + np.where(is_engaged, high, low) + law.dwell.sigma * z)
    dwell_ms: Int64Array = (np.clip(seconds, MIN_DWELL_S, MAX_DWELL_S) * 1000).astype(np.int64)
    return dwell_ms


def engaged_shifts(law: Law) -> tuple[float, float]:
    """Return what being engaged, and not being, adds to the log of seconds; 0 in the mean."""
    return law.dwell.engaged * (1.0 - law.engaged_frac), -law.dwell.engaged * law.engaged_frac


@njit(cache=True)
def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@njit(cache=True)
def dwell_moments_kernel(
    mu: Float64Array,
    duration_s: Float64Array,
    sigma: float,
    shifts: Float64Array,
    shares: Float64Array,
    limits: Float64Array,
    out: Float64Array,
) -> None:
    """Fill ``out``, shape (n, 3): E[seconds], P(shorter than ``limits[0]``), P(at least the duration; 0 without one).

    ``limits[1]`` is the longest look there is: longer ones count as it.
    """
    log_short, log_longest = math.log(limits[0]), math.log(limits[1])
    for row in range(len(mu)):
        mean = short = complete = 0.0
        for part in range(len(shares)):
            m = mu[row] + shifts[part]
            top = (log_longest - m) / sigma
            below = math.exp(m + 0.5 * sigma * sigma) * _phi(top - sigma)
            mean += shares[part] * (below + limits[1] * (1.0 - _phi(top)))
            short += shares[part] * _phi((log_short - m) / sigma)
            if 0.0 < duration_s[row] <= limits[1]:
                complete += shares[part] * (1.0 - _phi((math.log(duration_s[row]) - m) / sigma))
        out[row, 0] = mean
        out[row, 1] = short
        out[row, 2] = complete


def dwell_moments(law: Law, situation: Situation, response: Response, short_s: float) -> npt.NDArray[Any]:
    """Return E[seconds], P(not dwelled), P(complete) of each look, shape (n, 3)."""
    out = np.empty((len(situation), 3))
    dwell_moments_kernel(
        response.dwell_mu,
        situation.duration_ms / 1000.0,
        law.dwell.sigma,
        np.array(engaged_shifts(law)),
        np.array([law.engaged_frac, 1.0 - law.engaged_frac]),
        np.array([short_s, MAX_DWELL_S]),
        out,
    )
    return out
