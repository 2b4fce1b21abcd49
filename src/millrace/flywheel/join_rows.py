"""`JoinedRows`: what the streaming join lets out, columns side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class JoinedRows:
    """Samples, each at one revision; n rows. A row is a post of a page with logged features that was seen.

    What a model saw is not here: ``page_offsets`` and ``page_rows`` say where it was logged.

    Attributes
    ----------
    requests, viewers, posts
        Shape (n,), int64, inside ids. (request, post) is the key, a repost as itself.
    page_offsets
        Shape (n,), int64: log offset of the page's `FeaturesLogged`.
    page_rows
        Shape (n,), int32: the post's row among the arrays of that event.
    positions
        Shape (n,), int64: place on the page as the client told it; -1 if it did not.
    revisions
        Shape (n,), int32: 0 for what the window's end let out; each correction counts on. The newest holds.
    labels
        Shape (n, n_actions), float32, in `Action` order; dwell time in seconds.
    page_ms, looked_ms
        Shape (n,), int64: when the page was made; when the post was first seen. Event time.
    rates
        Shape (n,), float32: the probability with which a row like this is kept; the sample's weight is one over it.
    """

    requests: Int64Array
    viewers: Int64Array
    posts: Int64Array
    page_offsets: Int64Array
    page_rows: npt.NDArray[np.int32]
    positions: Int64Array
    revisions: npt.NDArray[np.int32]
    labels: Float32Array
    page_ms: Int64Array
    looked_ms: Int64Array
    rates: Float32Array

    def __len__(self) -> int:
        return len(self.requests)

    def take(self, rows: npt.NDArray[Any]) -> JoinedRows:
        """Return some of the rows."""
        return JoinedRows(**{name: getattr(self, name)[rows] for name in self.__slots__})
