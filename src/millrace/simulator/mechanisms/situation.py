"""A person looking at a post, and what that leads to: the columns that every law of behaviour reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.draws import Float64Array, Int64Array, Uint64Array
from millrace.simulator.people import BoolArray

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
N_FRIENDLY: Final = len(WORLD_ACTIONS) - len(DISLIKES)
"""The friendly actions come first."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A person looking at a post; columns of shape (n,).

    Attributes
    ----------
    viewer, author, key, topic
        Who looks, who wrote it, the post's identity for draws, and what it is about.
    interest
        The viewer's present interest in the topic relative to their strongest one, in [0, 1].
    quality
        The post's, in [0, 1].
    author_taste
        A lasting liking of this viewer for this author that nothing explains; standard normal.
    is_followed
        The viewer follows the author.
    reads_language
        The viewer reads the post's language.
    propensity
        The viewer's readiness to act.
    n_proofs
        How many of those who liked it lately the viewer follows.
    age_ms
        Since its publication.
    story_heat
        How hot the story is that it belongs to; 0 for none.
    arousal
        How much the post calls for an answer; standard normal.
    is_silent
        The viewer hardly ever writes.
    """

    viewer: Int64Array
    author: Int64Array
    key: Uint64Array
    topic: npt.NDArray[np.int8]
    interest: Float64Array
    quality: Float64Array
    author_taste: Float64Array
    is_followed: BoolArray
    reads_language: BoolArray
    propensity: Float64Array
    n_proofs: Int64Array
    age_ms: Int64Array
    story_heat: Float64Array
    arousal: Float64Array
    is_silent: BoolArray
    kind: npt.NDArray[np.int8]
    media: npt.NDArray[np.int8]
    duration_ms: Int64Array
    has_link: BoolArray
    is_spam: BoolArray

    def __len__(self) -> int:
        return len(self.viewer)

    def take(self, rows: Int64Array) -> Situation:
        """Return some of the rows."""
        return Situation(**{name: getattr(self, name)[rows] for name in Situation.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What came before a look; columns of shape (n,).

    Attributes
    ----------
    author_count
        Looks at posts of the same author lately, those above on this page included.
    topic_count
        The same for the topic, decayed over hours.
    contrast
        How well the post directly above was liked, minus 0.5; 0 at the top.
    """

    author_count: Float64Array
    topic_count: Float64Array
    contrast: Float64Array

    @classmethod
    def none(cls, n: int) -> Surroundings:
        """Return the surroundings of ``n`` looks that nothing came before."""
        return cls(np.zeros(n), np.zeros(n), np.zeros(n))


@dataclass(frozen=True, slots=True)
class Response:
    """What follows from a look; all of it truth.

    Attributes
    ----------
    liking
        How much they like what they see, in [0, 1], shape (n,).
    probs
        P(action | looked), shape (n, len(WORLD_ACTIONS)): exactly, with everything that happens counted in.
    annoyed
        P(any dislike | looked), shape (n,): the sum of the dislikes' columns; at most one of them happens.
    dwell_mu
        Mean of the log of seconds looked, before the part of being engaged, shape (n,).
    """

    liking: Float64Array
    probs: Float64Array
    annoyed: Float64Array
    dwell_mu: Float64Array

    def take(self, rows: Int64Array) -> Response:
        """Return some of the rows."""
        return Response(self.liking[rows], self.probs.take(rows, axis=0), self.annoyed[rows], self.dwell_mu[rows])
