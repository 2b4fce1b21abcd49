"""What makes a person act: from a situation to the probability of each action, and to dwell.

One interface, so that worlds with other laws can be put beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.people import BoolArray
from millrace.simulator.posts import IMAGE, QUOTE, REPLY, VIDEO

WORLD_ACTIONS: Final = (
    Action.LIKE,
    Action.REPLY,
    Action.REPOST,
    Action.QUOTE,
    Action.SHARE,
    Action.SHARE_DM,
    Action.COPY_LINK,
    Action.BOOKMARK,
    Action.CLICK,
    Action.PROFILE_CLICK,
    Action.LINK_OPEN,
    Action.PHOTO_EXPAND,
    Action.VIDEO_VIEW,
    Action.QUOTE_CLICK,
    Action.FOLLOW_AUTHOR,
    Action.NOT_INTERESTED,
    Action.MUTE_AUTHOR,
    Action.BLOCK_AUTHOR,
    Action.REPORT,
)
"""Everything that is sent; the order of probability columns here."""

COLUMN: Final = {action: i for i, action in enumerate(WORLD_ACTIONS)}
DISLIKES: Final = (Action.NOT_INTERESTED, Action.MUTE_AUTHOR, Action.BLOCK_AUTHOR, Action.REPORT)


@dataclass(frozen=True, slots=True)
class Situation:
    """A person looking at a post; columns of shape (n,).

    Attributes
    ----------
    interest
        The viewer's interest in the post's topic relative to their strongest one, in [0, 1].
    quality
        The post's, in [0, 1].
    is_followed
        The viewer follows the author.
    reads_language
        The viewer reads the post's language.
    propensity
        The viewer's readiness to act.
    """

    interest: Float64Array
    quality: Float64Array
    is_followed: BoolArray
    reads_language: BoolArray
    propensity: Float64Array
    kind: npt.NDArray[np.int8]
    media: npt.NDArray[np.int8]
    duration_ms: Int64Array
    has_link: BoolArray
    is_spam: BoolArray


class Mechanism(Protocol):
    """A law of behaviour."""

    def liking(self, situation: Situation) -> Float64Array:
        """Return how much each viewer likes what they see, in [0, 1], shape (n,)."""

    def probabilities(self, situation: Situation, liking: Float64Array) -> Float64Array:
        """Return P(action), shape (n, len(WORLD_ACTIONS))."""


class GateMechanism:
    """All actions are driven by one affinity through one gate; each has its own base rate.

    The base rates are of the order seen on public networks, raised about threefold so that a small world has
    enough engagement to show.
    """

    _LIKES: Final[dict[Action, float]] = {
        Action.LIKE: 0.34,
        Action.REPLY: 0.045,
        Action.REPOST: 0.055,
        Action.QUOTE: 0.014,
        Action.SHARE: 0.012,
        Action.SHARE_DM: 0.012,
        Action.COPY_LINK: 0.006,
        Action.BOOKMARK: 0.03,
        Action.CLICK: 0.18,
        Action.PROFILE_CLICK: 0.04,
        Action.LINK_OPEN: 0.30,
        Action.PHOTO_EXPAND: 0.25,
        Action.VIDEO_VIEW: 0.65,
        Action.QUOTE_CLICK: 0.15,
        Action.FOLLOW_AUTHOR: 0.02,
    }
    _DISLIKES: Final[dict[Action, float]] = {
        Action.NOT_INTERESTED: 0.008,
        Action.MUTE_AUTHOR: 0.0012,
        Action.BLOCK_AUTHOR: 0.0010,
        Action.REPORT: 0.0006,
    }
    _SPAM_FACTOR: Final = 15.0

    def liking(self, situation: Situation) -> Float64Array:
        """Return the gate: a sigmoid of interest, quality and acquaintance, shape (n,)."""
        affinity = (
            0.5 * situation.interest
            + 0.3 * situation.quality
            + 0.2 * situation.is_followed
            - 0.35 * ~situation.reads_language
            - 0.5 * situation.is_spam
        )
        gate: Float64Array = 1.0 / (1.0 + np.exp(-9.0 * (affinity - 0.58)))
        return gate

    def probabilities(self, situation: Situation, liking: Float64Array) -> Float64Array:
        """Return base rate × gate × propensity where the action is possible, shape (n, len(WORLD_ACTIONS))."""
        base = np.zeros(len(WORLD_ACTIONS))
        for action, rate in self._LIKES.items():
            base[COLUMN[action]] = rate
        probs = base * (liking * situation.propensity)[:, None]
        probs[:, COLUMN[Action.PHOTO_EXPAND]] *= situation.media == IMAGE
        probs[:, COLUMN[Action.VIDEO_VIEW]] *= situation.media == VIDEO
        probs[:, COLUMN[Action.LINK_OPEN]] *= situation.has_link
        probs[:, COLUMN[Action.QUOTE_CLICK]] *= situation.kind == QUOTE
        probs[:, COLUMN[Action.FOLLOW_AUTHOR]] *= ~situation.is_followed
        probs[:, COLUMN[Action.REPOST]] *= situation.kind != REPLY
        annoyance = (1.0 - liking) * np.where(situation.is_spam, self._SPAM_FACTOR, 1.0)
        for action, rate in self._DISLIKES.items():
            probs[:, COLUMN[action]] = rate * annoyance * np.where(situation.is_followed, 0.3, 1.0)
        return np.minimum(probs, 0.95)


def draw_actions(
    draws: Draws, viewer: Int64Array, key: npt.NDArray[np.uint64], occasion: Int64Array, probs: Float64Array
) -> BoolArray:
    """Return who did what, shape (n, len(WORLD_ACTIONS)); who dislikes a post does nothing friendly with it."""
    code = np.array([int(action) for action in WORLD_ACTIONS])
    u = draws.uniform(Purpose.ACTION, viewer[:, None], key[:, None], occasion[:, None], code[None, :])
    did = np.asarray(u < probs)
    is_dislike = np.array([action in DISLIKES for action in WORLD_ACTIONS])
    annoyed: BoolArray = np.any(did[:, is_dislike], axis=1)
    did &= is_dislike[None, :] | ~annoyed[:, None]
    return did


def draw_dwell_ms(
    draws: Draws,
    situation: Situation,
    viewer: Int64Array,
    key: npt.NDArray[np.uint64],
    liking: Float64Array,
    did: BoolArray,
) -> Int64Array:
    """Return how long each post was looked at, shape (n,): log-normal, longer for what is liked.

    Whoever watches a video stays for a share of its duration, sometimes over its end.
    """
    z = draws.normal(Purpose.DWELL, viewer, key)
    has_acted = did.any(axis=1)
    seconds = np.exp(np.log(1.8) + 1.3 * liking + 0.7 * has_acted + 0.75 * z)
    watched = did[:, COLUMN[Action.VIDEO_VIEW]]
    share = np.clip(0.35 + 0.6 * liking + 0.25 * z, 0.1, 1.3)
    seconds = np.where(watched, np.maximum(seconds, share * situation.duration_ms / 1000), seconds)
    dwell_ms: Int64Array = (np.clip(seconds, 0.2, 600.0) * 1000).astype(np.int64)
    return dwell_ms
