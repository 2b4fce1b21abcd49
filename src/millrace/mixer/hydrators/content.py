"""Text, media and names: for the page only, from the content store, as of the request's log position."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final

import numpy as np

from millrace.base.ids import IdHasher, Int64Array
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
from millrace.pipeline.stages import HydratedValues, Hydrator, Stage
from millrace.stores.content import PostContent, UserContent
from millrace.stores.content_overlay import ContentReader

_PATIENCE_FRAC: Final = 0.8


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

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues | Awaitable[HydratedValues]:
        """Return the flag, what is known of parents, and the content by post id."""
        wanted = _wanted_posts(batch)
        return self._hydrated(batch, wanted, self._content.posts(wanted, query.state_offset))

    def _hydrated(
        self, batch: CandidateBatch, wanted: Int64Array, found: Sequence[PostContent | None]
    ) -> HydratedValues:
        post_ids, parent_ids = batch[POST_ID], batch[PARENT_ID]
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


class RemoteContentHydrator(ContentHydrator):
    """The same where content is kept by a server: posts that do not come in time are shown as missing, the rest not."""

    async def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the same, read in a thread."""
        wanted = _wanted_posts(batch)
        found = await self._content.posts_async(wanted, query.state_offset, _patience_s(self))
        return self._hydrated(batch, wanted, found)


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

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues | Awaitable[HydratedValues]:
        """Return users by id; those never heard of are left out."""
        ids = self._wanted_users(batch)
        return _by_id(ids, self._content.users(ids, query.state_offset))

    def _wanted_users(self, batch: CandidateBatch) -> Int64Array:
        ids: Int64Array = np.unique(np.concatenate([batch[column].reshape(-1) for column in self._columns]))
        users: Int64Array = ids[ids != 0]
        return users


class RemoteNamesHydrator(NamesHydrator):
    """The same where content is kept by a server: names that do not come in time are left out."""

    async def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the same, read in a thread."""
        ids = self._wanted_users(batch)
        return _by_id(ids, await self._content.users_async(ids, query.state_offset, _patience_s(self)))


def content_hydrator(content: ContentReader, hasher: IdHasher, timeout_ms: float) -> ContentHydrator:
    """Return the hydrator for a content store: one that waits only if the store does, and then so long at most."""
    if not content.is_remote:
        return ContentHydrator(content, hasher)
    hydrator = RemoteContentHydrator(content, hasher)
    hydrator.timeout_ms = timeout_ms
    return hydrator


def names_hydrator(content: ContentReader, timeout_ms: float, *columns: Column[Any]) -> NamesHydrator:
    """Return the hydrator for a content store: one that waits only if the store does, and then so long at most."""
    if not content.is_remote:
        return NamesHydrator(content, *columns)
    hydrator = RemoteNamesHydrator(content, *columns)
    hydrator.timeout_ms = timeout_ms
    return hydrator


def _wanted_posts(batch: CandidateBatch) -> Int64Array:
    post_ids, parent_ids = batch[POST_ID], batch[PARENT_ID]
    return np.unique(np.concatenate((post_ids, parent_ids[parent_ids != 0])))


def _by_id(ids: Int64Array, found: Sequence[UserContent | None]) -> HydratedValues:
    return {USERS: {user_id: user for user_id, user in zip(ids.tolist(), found, strict=True) if user}}


def _patience_s(stage: Stage) -> float:
    """Return how long the server may take, so that what is at hand is still shown within the stage's own time."""
    return _PATIENCE_FRAC * stage.timeout_ms / 1_000
