"""`Partition`: how space is cut into lists, and what the codes of a product quantiser stand for.

Lists are the cells of a spherical k-means (faiss). Codes follow Jégou, Douze and Schmid, "Product quantization for
nearest neighbor search" (2011): the vector less its cell's centroid, cut into parts, each part named by the nearest of
256 words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import faiss
import numpy as np

from millrace.base.int_table import Int32Array
from millrace.inference.vector_index_codes import encoded
from millrace.inference.vector_index_kernels import Float32Array, UInt8Array, nearest

SAMPLE_PER_LIST: Final = 64
"""Vectors per list that k-means looks at."""
MIN_SAMPLE: Final = 20_000
"""At least so many, if there are, for the words of the codes."""
_N_ROUNDS: Final = 10
_N_WORDS: Final = 256


@dataclass(frozen=True)
class Partition:
    """A trained partition.

    Attributes
    ----------
    centroids
        Shape (n_lists, d), float32, of length 1.
    nearness
        Shape (n_lists,), float32: the mean inner product of a list's vectors with its centroid.
    codebooks
        Shape (parts, 256, d / parts), float32; no parts where vectors are kept whole.
    """

    centroids: Float32Array
    nearness: Float32Array
    codebooks: Float32Array

    @property
    def code_size(self) -> int:
        """Bytes of a code."""
        return len(self.codebooks)

    def hopes(self, list_scores: Float32Array, reach: float) -> Float32Array:
        """Return by list the score that next to none of its vectors exceeds, given the query's with the centroids.

        Of a list's vectors, of length 1 and r near their centroid on the mean, what the centroid does not explain is of
        length sqrt(1 - r²); if it has no preferred direction, its product with the query has a standard deviation of
        sqrt((1 - r²) / d). ``reach`` is how many of these above the mean are looked at.
        """
        spread = np.sqrt(np.maximum(1.0 - np.square(self.nearness), 0.0) / self.centroids.shape[1])
        hopes: Float32Array = (self.nearness * list_scores + reach * spread).astype(np.float32)
        return hopes

    def lists(self, vectors: Float32Array) -> Int32Array:
        """Return the list of each vector, shape (n,)."""
        return nearest(vectors, self.centroids)

    def codes(self, vectors: Float32Array, lists: Int32Array) -> UInt8Array:
        """Return the codes of vectors in their lists, shape (n, code_size)."""
        return encoded(vectors, lists, self.centroids, self.codebooks)


def one_list(n_dims: int) -> Partition:
    """Return what there is before training: a single list."""
    return Partition(
        centroids=np.zeros((1, n_dims), dtype=np.float32),
        nearness=np.zeros(1, dtype=np.float32),
        codebooks=np.zeros((0, _N_WORDS, 1), dtype=np.float32),
    )


def trained(sample: Float32Array, n_lists: int, code_size: int, seed: int) -> Partition:
    """Return the partition of a sample of vectors: k-means of ten rounds on one thread. The same in gives the same out.

    Parameters
    ----------
    sample
        Shape (n, d), float32, n at least ``n_lists``, and at least 256 if there are codes.
    n_lists
        How many lists.
    code_size
        Bytes of a code, a divisor of d; 0 for none.
    seed
        Of the first centroids.
    """
    faiss.omp_set_num_threads(1)  # of the calling thread: requests need the other cores
    n_dims = sample.shape[1]
    cells = faiss.Kmeans(
        n_dims,
        n_lists,
        niter=_N_ROUNDS,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE_PER_LIST,
    )
    cells.train(sample)
    centroids = np.ascontiguousarray(cells.centroids, dtype=np.float32)
    lists = nearest(sample, centroids)
    scores = np.einsum("ij,ij->i", sample, centroids[lists])
    counts = np.bincount(lists, minlength=n_lists)
    # A list that the sample does not know is as near as the lists are on the mean.
    nearness = np.bincount(lists, weights=scores, minlength=n_lists) + scores.mean()
    nearness = (nearness / (counts + 1)).astype(np.float32)
    if code_size == 0:
        return Partition(centroids, nearness, one_list(n_dims).codebooks)
    quantiser = faiss.ProductQuantizer(n_dims, code_size, 8)
    quantiser.cp.min_points_per_centroid = 1
    quantiser.cp.seed = seed
    quantiser.train(sample - centroids[lists])
    words = faiss.vector_to_array(quantiser.centroids)
    codebooks = words.reshape(code_size, _N_WORDS, n_dims // code_size).astype(np.float32)
    return Partition(centroids, nearness, codebooks)
