"""Safety labels: which of them a post carries, itself or through its author, its parent or its parent's author."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from millrace.features.columns import (
    AUTHOR_ID,
    IS_UNSAFE,
    IS_UNSAFE_FOR_STRANGERS,
    PARENT_AUTHOR_ID,
    PARENT_ID,
    POST_ID,
    SAFETY_LABELS,
)
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.labels import LabelStore


class LabelsHydrator(Hydrator):
    """Reads the labels of all that a candidate shows: post, author, and the post it replies to, reposts or quotes.

    If it fails there is no older knowledge to go by: the store is in this process. The flags are then as if every
    post were unsafe, and the filter that reads them drops all.

    Parameters
    ----------
    labels
        The store.
    unsafe
        Names of the labels that hide a post from everybody.
    unsafe_for_strangers
        Names of the labels that hide it from those who do not follow its author.
    """

    name = "labels"
    reads = (POST_ID, AUTHOR_ID, PARENT_ID, PARENT_AUTHOR_ID)
    writes = (SAFETY_LABELS, IS_UNSAFE, IS_UNSAFE_FOR_STRANGERS)

    def __init__(self, labels: LabelStore, unsafe: Iterable[str], unsafe_for_strangers: Iterable[str]) -> None:
        self._labels = labels
        self._unsafe = tuple(unsafe)
        self._for_strangers = tuple(unsafe_for_strangers)

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the labels that count here, and the flags; next to nothing to do where no such label was ever set."""
        # Asked at every request: a label has no bit before it is first set.
        unsafe, for_strangers = self._labels.mask_of(self._unsafe), self._labels.mask_of(self._for_strangers)
        found = np.zeros(batch.n, dtype=np.uint64)
        if unsafe | for_strangers:
            for column in (POST_ID, PARENT_ID):
                found |= self._labels.post_labels(batch[column])
            for column in (AUTHOR_ID, PARENT_AUTHOR_ID):
                found |= self._labels.user_labels(batch[column])
        return {
            SAFETY_LABELS: found & (unsafe | for_strangers),
            IS_UNSAFE: found & unsafe != 0,
            IS_UNSAFE_FOR_STRANGERS: found & for_strangers != 0,
        }
