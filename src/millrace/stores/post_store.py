"""`PostStore`: the live posts, by author and newest first; what X calls Thunder and Earlybird.

Holds what ranking needs of a post (ids, time, kind, flags, codes), never its text: that is the content store's. Post
rows are handles that hold within one request (one log offset); between requests use ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.errors import StoreError
from millrace.base.ids import NO_ID, IdHasher, Int64Array
from millrace.base.int_table import Int32Array
from millrace.events.content_events import PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import Payload
from millrace.events.user_events import UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.post_changes import PostEvents
from millrace.stores.post_kernels import (
    AUTHOR,
    AUTHORS_FULL,
    CONVERSATION,
    CREATE,
    DELETED_FULL,
    DONE,
    DURATION,
    FLAGS,
    HAS_VIDEO,
    IS_SENSITIVE,
    KIND_BITS,
    LANGUAGE,
    N_FACTS,
    N_IDS,
    N_RINGS,
    PARENT,
    PARENT_AUTHOR,
    POSTS_FULL,
    RINGS_FULL,
    TOPICS,
    PostArrays,
    PostChanges,
    apply_changes,
    trim,
)
from millrace.stores.post_reads import TIMELINE_RINGS, VIDEO_RINGS, merge_newest
from millrace.stores.post_scans import are_fresh_originals, gather_rows, newest_of_each, newest_originals
from millrace.stores.row_table import RowTable
from millrace.stores.slab_lists import SlabLists, doubled

BoolArray = npt.NDArray[np.bool_]
Int8Array = npt.NDArray[np.int8]

_NO_IDS: Final = np.empty(0, dtype=np.int64)


class PostColumns(NamedTuple):
    """Posts as columns side by side, row ``i`` is one post.

    Attributes
    ----------
    post_id, author_id
        Shape (n,), int64 inside ids; a post id of 0 marks a row that was asked for and is not there.
    created_ms
        Shape (n,), int64 epoch milliseconds, never after the append to the log.
    kind
        Shape (n,), int8: 0 original, 1 reply, 2 repost, 3 quote (`KIND_CODES`).
    parent_id, parent_author_id
        Shape (n,), int64: the post replied to, reposted or quoted, and its author where known; 0 for none.
    conversation_id
        Shape (n,), int64: the root of the thread; the post itself where the event named none.
    has_video
        Shape (n,), bool.
    duration_ms
        Shape (n,), int32: of the longest video or audio, 0 for none.
    is_sensitive
        Shape (n,), bool.
    language
        Shape (n,), int32 code of ``CodeTables.languages``, 0 unknown.
    topics
        Shape (n, 3), int32 codes of ``CodeTables.topics``, strongest first, 0 none.
    """

    post_id: Int64Array
    author_id: Int64Array
    created_ms: Int64Array
    kind: Int8Array
    parent_id: Int64Array
    parent_author_id: Int64Array
    conversation_id: Int64Array
    has_video: BoolArray
    duration_ms: Int32Array
    is_sensitive: BoolArray
    language: Int32Array
    topics: Int32Array


class PostStore:
    """Fold of the live posts: per author the newest by class, within the retention.

    Originals and quotes, replies and reposts, and posts with a video each have a ring per author, bounded by
    ``StoresConfig``; a post that no ring holds any more is gone. Deleted ids are remembered for the retention, so that
    a late `PostCreated` does not bring one back; the first `PostCreated` of an id wins; posts older than the retention
    are not taken in.

    Parameters
    ----------
    config
        Bounds and retention.
    hasher
        Ids to inside ids.
    codes
        Names to codes; applied before this fold.
    """

    name = "posts"
    handles: tuple[type[Payload], ...] = (PostCreated, PostEdited, PostDeleted, PostAnnotated, UserErased)

    def __init__(self, config: StoresConfig, hasher: IdHasher, codes: CodeTables) -> None:
        self._hasher = hasher
        self._codes = codes
        self._events = PostEvents(hasher, codes)
        longest = [
            config.max_originals_per_author,
            config.max_secondary_per_author,
            config.max_videos_per_author,
        ]
        largest_block = max(1 << (max(longest) - 1).bit_length(), 4)
        self._limits = np.array(
            [*longest, config.post_retention_ms, config.n_trim_slices, largest_block], dtype=np.int64
        )
        self._posts, self._authors, self._deleted = RowTable(64), RowTable(64), RowTable(64)
        self._rings = SlabLists(2, n_rows=64 * N_RINGS, capacity=4 * largest_block)
        self._newest_ms: Int64Array = np.zeros(64 * N_RINGS, dtype=np.int64)
        self._created_ms: Int64Array = np.zeros(64, dtype=np.int64)
        self._ids: Int64Array = np.zeros((64, N_IDS), dtype=np.int64)
        self._facts: Int32Array = np.zeros((64, N_FACTS), dtype=np.int32)
        self._deleted_ms: Int64Array = np.zeros(64, dtype=np.int64)
        self._state: Int64Array = np.zeros(2, dtype=np.int64)
        self._refresh()

    # --- reading

    @property
    def n_posts(self) -> int:
        """How many posts are live."""
        return len(self._posts)

    @property
    def n_authors(self) -> int:
        """How many authors have rings."""
        return len(self._authors)

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""
        return sum(array.nbytes for array in self.arrays().values())

    def newest(
        self,
        author_ids: Int64Array,
        *,
        viewer_id: int,
        now_ms: int,
        max_age_ms: int,
        max_posts: int,
        follows: Int64Array | None = None,
        only_videos: bool = False,
    ) -> Int32Array:
        """Return the newest eligible posts of some authors.

        Reposts of the viewer's own posts are left out. A reply is in where the post it replies to is live and is no
        reply or repost itself, or replies directly to the root of the conversation and its author is followed.

        Parameters
        ----------
        author_ids
            Shape (n,), int64; unknown, repeated and zero ids are ignored.
        viewer_id
            Who reads.
        now_ms, max_age_ms
            The request's time, and the greatest age of a post.
        max_posts
            How many at most.
        follows
            Whom the viewer follows, for the reply rule, where that is more than ``author_ids``.
        only_videos
            Read the rings of videos instead of the others.

        Returns
        -------
        Int32Array
            Rows, newest first, ties by post id ascending; O(n + max_posts log n).
        """
        return merge_newest(
            self._store,
            _readable(author_ids),
            _NO_IDS if follows is None else _readable(follows),
            viewer_id,
            now_ms - max_age_ms,
            max(max_posts, 0),
            VIDEO_RINGS if only_videos else TIMELINE_RINGS,
        )

    def newest_overall(
        self,
        max_posts: int,
        now_ms: int,
        max_age_ms: int,
        *,
        languages: Int32Array | None = None,
        with_sensitive: bool = True,
    ) -> Int32Array:
        """Return the rows of the newest originals and quotes of all, newest first, ties by post id ascending.

        With ``languages`` only those in one of them, or in one that is not known.
        """
        if max_posts <= 0:
            return np.empty(0, dtype=np.int32)
        is_language_in = np.zeros(0 if languages is None else int(languages.max(initial=0)) + 1, dtype=np.bool_)
        if languages is not None:
            is_language_in[0] = True
            is_language_in[languages] = True
        flags_out = 0 if with_sensitive else IS_SENSITIVE
        return newest_originals(self._store, now_ms - max_age_ms, max_posts, is_language_in, flags_out)

    def newest_of_each(self, author_ids: Int64Array, now_ms: int, max_age_ms: int, max_per_author: int) -> Int32Array:
        """Return the rows of the newest originals and quotes of each author, author by author, newest first."""
        return newest_of_each(self._store, _readable(author_ids), now_ms - max_age_ms, max_per_author)

    def is_fresh_original(self, post_ids: Int64Array, now_ms: int, max_age_ms: int) -> BoolArray:
        """Return which posts are live, young enough, and originals or quotes: what strangers may be shown."""
        return are_fresh_originals(self._store, _readable(post_ids), now_ms - max_age_ms)

    def find(self, post_ids: Int64Array) -> Int32Array:
        """Return the rows of posts, shape (n,), int32, -1 for those that are not live."""
        return self._posts.find(_readable(post_ids))

    def live(self) -> Int32Array:
        """Return the rows of all live posts, in no order; for looking at the whole corpus, not for feeds."""
        return np.flatnonzero(self._posts.rows.keys_by_row).astype(np.int32)

    def rows_of(self, author_id: int) -> Int32Array:
        """Return the rows of all live posts of one author, in no order; for looking at, not for feeds."""
        (author,) = self._authors.find(_readable(np.array([author_id], dtype=np.int64))).tolist()
        if author < 0:
            return np.empty(0, dtype=np.int32)
        rings = [self._rings.read(author * N_RINGS + ring)[:, 1] for ring in range(N_RINGS)]
        return np.unique(np.concatenate(rings)).astype(np.int32)

    def is_deleted(self, post_ids: Int64Array) -> BoolArray:
        """Return which posts were deleted within the retention, shape (n,), bool."""
        return self._deleted.find(_readable(post_ids)) >= 0

    @property
    def kernel(self) -> PostArrays:
        """The arrays, for kernels that read them (`millrace.features.store.post_kernels`)."""
        return self._store

    def post_ids(self, rows: Int32Array) -> Int64Array:
        """Return the ids of posts, shape (n,), int64, in the order of ``rows`` (none of them -1)."""
        return self._posts.rows.keys_by_row[rows]

    def author_ids(self, rows: Int32Array) -> Int64Array:
        """Return the authors of posts, shape (n,), int64, in the order of ``rows`` (none of them -1)."""
        authors: Int64Array = self._ids[rows, AUTHOR]
        return authors

    def gather(self, rows: Int32Array) -> PostColumns:
        """Return posts as columns, in the order of ``rows``; a row of -1 gives zeros.

        Raises
        ------
        StoreError
            If a row is beyond the store: it does not come from this store.
        """
        wanted = np.ascontiguousarray(rows, dtype=np.int32)
        if not wanted.flags.writeable:
            wanted = wanted.copy()
        if len(wanted) and int(wanted.max()) >= self._posts.n_used:
            raise StoreError(
                "post row", value=int(wanted.max()), problem="not in this store", remedy="use rows that it returned"
            )
        ids = np.empty((2 + N_IDS, len(wanted)), dtype=np.int64)
        facts = np.empty((N_FACTS, len(wanted)), dtype=np.int32)
        gather_rows(self._store, wanted, ids, facts)
        flags = facts[FLAGS]
        return PostColumns(
            post_id=ids[0],
            created_ms=ids[1],
            author_id=ids[2 + AUTHOR],
            parent_id=ids[2 + PARENT],
            parent_author_id=ids[2 + PARENT_AUTHOR],
            conversation_id=ids[2 + CONVERSATION],
            kind=(flags & KIND_BITS).astype(np.int8),
            has_video=(flags & HAS_VIDEO) != 0,
            is_sensitive=(flags & IS_SENSITIVE) != 0,
            duration_ms=facts[DURATION],
            language=facts[LANGUAGE],
            topics=np.ascontiguousarray(facts[TOPICS:].T),
        )

    # --- writing

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        rows = batch.rows_of(self.handles)
        if rows:
            self._apply(self._events.changes_of(batch, rows))

    def ingest(self, posts: PostColumns) -> None:
        """Create many posts at once, in their order; the same as as many `PostCreated`, without the objects.

        ``created_ms`` must be bounded by the append already; a ``conversation_id`` of 0 means the post itself.
        """
        n = len(posts.post_id)
        ids = np.empty((n, N_IDS), dtype=np.int64)
        ids[:, AUTHOR] = posts.author_id
        ids[:, PARENT] = posts.parent_id
        ids[:, PARENT_AUTHOR] = posts.parent_author_id
        ids[:, CONVERSATION] = np.where(posts.conversation_id == NO_ID, posts.post_id, posts.conversation_id)
        facts = np.empty((n, N_FACTS), dtype=np.int32)
        facts[:, FLAGS] = posts.kind
        facts[:, FLAGS] |= posts.has_video * np.int32(HAS_VIDEO)
        facts[:, FLAGS] |= posts.is_sensitive * np.int32(IS_SENSITIVE)
        facts[:, DURATION] = posts.duration_ms
        facts[:, LANGUAGE] = posts.language
        facts[:, TOPICS:] = posts.topics
        self._apply(
            PostChanges(
                change=np.full(n, CREATE, dtype=np.int8),
                key=np.array(posts.post_id, dtype=np.int64),
                at_ms=np.array(posts.created_ms, dtype=np.int64),
                ids=ids,
                facts=facts,
                sets=np.zeros(n, dtype=np.int8),
            )
        )

    def tick(self, watermark_ms: int) -> None:
        """Trim one slice of the authors; a full pass takes ``n_trim_slices`` ticks."""
        trim(self._store, watermark_ms)

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {
            **self._posts.arrays("posts"),
            **self._authors.arrays("authors"),
            **self._deleted.arrays("deleted"),
            **self._rings.arrays("rings"),
            "newest_ms": self._newest_ms,
            "created_ms": self._created_ms,
            "ids": self._ids,
            "facts": self._facts,
            "deleted_ms": self._deleted_ms,
            "state": self._state,
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._posts.load("posts", arrays)
        self._authors.load("authors", arrays)
        self._deleted.load("deleted", arrays)
        self._rings.load("rings", arrays)
        self._newest_ms = arrays["newest_ms"]
        self._created_ms = arrays["created_ms"]
        self._ids = arrays["ids"]
        self._facts = arrays["facts"]
        self._deleted_ms = arrays["deleted_ms"]
        self._state = arrays["state"]
        self._refresh()

    def _apply(self, changes: PostChanges) -> None:
        start = 0
        while True:
            start, full = apply_changes(self._store, changes, start)
            if full == DONE:
                return
            self._grow(full)

    def _grow(self, full: int) -> None:
        if full == POSTS_FULL:
            self._posts.grow()
            self._created_ms = doubled(self._created_ms)
            self._ids = doubled(self._ids)
            self._facts = doubled(self._facts)
        elif full == AUTHORS_FULL:
            self._authors.grow()
            self._rings.grow_rows()
            self._newest_ms = doubled(self._newest_ms)
        elif full == RINGS_FULL:
            self._rings.grow()
        elif full == DELETED_FULL:
            self._deleted.grow()
            self._deleted_ms = doubled(self._deleted_ms)
        self._refresh()

    def _refresh(self) -> None:
        self._store = PostArrays(
            posts=self._posts.rows,
            authors=self._authors.rows,
            deleted=self._deleted.rows,
            rings=self._rings.slab,
            newest_ms=self._newest_ms,
            created_ms=self._created_ms,
            ids=self._ids,
            facts=self._facts,
            deleted_ms=self._deleted_ms,
            state=self._state,
            limits=self._limits,
        )


def _readable(ids: Int64Array) -> Int64Array:
    """Return ids as kernels were compiled for them: contiguous, writeable (read-only ones cost a compilation)."""
    plain = np.ascontiguousarray(ids, dtype=np.int64)
    return plain if plain.flags.writeable else plain.copy()
