"""Text, media and names: for the page only, from the content store, as of the request's log position."""

from __future__ import annotations

from typing import Any

import numpy as np

from millrace.base.ids import IdHasher
from millrace.features.attachments import POSTS, USERS
from millrace.features.columns import (
    AUTHOR_ID,
    HAS_CONTENT,
    IS_SENSITIVE,
    KIND,
    PARENT_AUTHOR_ID,
    PARENT_ID,
    POST_ID,
    PROOF_IDS,
)
from millrace.mixer.kinds import REPOST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import Column
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.content_overlay import ContentReader


class ContentHydrator(Hydrator):
    """Reads the content of posts and of what they reply to, repost or quote (late).

    A repost has content if the post it repeats has; the text of a parent that cannot be had leaves a reply or
    quote as it is. Of a parent that is shown the author and the sensitive flag are taken from its content: the post
    store forgets rows sooner, and then all it has is what the reply, repost or quote said of its parent itself.

    Parameters
    ----------
    content
        Where text and media are.
    hasher
        Gives inside ids.
    """

    name = "content"
    reads = (POST_ID, PARENT_ID, KIND, PARENT_AUTHOR_ID, IS_SENSITIVE)
    writes = (HAS_CONTENT, PARENT_AUTHOR_ID, IS_SENSITIVE, POSTS)

    def __init__(self, content: ContentReader, hasher: IdHasher) -> None:
        self._content = content
        self._hasher = hasher

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the flag, what is known of parents, and the content by post id."""
        post_ids, parent_ids = batch[POST_ID], batch[PARENT_ID]
        wanted = np.unique(np.concatenate((post_ids, parent_ids[parent_ids != 0])))
        found = self._content.posts(wanted, query.state_offset)
        has = np.array([content is not None for content in found], dtype=np.bool_)
        by_id = {post_id: content for post_id, content in zip(wanted.tolist(), found, strict=True) if content}
        has_itself = has[np.searchsorted(wanted, post_ids)]
        reposted = np.searchsorted(wanted, np.where(batch[KIND] == REPOST, parent_ids, post_ids))
        parent_author_ids, is_sensitive = batch[PARENT_AUTHOR_ID].copy(), batch[IS_SENSITIVE].copy()
        shown = np.flatnonzero((parent_ids != 0) & has[np.minimum(np.searchsorted(wanted, parent_ids), len(has) - 1)])
        parents = [by_id[parent_id] for parent_id in parent_ids[shown].tolist()]
        parent_author_ids[shown] = self._hasher.users(parent.author_id for parent in parents)
        is_sensitive[shown] |= np.array([parent.is_sensitive for parent in parents], dtype=np.bool_)
        return {
            HAS_CONTENT: has_itself & has[reposted],
            PARENT_AUTHOR_ID: parent_author_ids,
            IS_SENSITIVE: is_sensitive,
            POSTS: by_id,
        }


class NamesHydrator(Hydrator):
    """Reads the names of authors and of those whose engagement brought a post here (late).

    Parameters
    ----------
    content
        Where names are.
    columns
        The columns with users' ids; by default all that the home feed shows.
    """

    name = "names"
    writes = (USERS,)

    def __init__(self, content: ContentReader, *columns: Column[Any]) -> None:
        self._content = content
        self._columns = columns or (AUTHOR_ID, PARENT_AUTHOR_ID, PROOF_IDS)
        self.reads = self._columns

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return users by id; those never heard of are left out."""
        ids = np.unique(np.concatenate([batch[column].reshape(-1) for column in self._columns]))
        ids = ids[ids != 0]
        found = self._content.users(ids, query.state_offset)
        return {USERS: {user_id: user for user_id, user in zip(ids.tolist(), found, strict=True) if user}}
