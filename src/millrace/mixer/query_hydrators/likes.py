"""What the viewer liked lately."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import NEGATIVE, POSITIVE, Action
from millrace.features.query_fields import LIKED_POSTS, LIKED_TOPICS
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.histories import Histories
from millrace.stores.post_store import PostStore
from millrace.stores.profiles import ProfileStore

MAX_POSTS: Final = 64

_LIKING: Final = np.array(sorted(POSITIVE), dtype=np.int16)
_DISLIKING: Final = np.array(sorted(NEGATIVE - {Action.NOT_DWELLED}), dtype=np.int16)


class LikesQueryHydrator(QueryHydrator):
    """Reads the newest posts that the viewer acted on and liked, and what they are about.

    A post that the viewer also reported, or otherwise turned down, is not liked. Topics of the profile follow those of
    the posts.
    """

    name = "likes"
    writes = (LIKED_POSTS, LIKED_TOPICS)

    def __init__(self, histories: Histories, posts: PostStore, profiles: ProfileStore) -> None:
        self._histories = histories
        self._posts = posts
        self._profiles = profiles

    def hydrate(self, query: Query) -> FieldValues:
        """Return posts newest first, and topics most liked first."""
        history = self._histories.history(query.viewer_id)
        disliked = history.post_ids[np.isin(history.actions, _DISLIKING)]
        acted_on = history.post_ids[np.isin(history.actions, _LIKING)][::-1]
        acted_on = acted_on[~np.isin(acted_on, disliked)]
        _, first = np.unique(acted_on, return_index=True)
        liked = acted_on[np.sort(first)][:MAX_POSTS]
        topics = self._posts.gather(self._posts.find(liked)).topics.reshape(-1)
        codes, first, counts = np.unique(topics[topics > 0], return_index=True, return_counts=True)
        codes = codes[np.lexsort((first, -counts))]
        interests = self._profiles.profile(query.viewer_id).interests
        return {LIKED_POSTS: liked, LIKED_TOPICS: np.concatenate((codes, interests[~np.isin(interests, codes)]))}
