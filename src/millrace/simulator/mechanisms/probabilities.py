"""From likings to the probability of every action: a kernel, and its NumPy reference; they agree bit for bit."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.base.kernels import njit
from millrace.simulator.draws import Float64Array, Int64Array
from millrace.simulator.mechanisms.situation import COLUMN, Situation
from millrace.simulator.people import BoolArray
from millrace.simulator.posts import IMAGE, QUOTE, REPLY, VIDEO

MAX_PROBABILITY: Final = 0.95
MAX_ANNOYED: Final = 0.5

_PHOTO: Final = COLUMN[Action.PHOTO_EXPAND]
_VIDEO: Final = COLUMN[Action.VIDEO_VIEW]
_LINK: Final = COLUMN[Action.LINK_OPEN]
_QUOTED: Final = COLUMN[Action.QUOTE_CLICK]
_FOLLOW: Final = COLUMN[Action.FOLLOW_AUTHOR]
_REPOST: Final = COLUMN[Action.REPOST]

Int8Array = npt.NDArray[np.int8]


@njit(cache=True)
def probabilities_kernel(  # noqa: C901 - one pass over all actions
    likings: Float64Array,
    source: Int64Array,
    friendly: Float64Array,
    rousing: Float64Array,
    roused: Int64Array,
    dislikes: Float64Array,
    factors: Float64Array,
    liking: Float64Array,
    propensity: Float64Array,
    is_silent: BoolArray,
    is_followed: BoolArray,
    is_spam: BoolArray,
    has_link: BoolArray,
    kind: Int8Array,
    media: Int8Array,
    probs: Float64Array,
    annoyed: Float64Array,
) -> None:
    """Fill ``probs`` and ``annoyed`` as `probabilities_reference` returns them."""
    n_friendly, n_dislikes = len(friendly), len(dislikes)
    silent_factor, spam_factor, followed_factor = factors[0], factors[1], factors[2]
    for row in range(len(likings)):
        reluctance = 1.0 - liking[row]
        if is_spam[row]:
            reluctance *= spam_factor
        if is_followed[row]:
            reluctance *= followed_factor
        total = 0.0
        for column in range(n_dislikes):
            p = reluctance * dislikes[column]
            probs[row, n_friendly + column] = p
            total += p
        if total > MAX_ANNOYED:
            scale = MAX_ANNOYED / total
            for column in range(n_friendly, n_friendly + n_dislikes):
                probs[row, column] *= scale
            total = min(total, MAX_ANNOYED)
        annoyed[row] = total
        for column in range(n_friendly):
            probs[row, column] = likings[row, source[column]] * propensity[row] * friendly[column]
        for i in range(len(roused)):
            p = probs[row, roused[i]] * rousing[row, i]
            probs[row, roused[i]] = p * silent_factor if is_silent[row] else p
        if media[row] != IMAGE:
            probs[row, _PHOTO] = 0.0
        if media[row] != VIDEO:
            probs[row, _VIDEO] = 0.0
        if not has_link[row]:
            probs[row, _LINK] = 0.0
        if kind[row] != QUOTE:
            probs[row, _QUOTED] = 0.0
        if is_followed[row]:
            probs[row, _FOLLOW] = 0.0
        if kind[row] == REPLY:
            probs[row, _REPOST] = 0.0
        calm = 1.0 - total
        for column in range(n_friendly):
            probs[row, column] = min(probs[row, column], MAX_PROBABILITY) * calm


def probabilities_reference(
    likings: Float64Array,
    source: Int64Array,
    friendly: Float64Array,
    rousing: Float64Array,
    roused: Int64Array,
    dislikes: Float64Array,
    factors: Float64Array,
    liking: Float64Array,
    situation: Situation,
) -> tuple[Float64Array, Float64Array]:
    """Return P(action | looked), shape (n, n_actions), and P(any dislike | looked), shape (n,).

    Parameters
    ----------
    likings
        What drives actions, shape (n, n_sources).
    source
        Which column of ``likings`` drives each friendly action, shape (n_friendly,).
    friendly, dislikes
        Base rates.
    rousing, roused
        How much more each post calls for some actions, shape (n, n_roused), and their columns.
    factors
        Of silent readers, of spam, of the followed.
    liking
        Of each look in the mean, shape (n,).
    """
    silent_factor, spam_factor, followed_factor = factors.tolist()
    probs = np.zeros((len(likings), len(friendly) + len(dislikes)))
    kind_probs = probs[:, : len(friendly)]
    kind_probs[:] = likings[:, source] * situation.propensity[:, None] * friendly
    for i, column in enumerate(roused.tolist()):
        # Silent people hardly give any answers.
        kind_probs[:, column] *= rousing[:, i]
        kind_probs[:, column] *= np.where(situation.is_silent, silent_factor, 1.0)
    _forbid_impossible(kind_probs, situation)
    np.minimum(kind_probs, MAX_PROBABILITY, out=kind_probs)
    reluctance = (1.0 - liking) * np.where(situation.is_spam, spam_factor, 1.0)
    reluctance *= np.where(situation.is_followed, followed_factor, 1.0)
    dislike_probs = probs[:, len(friendly) :]
    np.multiply(reluctance[:, None], dislikes, out=dislike_probs)
    # One after the other: NumPy's own order of summing depends on the number of rows.
    annoyed = np.zeros(len(likings))
    for column in range(len(dislikes)):
        annoyed += dislike_probs[:, column]
    too_much = annoyed > MAX_ANNOYED
    dislike_probs[too_much] *= (MAX_ANNOYED / annoyed[too_much])[:, None]
    annoyed = np.minimum(annoyed, MAX_ANNOYED)
    kind_probs *= (1.0 - annoyed)[:, None]  # who dislikes a post does nothing friendly with it
    return probs, annoyed


def probabilities(
    likings: Float64Array,
    source: Int64Array,
    friendly: Float64Array,
    rousing: Float64Array,
    roused: Int64Array,
    dislikes: Float64Array,
    factors: Float64Array,
    liking: Float64Array,
    situation: Situation,
) -> tuple[Float64Array, Float64Array]:
    """Return what `probabilities_reference` returns, in one pass."""
    n = len(likings)
    probs, annoyed = np.empty((n, len(friendly) + len(dislikes))), np.empty(n)
    contiguous = np.ascontiguousarray  # columns of tests may be broadcast
    probabilities_kernel(
        likings,
        source,
        friendly,
        rousing,
        roused,
        dislikes,
        factors,
        liking,
        contiguous(situation.propensity),
        contiguous(situation.is_silent),
        contiguous(situation.is_followed),
        contiguous(situation.is_spam),
        contiguous(situation.has_link),
        contiguous(situation.kind),
        contiguous(situation.media),
        probs,
        annoyed,
    )
    return probs, annoyed


def _forbid_impossible(friendly: Float64Array, situation: Situation) -> None:
    """Set to 0 what cannot be done with a post of its kind."""
    possible: dict[Action, BoolArray | npt.NDArray[np.bool_]] = {
        Action.PHOTO_EXPAND: situation.media == IMAGE,
        Action.VIDEO_VIEW: situation.media == VIDEO,
        Action.LINK_OPEN: situation.has_link,
        Action.QUOTE_CLICK: situation.kind == QUOTE,
        Action.FOLLOW_AUTHOR: ~situation.is_followed,
        Action.REPOST: situation.kind != REPLY,
    }
    for action, holds in possible.items():
        friendly[:, COLUMN[action]] *= holds
