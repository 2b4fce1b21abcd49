"""`TextIndex`: the vectors of the newest posts, by post, by likeness, and the newest posts as they arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.int_table import Int32Array, IntTable
from millrace.base.tokens import UInt8Array
from millrace.content.config import ContentConfig
from millrace.content.ngrams import MAX_TOKENS, UInt16Array, token_rows
from millrace.content.text_kernels import (
    ANNOTATE,
    CREATE,
    DELETE,
    DONE,
    EDIT,
    ERASE,
    HAS_AUDIO,
    HAS_IMAGE,
    HAS_LINK,
    HAS_VECTOR,
    HAS_VIDEO,
    ROWS_FULL,
    SCANNED,
    Float32Array,
    TextArrays,
    TextChanges,
    apply_changes,
    newest_originals,
    scan_similar,
    unit_vectors,
)
from millrace.content.vectors import N_DIMS, SCALE, Int8Array, quantised, text_vectors
from millrace.events.content_events import Media, PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import Payload
from millrace.events.user_events import UserErased
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.post_changes import KIND_CODES

BoolArray = npt.NDArray[np.bool_]

MAX_SCANNED: Final = 100_000

_UNIT: Final = SCALE * SCALE
_FIRST_ROWS: Final = 64
_COLUMNS: Final = ("post_ids", "author_ids", "created_ms", "flags", "vectors", "tokens", "traits", "revisions")
_TRAIT_BY_MEDIA: Final = {"image": HAS_IMAGE, "video": HAS_VIDEO, "audio": HAS_AUDIO}
_UNSAID: Final = -1
_NO_IDS: Final = np.empty(0, dtype=np.int64)


class TextIndex:
    """Fold of the newest posts' text vectors, in the order of their arrival.

    Reposts have no text of their own and are left out. The first `PostCreated` of an id counts, as long as the post
    is here; a deleted post keeps its place, without a vector, so that it does not come back. The vector of a
    `PostAnnotated`, if it has 64 numbers, takes the place of the one that was made from the text, and edits leave it.
    What is no longer within the newest ``max_posts`` is forgotten; readers leave out what is too old.

    Parameters
    ----------
    config
        How many posts.
    hasher
        Ids to inside ids.
    """

    name = "texts"
    handles: tuple[type[Payload], ...] = (PostCreated, PostEdited, PostDeleted, PostAnnotated, UserErased)

    def __init__(self, config: ContentConfig, hasher: IdHasher) -> None:
        self._hasher = hasher
        self._max_posts = config.max_posts
        self._table = IntTable(2 * _FIRST_ROWS)
        n_rows = min(_FIRST_ROWS, self._max_posts)
        self._columns: Arrays = {
            "post_ids": np.zeros(n_rows, dtype=np.int64),
            "author_ids": np.zeros(n_rows, dtype=np.int64),
            "created_ms": np.zeros(n_rows, dtype=np.int64),
            "flags": np.zeros(n_rows, dtype=np.uint8),
            "vectors": np.zeros((n_rows, N_DIMS), dtype=np.int8),
            "tokens": np.zeros((n_rows, MAX_TOKENS), dtype=np.uint16),
            "traits": np.zeros(n_rows, dtype=np.uint8),
            "revisions": np.zeros(n_rows, dtype=np.int64),
        }
        self._n_arrived = np.zeros(1, dtype=np.int64)
        self._n_changes = np.zeros(1, dtype=np.int64)
        self._refresh()

    # --- reading

    @property
    def n_posts(self) -> int:
        """How many posts are kept, deleted ones included."""
        return len(self._table)

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""
        return sum(array.nbytes for array in self.arrays().values())

    def vectors(self, post_ids: Int64Array) -> tuple[Float32Array, BoolArray]:
        """Return the vectors of posts at length 1, shape (n, 64), float32, zeros for none; and which have one, (n,)."""
        return unit_vectors(self._index.vectors, self._index.flags, self._known_rows(post_ids))

    def whole_vectors(self, post_ids: Int64Array) -> Int8Array:
        """Return the vectors of posts as they are kept, whole numbers of length about 127, shape (n, 64), int8."""
        index, rows = self._index, self._known_rows(post_ids)
        vectors = index.vectors.take(rows, axis=0)
        vectors[(rows < 0) | (index.flags.take(rows) & HAS_VECTOR == 0)] = 0
        return vectors

    def content(self, post_ids: Int64Array) -> tuple[UInt16Array, UInt8Array]:
        """Return what models read of posts.

        Returns
        -------
        tokens
            Shape (n, 64), uint16: rows of an embedding bag (`millrace.content.ngrams`); zeros for posts not here.
        traits
            Shape (n,), uint8: bits of `HAS_IMAGE`, `HAS_VIDEO`, `HAS_AUDIO`, `HAS_LINK`.
        """
        index, rows = self._index, self._known_rows(post_ids)
        tokens, traits = index.tokens.take(rows, axis=0), index.traits.take(rows)
        missing = np.flatnonzero(rows < 0)
        tokens[missing], traits[missing] = 0, 0
        return tokens, traits

    def traits(self, post_ids: Int64Array) -> UInt8Array:
        """Return the traits of posts alone, as `content` does: they cost a fiftieth of the tokens."""
        rows = self._known_rows(post_ids)
        traits = self._index.traits.take(rows)
        traits[rows < 0] = 0
        return traits

    def rows(self, post_ids: Int64Array) -> Int32Array:
        """Return the rows of posts in the arrays of `by_row`, shape (n,), int32; -1 for posts not here."""
        return self._table.get_many(np.asarray(post_ids, dtype=np.int64))

    def by_row(self) -> TextArrays:
        """Return the live arrays, to be read only: for caches that follow them row by row (``revisions``)."""
        return self._index

    def most_similar(
        self,
        interests: npt.NDArray[np.floating],
        *,
        now_ms: int,
        max_age_ms: int,
        max_posts: int,
        n_scanned: int = MAX_SCANNED,
        min_similarity: float = -1.0,
        exclude_ids: Int64Array = _NO_IDS,
        exclude_author_id: int = 0,
    ) -> tuple[Int64Array, Float32Array]:
        """Return the originals and quotes that are most like one of some vectors; exact.

        Parameters
        ----------
        interests
            Shape (k, 64), of any length; one without a direction is like nothing.
        now_ms, max_age_ms
            The request's time, and the greatest age of a post.
        max_posts
            How many at most.
        n_scanned
            How many of the newest eligible posts are looked at.
        min_similarity
            The least cosine to the nearest interest.
        exclude_ids, exclude_author_id
            Posts, and an author, that are left out.

        Returns
        -------
        tuple
            Post ids, most alike first, ties by id ascending, and their cosine to the nearest interest (within 0.01),
            float32.
        """
        wanted = quantised(interests)
        rows, scores = scan_similar(
            self._index,
            wanted[wanted.any(axis=1)].astype(np.int16),
            now_ms - max_age_ms,
            n_scanned,
            int(np.ceil(min_similarity * _UNIT)),
            min(max_posts, self.n_posts),
            np.array(exclude_ids, dtype=np.int64),
            exclude_author_id,
            self._max_posts,
        )
        return self._index.post_ids[rows], scores.astype(np.float32) / np.float32(_UNIT)

    def most_similar_reference(
        self,
        interests: npt.NDArray[np.floating],
        *,
        now_ms: int,
        max_age_ms: int,
        max_posts: int,
        n_scanned: int = MAX_SCANNED,
        min_similarity: float = -1.0,
        exclude_ids: Int64Array = _NO_IDS,
        exclude_author_id: int = 0,
    ) -> tuple[Int64Array, Float32Array]:
        """Return what `most_similar` returns, in NumPy."""
        index = self._index
        n_arrived = int(self._n_arrived[0])
        rows = np.arange(n_arrived - 1, max(n_arrived - self._max_posts, 0) - 1, -1) % self._max_posts
        is_eligible = (index.flags[rows] & SCANNED == SCANNED) & (index.created_ms[rows] >= now_ms - max_age_ms)
        rows = rows[is_eligible][: max(n_scanned, 0)]
        wanted = quantised(interests).astype(np.int32)
        wanted = wanted[wanted.any(axis=1)]
        if not len(wanted):
            return _NO_IDS, np.empty(0, dtype=np.float32)
        scores = (index.vectors[rows].astype(np.int32) @ wanted.T).max(axis=1)
        ids = index.post_ids[rows]
        is_in = (scores >= int(np.ceil(min_similarity * _UNIT))) & ~np.isin(ids, exclude_ids)
        is_in &= index.author_ids[rows] != exclude_author_id
        ids, scores = ids[is_in], scores[is_in]
        order = np.lexsort((ids, -scores))[: max(max_posts, 0)]
        return ids[order], scores[order].astype(np.float32) / np.float32(_UNIT)

    def newest(self, max_posts: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return ids, author ids and times of the newest live originals, latest arrival first; (n,), int64 each."""
        rows = newest_originals(self._index, max_posts, self._max_posts)
        return self._index.post_ids[rows], self._index.author_ids[rows], self._index.created_ms[rows]

    def _known_rows(self, post_ids: Int64Array) -> Int32Array:
        """Return `rows`, -1 for "no post" too, whose key free places of the table have."""
        wanted = np.asarray(post_ids, dtype=np.int64)
        return np.where(wanted != 0, self._table.get_many(wanted), np.int32(-1))

    # --- writing

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        changes = self._changes_of(batch)
        start = 0
        while True:
            start, full = apply_changes(self._index, changes, start, self._max_posts)
            if full == DONE:
                return
            if full == ROWS_FULL:
                self._grow_rows()
            else:
                self._table.grow()
            self._refresh()

    def tick(self, watermark_ms: int) -> None:
        """Nothing to do: the ring is bounded, and readers leave out what is too old."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        counts = {"n_arrived": self._n_arrived, "n_changes": self._n_changes}
        return {**self._table.arrays("posts"), **self._columns, **counts}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._table.load("posts", arrays)
        self._columns = {name: arrays[name] for name in _COLUMNS}
        self._n_arrived = arrays["n_arrived"]
        self._n_changes = arrays["n_changes"]
        self._refresh()

    def _changes_of(self, batch: EventBatch) -> TextChanges:
        """Return the batch as changes; all texts of it become vectors in one call."""
        one, post = self._hasher.one, IdKind.POST
        words: list[tuple[int, int, int, int, int, int]] = []
        texts: list[str] = []
        text_rows: list[int] = []
        given: list[tuple[float, ...]] = []
        given_rows: list[int] = []
        for row in batch.rows_of(self.handles):
            event = batch.events[row]
            payload = event.payload
            if isinstance(payload, PostCreated):
                if payload.kind == "repost":
                    continue
                appended_ms = int(batch.appended_ms[row])
                said_ms = event.event_time_ms if payload.created_at_ms is None else payload.created_at_ms
                text_rows.append(len(words))
                texts.append(payload.text)
                author_id = one(IdKind.USER, payload.author_id)
                kind = KIND_CODES[payload.kind]
                traits = _traits(payload.media, payload.link)
                words.append((CREATE, one(post, payload.post_id), author_id, min(said_ms, appended_ms), kind, traits))
            elif isinstance(payload, PostEdited):
                if payload.text is not None:
                    text_rows.append(len(words))
                    texts.append(payload.text)
                traits = _UNSAID if payload.media is None else _traits(payload.media)
                words.append((EDIT, one(post, payload.post_id), 0, 0, 0, traits))
            elif isinstance(payload, PostAnnotated):
                if payload.vector is not None and len(payload.vector) == N_DIMS:
                    given_rows.append(len(words))
                    given.append(payload.vector)
                    words.append((ANNOTATE, one(post, payload.post_id), 0, 0, 0, _UNSAID))
            elif isinstance(payload, PostDeleted):
                words.append((DELETE, one(post, payload.post_id), 0, 0, 0, _UNSAID))
            elif isinstance(payload, UserErased):
                words.append((ERASE, one(IdKind.USER, payload.user_id), 0, 0, 0, _UNSAID))
        table = np.array(words, dtype=np.int64).reshape(-1, 6)
        vectors = np.zeros((len(words), N_DIMS), dtype=np.int8)
        tokens = np.zeros((len(words), MAX_TOKENS), dtype=np.uint16)
        has_text = np.zeros(len(words), dtype=np.bool_)
        if texts:
            vectors[text_rows], tokens[text_rows], has_text[text_rows] = text_vectors(texts), token_rows(texts), True
        if given:
            vectors[given_rows] = quantised(np.array(given, dtype=np.float64))
        return TextChanges(
            changes=table[:, 0].astype(np.uint8),
            keys=table[:, 1].copy(),
            author_ids=table[:, 2].copy(),
            created_ms=table[:, 3].copy(),
            kinds=table[:, 4].astype(np.uint8),
            vectors=vectors,
            tokens=tokens,
            has_text=has_text,
            traits=table[:, 5].astype(np.int16),
        )

    def _grow_rows(self) -> None:
        for name, column in self._columns.items():
            n_more = min(2 * len(column), self._max_posts) - len(column)
            self._columns[name] = np.concatenate([column, np.zeros((n_more, *column.shape[1:]), dtype=column.dtype)])

    def _refresh(self) -> None:
        self._index = TextArrays(
            keys=self._table.keys,
            values=self._table.values,
            n_keys=self._table.n,
            n_arrived=self._n_arrived,
            n_changes=self._n_changes,
            **self._columns,
        )


def _traits(media: Sequence[Media], link: str = "") -> int:
    """Return the bits of what is attached."""
    bits = HAS_LINK if link else 0
    for one in media:
        bits |= _TRAIT_BY_MEDIA[one.kind]
    return bits
