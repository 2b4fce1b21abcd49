"""`Slates`: what was seen together, what was done with it, and how far the log may be read to predict it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from millrace.flywheel.metrics import IntArray
from millrace.flywheel.sample_set import ranges, starts_of

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Slates:
    """Rows are posts that were seen, grouped by slate; slates stand in the order of their cuts.

    Attributes
    ----------
    starts
        Shape (n_slates + 1,): the rows of slate ``s`` are ``starts[s]:starts[s + 1]``.
    viewers, began_ms, ended_ms, cuts, requests
        Shape (n_slates,): who looked, when, when the last look began, how far the log may be read, and the request (0
        where none is named).
    post_ids, labels, served_scores, positions
        Shape (n,), (n, n_actions), (n,) and (n,): what was seen, what was done (seconds for continuous actions), the
        score that the page was sent with, NaN where none is logged, and the place on the page, -1 where not known.
    delays_ms
        How long after the beginning of their looks all actions of the log came that belong to one, in no order.
    n_unplaced
        Impressions left out because they name neither request nor position: nobody knows what else was there.
    n_unmatched
        Actions within the span to which no look was found.
    n_open
        Rows whose window had not ended when the log did.
    """

    starts: IntArray
    viewers: IntArray
    began_ms: IntArray
    ended_ms: IntArray
    cuts: IntArray
    requests: IntArray
    post_ids: IntArray
    labels: Float32Array
    served_scores: Float32Array
    positions: IntArray
    delays_ms: IntArray
    n_unplaced: int
    n_unmatched: int
    n_open: int

    def __len__(self) -> int:
        return len(self.viewers)

    @property
    def slate_of(self) -> IntArray:
        """The slate of each row, shape (n,), int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def take(self, slates: IntArray) -> Slates:
        """Return some slates with their rows; what is said of the log as a whole stays."""
        rows = ranges(self.starts[slates], self.starts[slates + 1])
        return replace(
            self,
            starts=starts_of(np.diff(self.starts)[slates]),
            viewers=self.viewers[slates],
            began_ms=self.began_ms[slates],
            ended_ms=self.ended_ms[slates],
            cuts=self.cuts[slates],
            requests=self.requests[slates],
            post_ids=self.post_ids[rows],
            labels=self.labels[rows],
            served_scores=self.served_scores[rows],
            positions=self.positions[rows],
        )
