"""What a pre-ranker keeps of what its ranker would have liked best: the figure that tells what cutting costs a page.

A page of some 2,000 candidates is cut to 500. Of the ranker's best 50, and of its best 500, a share is among the 500
that the pre-ranker leaves. A page of fewer candidates is judged by the same shares of them (a fortieth and a quarter
are wanted, a quarter is kept), so that small worlds tell something too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.order import top_k
from millrace.flywheel.bootstrap import Interval, ViewerBootstrap, interval
from millrace.flywheel.metrics import Float64Array, FloatArray

PAGE: Final = 2_000
KEPT: Final = 500
BEST: Final = (50, 500)
"""Of a page of so many candidates so many are left, and so many are wanted."""

_N_RESAMPLES: Final = 1_000


class KeptShare(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the ranker's best, in the mean over pages; intervals: pages are what is drawn.

    Attributes
    ----------
    n_pages
        How many pages were looked at.
    n_candidates
        How many candidates a page had, in the mean; of those that were logged in part, how many there were.
    kept_50, kept_500
        Shares between 0 and 1, with the interval's ends; NaN without pages.
    """

    n_pages: int
    n_candidates: float
    kept_50: Interval
    kept_500: Interval


def kept_share(
    teacher: FloatArray, student: FloatArray, ids: Int64Array, weights: FloatArray, starts: Int64Array
) -> KeptShare:
    """Return what a student keeps of its teacher's best.

    Parameters
    ----------
    teacher, student
        Shape (n,): the value of each candidate by either's predictions.
    ids
        Shape (n,): ties go by it, as they do when served.
    weights
        Shape (n,): for how many candidates of its page each stands; 1 where all were logged.
    starts
        Shape (n_pages + 1,): where each page's candidates begin.
    """
    pages = [slice(*edges) for edges in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    shares = np.array(
        [
            kept_of_page(teacher[page], student[page], ids[page], weights[page])
            for page in pages
            if page.stop > page.start
        ]
    ).reshape(-1, len(BEST))
    n = len(shares)
    if not n:
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return KeptShare(n_pages=0, n_candidates=0.0, kept_50=nothing, kept_500=nothing)
    rows = np.arange(n)
    draws = ViewerBootstrap(rows, _N_RESAMPLES if n > 1 else 0)
    fifty, five_hundred = (interval(float(share.mean()), draws.ratio(share, np.ones(n), rows)) for share in shares.T)
    return KeptShare(n_pages=n, n_candidates=float(weights.sum()) / n, kept_50=fifty, kept_500=five_hundred)


def kept_of_page(
    teacher: FloatArray, student: FloatArray, ids: Int64Array, weights: FloatArray, best: Sequence[int] = BEST
) -> list[float]:
    """Return, for each number in ``best``, the share of the teacher's so many best that the student leaves."""
    each: Float64Array = np.asarray(weights, dtype=np.float64)
    scale = min(float(each.sum()) / PAGE, 1.0)
    left = _within(student, ids, each, np.ceil(scale * KEPT))
    shares = []
    for n_best in best:
        wanted = _within(teacher, ids, each, np.ceil(scale * n_best))
        shares.append(float((wanted * left / each).sum() / wanted.sum()))
    return shares


def _within(values: FloatArray, ids: Int64Array, weights: Float64Array, n_first: float) -> Float64Array:
    """Return how much of each candidate's weight is among the first so many by value; a row may lie across the edge."""
    order = top_k(np.asarray(values, dtype=np.float32), ids, len(values))
    ends = np.cumsum(weights[order])
    inside = np.empty(len(order))
    inside[order] = np.clip(n_first - (ends - weights[order]), 0.0, weights[order])
    return inside
