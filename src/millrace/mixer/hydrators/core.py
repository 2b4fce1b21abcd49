"""What a post is: author, kind, times, parents, media, language, topics."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.features.columns import (
    AUTHOR_ID,
    CONTENT_CREATED_MS,
    CONTENT_ID,
    CONVERSATION_ID,
    CREATED_MS,
    DURATION_MS,
    HAS_POST,
    HAS_VIDEO,
    IS_DELETED,
    IS_PARENT_DELETED,
    IS_SENSITIVE,
    KIND,
    LANGUAGE,
    PARENT_AUTHOR_ID,
    PARENT_ID,
    POST_ID,
    TOPICS,
)
from millrace.mixer.kinds import REPOST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.post_store import PostColumns, PostStore


class CoreHydrator(Hydrator):
    """Reads the post store; posts it no longer has (deleted, expired) get ``has_post`` False and zeros.

    What a reply, repost or quote shows of its parent comes from the parent's own row: whose it is, whether it is
    sensitive, a repost's time and topics. Events can be wrong about that, or come in before the parent. Where the row
    is gone `ContentHydrator` finds out what the page would show.
    """

    name = "core"
    reads = (POST_ID,)
    writes = (
        HAS_POST,
        IS_DELETED,
        AUTHOR_ID,
        CREATED_MS,
        KIND,
        PARENT_ID,
        PARENT_AUTHOR_ID,
        CONVERSATION_ID,
        CONTENT_ID,
        CONTENT_CREATED_MS,
        IS_PARENT_DELETED,
        HAS_VIDEO,
        DURATION_MS,
        IS_SENSITIVE,
        LANGUAGE,
        TOPICS,
    )

    def __init__(self, posts: PostStore) -> None:
        self._posts = posts

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the columns of the post store's row of each candidate."""
        post_ids = batch[POST_ID]
        rows = self._posts.find(post_ids)
        found = self._posts.gather(rows)
        is_repost = found.kind == REPOST
        content_created_ms = self._take_from_parents(found)
        return {
            HAS_POST: rows >= 0,
            IS_DELETED: self._posts.is_deleted(post_ids),
            AUTHOR_ID: found.author_id,
            CREATED_MS: found.created_ms,
            KIND: found.kind,
            PARENT_ID: found.parent_id,
            PARENT_AUTHOR_ID: found.parent_author_id,
            CONVERSATION_ID: found.conversation_id,
            CONTENT_ID: np.where(is_repost, found.parent_id, post_ids),
            CONTENT_CREATED_MS: content_created_ms,
            IS_PARENT_DELETED: self._posts.is_deleted(found.parent_id),
            HAS_VIDEO: found.has_video,
            DURATION_MS: found.duration_ms,
            IS_SENSITIVE: found.is_sensitive,
            LANGUAGE: found.language,
            TOPICS: found.topics,
        }

    def _take_from_parents(self, found: PostColumns) -> Int64Array:
        """Correct in place what parents' rows know better; return when what a viewer would see was published."""
        children = np.flatnonzero(found.parent_id)
        if not len(children):
            return found.created_ms
        parents = self._posts.gather(self._posts.find(found.parent_id[children]))
        is_known = parents.post_id != 0
        is_repost = found.kind[children] == REPOST
        known, reposts = children[is_known], children[is_known & is_repost]
        found.parent_author_id[known] = parents.author_id[is_known]
        found.is_sensitive[known] |= parents.is_sensitive[is_known]
        found.topics[reposts] = parents.topics[is_known & is_repost]
        content_ms = found.created_ms.copy()
        content_ms[children[is_repost]] = parents.created_ms[is_repost]  # 0 where nobody knows any more
        return content_ms
