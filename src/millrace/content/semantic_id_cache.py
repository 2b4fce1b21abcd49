"""`SemanticIdCache`: the codes of live posts, computed once a row of the text index, and anew when it changes."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.content.semantic_ids import MISSING, Codebooks, Int16Array
from millrace.content.text_index import TextIndex

_NEVER = -1


class SemanticIdCache:
    """Gives the semantic ids of posts, for the codebooks of one model and the posts of one process.

    What was edited, deleted or replaced is seen by the revision of its row, so that nothing has to be told.
    2 bytes a level and 8 more for each row of the index.

    Parameters
    ----------
    codebooks
        What codes stand for.
    texts
        The posts' vectors.
    """

    def __init__(self, codebooks: Codebooks, texts: TextIndex) -> None:
        self._codebooks = codebooks
        self._texts = texts
        self._codes: Int16Array = np.empty((0, codebooks.settings.n_levels), dtype=np.int16)
        self._revisions: Int64Array = np.empty(0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self._codes.nbytes + self._revisions.nbytes

    def codes(self, post_ids: Int64Array) -> Int16Array:
        """Return the codes of posts, shape (n, n_levels), int16; -1 at every level where there is no vector."""
        index, rows = self._texts.by_row(), self._texts.rows(post_ids)
        self._grow(len(index.revisions))
        codes = np.full((len(rows), self._codes.shape[1]), MISSING, dtype=np.int16)
        places = np.flatnonzero(rows >= 0)
        known = rows[places]
        old = np.unique(known[self._revisions[known] != index.revisions[known]])
        if len(old):
            # By id, not by row: an erased author's row keeps its numbers, but no post is found at it any more.
            self._codes[old] = self._codebooks.encode(self._texts.whole_vectors(index.post_ids[old]))
            self._revisions[old] = index.revisions[old]
        codes[places] = self._codes[known]
        return codes

    def _grow(self, n_rows: int) -> None:
        n_more = n_rows - len(self._revisions)
        if n_more > 0:
            self._codes = np.concatenate([self._codes, np.zeros((n_more, self._codes.shape[1]), dtype=np.int16)])
            self._revisions = np.concatenate([self._revisions, np.full(n_more, _NEVER, dtype=np.int64)])
