"""What a post is: author, kind, times, parents, media, language, topics."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import (
    AUTHOR_ID,
    CONTENT_CREATED_MS,
    CONTENT_ID,
    CONVERSATION_ID,
    CREATED_MS,
    DURATION_MS,
    HAS_POST,
    HAS_VIDEO,
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
from millrace.stores.post_store import PostStore


class CoreHydrator(Hydrator):
    """Reads the post store; posts it no longer has (deleted, expired) get ``has_post`` False and zeros."""

    name = "core"
    reads = (POST_ID,)
    writes = (
        HAS_POST,
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
        content_created_ms = found.created_ms.copy()
        reposts = np.flatnonzero(found.kind == REPOST)
        originals = self._posts.find(found.parent_id[reposts])
        content_created_ms[reposts] = self._posts.gather(originals).created_ms  # 0 where it is not there any more
        return {
            HAS_POST: rows >= 0,
            AUTHOR_ID: found.author_id,
            CREATED_MS: found.created_ms,
            KIND: found.kind,
            PARENT_ID: found.parent_id,
            PARENT_AUTHOR_ID: found.parent_author_id,
            CONVERSATION_ID: found.conversation_id,
            CONTENT_ID: np.where(found.kind == REPOST, found.parent_id, post_ids),
            CONTENT_CREATED_MS: content_created_ms,
            IS_PARENT_DELETED: self._posts.is_deleted(found.parent_id),
            HAS_VIDEO: found.has_video,
            DURATION_MS: found.duration_ms,
            IS_SENSITIVE: found.is_sensitive,
            LANGUAGE: found.language,
            TOPICS: found.topics,
        }
