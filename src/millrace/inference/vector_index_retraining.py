"""`Retraining`: new lists made beside the old ones, a little between requests, until they can take their place.

A thread of its own learns the new partition from a copied sample; faiss lets go of Python's lock meanwhile. Then the
index's own thread carries the rows over, so many a call, and what comes and goes in between is written to both. No
search waits, none sees half of it, and for that time the rows are in memory twice.
"""

from __future__ import annotations

import threading

import numpy as np

from millrace.base.ids import Int64Array
from millrace.inference.vector_index_kernels import Float32Array
from millrace.inference.vector_index_partition import MIN_SAMPLE, SAMPLE_PER_LIST, Partition, trained
from millrace.inference.vector_index_rows import PostVectors, VectorRows


class Retraining:
    """One retraining, begun when it is made.

    Parameters
    ----------
    rows
        The rows as they are; a sample of them is copied.
    n_lists
        How many lists there shall be.
    code_size
        Bytes of a code, 0 for vectors kept whole.
    """

    def __init__(self, rows: VectorRows, n_lists: int, code_size: int) -> None:
        self._rows = rows
        self._n_lists = n_lists
        self._code_size = code_size
        # Equal rows give equal samples and so equal lists, on every replica.
        sample = rows.gather(rows.sample_ids(max(n_lists * SAMPLE_PER_LIST, MIN_SAMPLE))).vectors
        self._partition: Partition | None = None
        self._aside: VectorRows | None = None
        self._left: Int64Array = np.empty(0, dtype=np.int64)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._train, args=(sample,), name="vector-index-training", daemon=True)
        self._thread.start()

    def _train(self, sample: Float32Array) -> None:
        try:
            self._partition = trained(sample, self._n_lists, self._code_size, seed=len(sample))
        except Exception as error:  # noqa: BLE001 - told to the index's own thread
            self._failure = error

    def add(self, rows: PostVectors) -> None:
        """Write rows that the index was given since."""
        if self._aside is not None and self._partition is not None:
            lists = self._partition.lists(rows.vectors)
            self._aside.add(rows, lists, self._partition.codes(rows.vectors, lists))

    def remove(self, post_ids: Int64Array) -> None:
        """Take out posts that have left the index since."""
        if self._aside is not None:
            self._aside.remove(post_ids)

    def advance(self, max_rows: int) -> tuple[Partition, VectorRows] | None:
        """Carry over some rows; return the new partition and rows once all are there.

        Raises
        ------
        Exception
            What the training raised.
        """
        if self._thread.is_alive():
            return None
        if self._partition is None:
            raise self._failure or RuntimeError("the training ended without a partition")
        if self._aside is None:
            self._aside = VectorRows(self._rows.n_dims, self._n_lists, self._code_size, len(self._rows))
            self._left = self._rows.post_ids()
        self.add(self._rows.gather(self._left[:max_rows]))
        self._left = self._left[max_rows:]
        return None if len(self._left) else (self._partition, self._aside)

    def wait(self) -> None:
        """Wait until the partition is learnt."""
        self._thread.join()
