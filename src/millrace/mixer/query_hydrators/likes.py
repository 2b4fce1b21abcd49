"""What the viewer liked lately, and which topics that was about."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import NEGATIVE, Action, ActionSpace
from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.params import Param
from millrace.features.query_fields import LIKED_POSTS, LIKED_TOPICS
from millrace.pipeline.merge import first_appearances
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.decayed_rows import Float64Array
from millrace.stores.histories import Histories
from millrace.stores.post_store import PostStore
from millrace.stores.profiles import ProfileStore

Int16Array = npt.NDArray[np.int16]

MAX_POSTS = Param("likes.max_posts", 64, 0, 1_024, "most liked posts that further posts are looked for by")

MAX_LIKED_TOPICS: Final = 8

EXPLICIT: Final = frozenset(
    {
        Action.LIKE,
        Action.REPLY,
        Action.REPOST,
        Action.QUOTE,
        Action.SHARE,
        Action.SHARE_DM,
        Action.COPY_LINK,
        Action.BOOKMARK,
        Action.FOLLOW_AUTHOR,
    }
)
"""Said by the viewer. Business actions count as well."""

IMPLICIT: Final = frozenset({Action.DWELL, Action.COMPLETE})
"""Concluded from how long the viewer looked. Clicks say too little."""

_DISLIKED: Final = NEGATIVE - {Action.NOT_DWELLED}

_NOTHING: Final = 0.0
_HINT: Final = 1.0
_SAID: Final = 2.0
_REFUSED: Final = -1.0


class LikesQueryHydrator(QueryHydrator):
    """Reads which posts the viewer liked: first those that were acted on, then those that were looked at for long.

    Within each kind the newest action comes first. A post that the viewer reported or did not want is none of them,
    whatever else was done to it. Topics weigh by their posts (an action twice as much as a look) and by their place
    on the post (1, 1/2, 1/3); the interests of the viewer's profile follow.
    """

    name = "likes"
    writes = (LIKED_POSTS, LIKED_TOPICS)
    params = (MAX_POSTS,)

    def __init__(
        self, histories: Histories, posts: PostStore, profiles: ProfileStore, actions: ActionSpace | None = None
    ) -> None:
        self._histories = histories
        self._posts = posts
        self._profiles = profiles
        self._weights = np.full(len(actions or ActionSpace()), _SAID, dtype=np.float64)
        for action in Action:
            self._weights[action] = _weight(action)

    def hydrate(self, query: Query) -> FieldValues:
        """Return the liked posts and topics; nothing for a viewer who did nothing yet."""
        history = self._histories.history(query.viewer_id)
        post_ids, weights = self._liked(history.post_ids[::-1], history.actions[::-1], query.params.get_int(MAX_POSTS))
        return {LIKED_POSTS: post_ids, LIKED_TOPICS: self._topics(query.viewer_id, post_ids, weights)}

    def fallback(self, query: Query) -> FieldValues:
        """Return nothing: what is found by likes is left to the other sources."""
        return {LIKED_POSTS: np.empty(0, dtype=np.int64), LIKED_TOPICS: np.empty(0, dtype=np.int32)}

    def _liked(self, post_ids: Int64Array, actions: Int16Array, max_posts: int) -> tuple[Int64Array, Float64Array]:
        """Return liked posts and the weight of each, from a history that begins with the newest action."""
        firsts, places = first_appearances(np.ascontiguousarray(post_ids))
        weight_by_entry = self._weights[actions]
        weights = np.zeros(len(firsts), dtype=np.float64)
        np.maximum.at(weights, places, weight_by_entry)
        weights[places[weight_by_entry == _REFUSED]] = _NOTHING
        rows = np.concatenate([np.flatnonzero(weights == weight)[:max_posts] for weight in (_SAID, _HINT)])[:max_posts]
        return post_ids[firsts[rows]], weights[rows]

    def _topics(self, viewer_id: int, post_ids: Int64Array, weights: Float64Array) -> Int32Array:
        topics = self._posts.gather(self._posts.find(post_ids)).topics  # of posts that are gone: 0
        by_place = weights[:, None] / np.arange(1, topics.shape[1] + 1)
        sums = np.bincount(topics.ravel(), weights=by_place.ravel(), minlength=1)
        sums[0] = 0.0
        liked = np.flatnonzero(sums)
        liked = liked[np.lexsort((liked, -sums[liked]))]
        codes = dict.fromkeys([*liked.tolist(), *self._profiles.profile(viewer_id).interests.tolist()])
        return np.array(list(codes)[:MAX_LIKED_TOPICS], dtype=np.int32)


def _weight(action: Action) -> float:
    if action in EXPLICIT:
        return _SAID
    if action in IMPLICIT:
        return _HINT
    return _REFUSED if action in _DISLIKED else _NOTHING
