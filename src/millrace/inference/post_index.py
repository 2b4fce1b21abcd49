"""`PostIndex`: the vectors of all posts that strangers may be shown, kept up with this process's stores.

It follows `TextIndex` row by row (``by_row().revisions``): what was written, edited, annotated, deleted or erased since
is encoded or taken out by the next `PostIndex.follow`, which the replica calls after every batch of events
(`PostIndexes`), between requests. So a post is found by the first request after its event, an edited one by its new
text, a deleted one by none. A little upkeep goes along: posts that the post store has let go of leave, languages
that were found out later are written down.

A new version of the towers gets an index of its own, filled by the same steps, newest posts first, a batch at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import NO_ID, Int64Array
from millrace.base.int_table import Int32Array
from millrace.content.ngrams import UInt16Array
from millrace.content.text_index import TextIndex
from millrace.content.text_kernels import IS_ALIVE, IS_STRANGERS
from millrace.features.encoding.languages import LanguageRows
from millrace.features.encoding.posts import PostEncoder
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.model_vectors import vector_inputs
from millrace.inference.tables import Float32Array
from millrace.inference.vector_index import EVERYTHING, Eligibility, VectorIndex
from millrace.inference.vector_index_choice import build_index
from millrace.stores.fold import EventBatch
from millrace.stores.state import State

if TYPE_CHECKING:
    from millrace.inference.retrieval_model import RetrievalModel

MAX_ENCODED: Final = 500
"""Posts that are encoded in one step: some 3 milliseconds, for which a page may have to wait."""

_N_SWEPT: Final = 2_000
_N_CARRIED: Final = 200
_NEVER: Final = -1


class PostIndex:
    """One version's vectors of the posts in one process's stores. Not thread-safe: it belongs to the stores' thread.

    Parameters
    ----------
    model
        The towers.
    state, texts
        The stores that are followed.
    index
        Holds the vectors; None: one for as many posts as ``texts`` keeps.

    Attributes
    ----------
    is_filled
        Whether everything that was there at the start can be found.
    """

    def __init__(self, model: RetrievalModel, state: State, texts: TextIndex, index: VectorIndex | None = None) -> None:
        self.model = model
        self._posts = state.posts
        self._texts = texts
        self._encoder = PostEncoder(state.posts, texts, LanguageRows(state.codes.languages))
        self._vectors = vector_inputs(model.codebooks, None, texts)
        self._index = index or build_index(texts.n_posts, model.config.width, model.version)
        self._n_changes = _NEVER
        self._revisions: Int64Array = np.zeros(0, dtype=np.int64)
        self._ids: Int64Array = np.zeros(0, dtype=np.int64)
        self._languages: Int32Array = np.zeros(0, dtype=np.int32)
        self._swept = 0
        self.is_filled = False

    @property
    def n(self) -> int:
        """How many posts can be found."""
        return self._index.n

    def follow(self, max_posts: int = MAX_ENCODED) -> int:
        """Take over what has changed in the stores, newest changes first; return how many changes are left.

        Deleted and edited posts are taken out whatever ``max_posts`` is; of those to be encoded, so many are.
        """
        arrays = self._texts.by_row()
        self._index.tend(_N_CARRIED)
        self.sweep()
        if int(arrays.n_changes[0]) == self._n_changes:
            return 0
        self._make_room(len(arrays.post_ids))
        changed = np.flatnonzero(arrays.revisions != self._revisions)
        gone = changed[self._ids[changed] != NO_ID]
        if len(gone):
            self._take_out(gone)
        is_shown = arrays.flags[changed] & (IS_ALIVE | IS_STRANGERS) == IS_ALIVE | IS_STRANGERS
        idle = changed[~is_shown]
        self._revisions[idle] = arrays.revisions[idle]
        wanted = changed[is_shown]
        wanted = wanted[np.argsort(-arrays.revisions[wanted], kind="stable")]
        now, later = wanted[:max_posts], wanted[max_posts:]
        self._put(now, arrays.post_ids[now])
        self._revisions[now] = arrays.revisions[now]
        if not len(later):
            self._n_changes = int(arrays.n_changes[0])
            self.is_filled = True
        return len(later)

    def fill(self) -> None:
        """Take over everything there is, and learn the index's lists where it has some: at the start, and in tests."""
        while self.follow():
            pass
        retrain = getattr(self._index, "retrain", None)
        if retrain is not None:
            retrain()

    def search(
        self, viewer: ViewerInputs, k: int, eligibility: Eligibility = EVERYTHING
    ) -> tuple[Int64Array, Float32Array]:
        """Return the eligible posts nearest to a viewer and their cosines, best first; shape (m,) with m at most k."""
        return self._index.search(self.model.viewer(viewer, self._tokens_of, self._vectors), k, eligibility)

    def cosine(self, viewer: ViewerInputs, post_id: int) -> float | None:
        """Return how near a viewer and a post are; None if the post cannot be found here."""
        row = int(self._texts.rows(np.array([post_id], dtype=np.int64))[0])
        if not 0 <= row < len(self._ids) or self._ids[row] != post_id:
            return None
        posts = self._encoder.encode(self._posts.find(np.array([post_id], dtype=np.int64)))
        return float(
            self.model.posts(posts, self._vectors)[0] @ self.model.viewer(viewer, self._tokens_of, self._vectors)
        )

    def sweep(self, n_rows: int = _N_SWEPT) -> None:
        """Look at some rows: take out posts that the post store let go of, write down languages found out since."""
        if not len(self._ids):
            return
        start = self._swept % len(self._ids)
        rows = np.arange(start, min(start + n_rows, len(self._ids)))
        self._swept = int(rows[-1]) + 1
        rows = rows[self._ids[rows] != NO_ID]
        found = self._posts.find(self._ids[rows])
        self._take_out(rows[found < 0])
        rows, found = rows[found >= 0], found[found >= 0]
        has_changed = self._posts.gather(found).language != self._languages[rows]
        self._put(rows[has_changed], self._ids[rows[has_changed]])

    def close(self) -> None:
        """Wait for what the index does aside."""
        self._index.close()

    def _put(self, rows: npt.NDArray[np.intp], post_ids: Int64Array) -> None:
        found = self._posts.find(post_ids)  # what it has let go of already, nobody can be shown
        rows, found = rows[found >= 0], found[found >= 0]
        if not len(rows):
            return
        columns = self._posts.gather(found)
        vectors = self.model.posts(self._encoder.encode(found), self._vectors)
        self._index.add(columns.post_id, vectors, columns.created_ms, columns.author_id, columns.language)
        self._ids[rows] = columns.post_id
        self._languages[rows] = columns.language

    def _take_out(self, rows: npt.NDArray[np.intp]) -> None:
        if len(rows):
            self._index.remove(self._ids[rows])
            self._ids[rows] = NO_ID

    def _make_room(self, n_rows: int) -> None:
        n_more = n_rows - len(self._ids)
        if n_more > 0:
            self._revisions = np.concatenate([self._revisions, np.zeros(n_more, dtype=np.int64)])
            self._ids = np.concatenate([self._ids, np.full(n_more, NO_ID, dtype=np.int64)])
            self._languages = np.concatenate([self._languages, np.zeros(n_more, dtype=np.int32)])

    def _tokens_of(self, post_ids: Int64Array) -> UInt16Array:
        return self._texts.content(post_ids)[0]


class PostIndexes:
    """The indexes of all versions that serve in one process; an `EventListener`, so that each is as new as the stores.

    Parameters
    ----------
    state, texts
        Of the replica that this listens to.
    """

    def __init__(self, state: State, texts: TextIndex) -> None:
        self._state = state
        self._texts = texts
        self._by_version: dict[str, PostIndex] = {}

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that have an index."""
        return tuple(self._by_version)

    def find(self, version: str) -> PostIndex | None:
        """Return the index of a version, if there is one."""
        return self._by_version.get(version)

    def open(self, model: RetrievalModel) -> PostIndex:
        """Return the index of a version, begun if there is none; it is filled with what follows, see `advance`."""
        index = self._by_version.get(model.version)
        if index is None:
            index = self._by_version[model.version] = PostIndex(model, self._state, self._texts)
        return index

    def drop(self, version: str) -> None:
        """Let go of a version's index, if there is one: it follows no more, and its memory is free.

        Nobody waits for lists that it is learning aside: that ends by itself, and its memory with it.
        """
        self._by_version.pop(version, None)

    def advance(self) -> bool:
        """Do one step for every index; return whether all are up to date. For a loop beside the replica's."""
        return not sum(index.follow() for index in self._by_version.values())

    def hear(self, batch: EventBatch) -> None:  # noqa: ARG002 - the stores have applied it; their rows tell
        """Follow the stores, which have applied a batch of events."""
        self.advance()
