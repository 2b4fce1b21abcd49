"""How much a post's text is like what the viewer liked."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.kernels import njit
from millrace.base.params import Param
from millrace.features.columns import CONTENT_ID, TEXT_TASTE
from millrace.features.query_fields import LIKED_POSTS
from millrace.mixer.rerankers.vectors import Float32Array, PostVectors
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator

MAX_LIKED: Final = Param("taste.max_liked", 32, 0, 1_024, "newest liked posts that candidates' texts are compared with")

_N_NEAREST: Final = 3
"""One like may have been chance, three of a kind are a taste. Who liked fewer has less of one."""


class TasteHydrator(Hydrator):
    """Compares candidates' text vectors with those of the viewer's newest likes: the mean of the three best cosines.

    Parameters
    ----------
    texts
        Vectors of posts.
    """

    name = "taste"
    reads = (CONTENT_ID, LIKED_POSTS)
    writes = (TEXT_TASTE,)
    params = (MAX_LIKED,)

    def __init__(self, texts: PostVectors) -> None:
        self._texts = texts

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the likeness, 0 for posts without a text and for viewers without likes."""
        liked, has_liked = self._texts.vectors(query[LIKED_POSTS][: query.params.get_int(MAX_LIKED)])
        liked = liked[has_liked]
        taste = np.zeros(batch.n, dtype=np.float32)
        if len(liked) and batch.n:
            vectors, has = self._texts.vectors(batch[CONTENT_ID])
            taste = np.where(has, best_of_each(vectors @ liked.T), np.float32(0.0))
        return {TEXT_TASTE: taste}


@njit(cache=True)
def best_of_each(cosines: Float32Array) -> Float32Array:
    """Return the mean of each row's three best, those below 0 and those that it lacks counting as 0; shape (n,)."""
    out = np.empty(len(cosines), dtype=np.float32)
    for i in range(len(cosines)):
        first = second = third = np.float32(0.0)
        for j in range(cosines.shape[1]):
            # No branches: which way they went, nobody could foretell.
            cosine = cosines[i, j]
            below = min(cosine, first)
            first = max(cosine, first)
            lowest = min(below, second)
            second = max(below, second)
            third = max(lowest, third)
        out[i] = (first + second + third) / np.float32(_N_NEAREST)
    return out
