"""`PageRing`: the newest pages as the ranker saw them, and the rows of them that a look or an action belongs to.

A light join, for monitoring and near-line learning alone: bounded by count, in the order of the log, without windows.
Samples for training come from the streaming join.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.features.encoding.logged import LoggedInputs
from millrace.features.hashed_crosses import Int32Array

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Page:
    """A page that a ranker has predicted for; n rows.

    Attributes
    ----------
    number
        Counts the pages.
    model
        The ranker's version.
    request, viewer
        Inside ids.
    posts, contents, authors
        Shape (n,), inside ids: what was on the page; what a viewer would see of it; who sent it.
    deep, counted
        Shape (n, n_heads), float32: what the ranker and the counters predicted; ``counted`` may be None.
    dense
        Shape (n, n_fields), uint8: the ranker's dense features.
    slots
        Shape (n, n_crosses): the fast layer's.
    calibrated, base, fast
        Shape (n, n_heads), float32: what calibration would have predicted, what the fast layer stood on, and what it
        made of that, before anything of this page was learned.
    is_seen, is_settled
        Shape (n,), bool.
    labels
        Shape (n, n_heads), float32.
    dwell_ms
        Shape (n,), int64: the longest look.
    """

    number: int
    model: str
    request: int
    viewer: int
    posts: Int64Array
    contents: Int64Array
    authors: Int64Array
    deep: Float32Array
    counted: Float32Array | None
    dense: npt.NDArray[np.uint8]
    slots: Int32Array
    calibrated: Float32Array
    base: Float32Array
    fast: Float32Array
    is_seen: BoolArray
    is_settled: BoolArray
    labels: Float32Array
    dwell_ms: Int64Array
    row_of: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.posts)


def a_page(number: int, model: str, request: int, logged: LoggedInputs, slots: Int32Array) -> Page:
    """Return a page as it was logged; what the near-line layer would predict is the ranker's own until it is set."""
    rows = logged.rows
    deep = rows.predictions if rows.deep is None else rows.deep
    n = len(rows)
    return Page(
        number=number,
        model=model,
        request=request,
        viewer=logged.viewer.viewer_id,
        posts=rows.post_ids,
        contents=rows.inputs.post_ids,
        authors=rows.inputs.author_ids,
        deep=deep,
        counted=rows.baseline,
        dense=rows.inputs.dense,
        slots=slots,
        calibrated=deep,
        base=deep,
        fast=deep,
        is_seen=np.zeros(n, dtype=np.bool_),
        is_settled=np.zeros(n, dtype=np.bool_),
        labels=np.zeros(deep.shape, dtype=np.float32),
        dwell_ms=np.zeros(n, dtype=np.int64),
        row_of={post: row for row, post in enumerate(rows.post_ids.tolist())},
    )


class PageRing:
    """The newest pages.

    Parameters
    ----------
    max_pages
        Of more than these the oldest go.
    """

    def __init__(self, max_pages: int) -> None:
        self._max = max_pages
        self._by_request: OrderedDict[tuple[int, int], Page] = OrderedDict()
        self._newest: dict[tuple[int, int], Page] = {}  # (viewer, post): the page that showed it last

    def __len__(self) -> int:
        return len(self._by_request)

    def add(self, page: Page) -> bool:
        """Take a page in; return whether it is new."""
        key = page.viewer, page.request
        if key in self._by_request:
            return False
        self._by_request[key] = page
        self._newest.update(dict.fromkeys(((page.viewer, post) for post in page.row_of), page))
        if len(self._by_request) > self._max:
            _, oldest = self._by_request.popitem(last=False)
            for post in oldest.row_of:
                if self._newest.get((oldest.viewer, post)) is oldest:
                    del self._newest[oldest.viewer, post]
        return True

    def find(self, viewer: int, request: int, post: int) -> tuple[Page, int] | None:
        """Return the page and the row of a look or an action; ``request`` 0: the viewer's newest page that has it."""
        page = self._by_request.get((viewer, request)) if request else self._newest.get((viewer, post))
        row = None if page is None else page.row_of.get(post)
        return None if page is None or row is None else (page, row)

    def knows(self, viewer: int, request: int) -> bool:
        """Return whether a page is here."""
        return (viewer, request) in self._by_request

    def forget(self, viewer: int) -> None:
        """Let go of a viewer's pages: erasure."""
        for key in [key for key in self._by_request if key[0] == viewer]:
            page = self._by_request.pop(key)
            for post in page.row_of:
                self._newest.pop((viewer, post), None)
