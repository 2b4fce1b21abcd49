"""`JoinColumns`: records of a log as the streaming join reads them, hashed, columns side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array

OTHER: Final = 0
PAGE: Final = 1
LOOK: Final = 2
DEED: Final = 3
"""Kinds of records: of no interest but for its time; `FeaturesLogged`; `Impression`; `Engagement`."""


@dataclass(frozen=True, slots=True)
class JoinColumns:
    """Records in log order, n of them, with n_pages pages among them.

    Attributes
    ----------
    kinds
        Shape (n,), uint8: `OTHER`, `PAGE`, `LOOK` or `DEED`.
    offsets, times_ms
        Shape (n,), int64: place in the log, and effective time: min(event_time_ms, appended_ms).
    viewers, requests, posts
        Shape (n,), int64, inside ids; 0 where there is none.
    dwells_ms, positions
        Shape (n,), int64, of looks: time on screen; place on the page, -1 where it was not told.
    codes
        Shape (n,), int32, of deeds: the action.
    flags
        Shape (n,), uint8. Of looks: the video or audio was seen whole. Of deeds: the action was taken back.
    page_starts
        Shape (n_pages + 1,), int64: the posts of the k-th page of these records are
        ``page_posts[page_starts[k]:page_starts[k + 1]]``.
    page_posts
        Inside ids, int64, in the order of the logged rows.
    """

    kinds: npt.NDArray[np.uint8]
    offsets: Int64Array
    times_ms: Int64Array
    viewers: Int64Array
    requests: Int64Array
    posts: Int64Array
    dwells_ms: Int64Array
    positions: Int64Array
    codes: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint8]
    page_starts: Int64Array
    page_posts: Int64Array

    def __len__(self) -> int:
        return len(self.kinds)

    def slice(self, start: int, stop: int) -> JoinColumns:
        """Return some of the records, one after the other."""
        first = int(np.count_nonzero(self.kinds[:start] == PAGE))
        last = first + int(np.count_nonzero(self.kinds[start:stop] == PAGE))
        starts = self.page_starts[first : last + 1]
        columns: dict[str, npt.NDArray[Any]] = {
            name: getattr(self, name)[start:stop] for name in self.__slots__ if not name.startswith("page_")
        }
        return JoinColumns(
            **columns, page_starts=starts - starts[0], page_posts=self.page_posts[starts[0] : starts[-1]]
        )


class JoinBuffer:
    """Gathers records one by one until they are wanted as columns."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, int, int, int, int, int]] = []
        self._page_sizes: list[int] = []
        self._page_posts: list[Int64Array] = []

    def __len__(self) -> int:
        return len(self._rows)

    def other(self, offset: int, time_ms: int) -> None:
        """Take in a record that only tells the time."""
        self._rows.append((OTHER, offset, time_ms, 0, 0, 0, 0, -1, 0, 0))

    def page(self, offset: int, time_ms: int, viewer: int, request: int, posts: Int64Array) -> None:
        """Take in what was logged of a page; posts in the order of its rows."""
        self._rows.append((PAGE, offset, time_ms, viewer, request, 0, 0, -1, 0, 0))
        self._page_sizes.append(len(posts))
        self._page_posts.append(np.asarray(posts, dtype=np.int64))

    def look(
        self,
        offset: int,
        time_ms: int,
        viewer: int,
        request: int,
        post: int,
        dwell_ms: int,
        position: int,
        *,
        is_complete: bool,
    ) -> None:
        """Take in an impression; position -1 where it was not told."""
        self._rows.append((LOOK, offset, time_ms, viewer, request, post, dwell_ms, position, 0, int(is_complete)))

    def deed(
        self, offset: int, time_ms: int, viewer: int, request: int, post: int, action: int, *, is_undo: bool
    ) -> None:
        """Take in an engagement."""
        self._rows.append((DEED, offset, time_ms, viewer, request, post, 0, -1, action, int(is_undo)))

    def take(self) -> JoinColumns:
        """Return what was gathered, and begin anew."""
        table = np.array(self._rows, dtype=np.int64).reshape(-1, 10).T.copy()
        columns = JoinColumns(
            kinds=table[0].astype(np.uint8),
            offsets=table[1],
            times_ms=table[2],
            viewers=table[3],
            requests=table[4],
            posts=table[5],
            dwells_ms=table[6],
            positions=table[7],
            codes=table[8].astype(np.int32),
            flags=table[9].astype(np.uint8),
            page_starts=np.concatenate(([0], np.cumsum(self._page_sizes))).astype(np.int64),
            page_posts=np.concatenate([np.empty(0, dtype=np.int64), *self._page_posts]),
        )
        self._rows, self._page_sizes, self._page_posts = [], [], []
        return columns
