"""Item-kNN: a viewer likes what is liked by those who liked the same.

References
----------
Sarwar et al.: Item-based collaborative filtering recommendation algorithms, WWW 2001; Deshpande, Karypis: Item-based
top-N recommendation algorithms, TOIS 2004.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.contract import Predict, by_score, scored_rows
from millrace.flywheel.baselines.interactions import Interactions
from millrace.flywheel.baselines.libraries import library
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.pipeline.ragged import Ragged

N_NEIGHBOURS: Final = 100
SHRINKAGE: Final = 1.0
_POSTS_AT_ONCE: Final = 1024


class ItemKnn:
    """Scores a post by the summed similarities of its nearest neighbours among what the viewer liked.

    The similarity of two posts is the cosine of who liked them, drawn towards 0 where few did. Each post keeps its
    ``n_neighbours`` most similar; ties go to the smaller id.

    Parameters
    ----------
    interactions
        Likings.
    n_neighbours
        Of each post.
    shrinkage
        Added to the product of the norms.
    """

    def __init__(
        self, interactions: Interactions, n_neighbours: int = N_NEIGHBOURS, shrinkage: float = SHRINKAGE
    ) -> None:
        self._interactions = interactions
        self._similar = _similarities(interactions, n_neighbours, shrinkage)

    def scores(self, histories: Ragged, post_ids: Int64Array) -> Float32Array:
        """See `millrace.flywheel.baselines.contract.Scorer`."""
        column = self._interactions.columns_of(post_ids)
        known = np.flatnonzero(column >= 0)
        found = np.zeros((len(histories), len(post_ids)), dtype=np.float32)
        if len(known):
            # Row p of the matrix holds the neighbours of p; transposed, what a liked post gives to p.
            given = self._interactions.rows_of(histories) @ self._similar[column[known]].T
            found[:, known] = given.toarray()
        return found


def fit_item_knn(samples: SampleSet, learned: Int64Array, validated: Int64Array) -> Predict:
    """Return predictions by item-kNN over the learned slates, calibrated on the validated ones."""
    return by_score(scored_rows(ItemKnn(Interactions.of(samples, learned))), samples, learned, validated)


def _similarities(interactions: Interactions, n_neighbours: int, shrinkage: float) -> Any:
    """Return each post's nearest neighbours, `scipy.sparse.csr_matrix` of shape (n_posts, n_posts)."""
    sparse = library("scipy.sparse")
    matrix = interactions.matrix().tocsc()
    n_posts = matrix.shape[1]
    norms = np.sqrt(np.bincount(interactions.columns, minlength=n_posts))
    blocks = [sparse.csr_matrix((0, n_posts), dtype=np.float32)]
    for first in range(0, n_posts, _POSTS_AT_ONCE):
        both = (matrix[:, first : first + _POSTS_AT_ONCE].T @ matrix).tocoo()
        row, column = both.row.astype(np.int64), both.col.astype(np.int64)
        is_other = row + first != column
        row, column, together = row[is_other], column[is_other], both.data[is_other]
        similarity = together / (norms[row + first] * norms[column] + shrinkage)
        order = np.lexsort((column, -similarity, row))
        row, column, similarity = row[order], column[order], similarity[order]
        n_rows = both.shape[0]
        begins = np.searchsorted(row, np.arange(n_rows))
        is_near = np.arange(len(row)) - begins[row] < n_neighbours
        near = (similarity[is_near].astype(np.float32), (row[is_near], column[is_near]))
        blocks.append(sparse.csr_matrix(near, shape=(n_rows, n_posts)))
    return sparse.vstack(blocks, format="csr")
