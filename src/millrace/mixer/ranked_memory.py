"""`RankedMemory`: what was ranked for a viewer a moment ago and not shown. In this process, for some minutes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np

from millrace.base.ids import Int64Array

MAX_VIEWERS: Final = 10_000
MAX_POSTS: Final = 200
TTL_MS: Final = 180_000
"""Three minutes, as in Twitter's scored cache (2023)."""


class RankedMemory:
    """Remembers the best posts that a viewer's newest page left out; ids alone.

    It is no state: nothing depends on it but how quickly good candidates are found again, and it is empty after a
    restart. Time is the requests' own.

    Parameters
    ----------
    max_viewers
        How many viewers; the one whose page is oldest leaves.
    max_posts
        How many posts of each.
    ttl_ms
        How long a page is remembered.
    """

    def __init__(self, max_viewers: int = MAX_VIEWERS, max_posts: int = MAX_POSTS, ttl_ms: int = TTL_MS) -> None:
        self.ttl_ms = ttl_ms
        self.max_posts = max_posts
        self._max_viewers = max_viewers
        self._pages: OrderedDict[int, tuple[int, Int64Array]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def remember(self, viewer_id: int, now_ms: int, post_ids: Int64Array) -> None:
        """Take the posts of a page, best first, in place of the page before."""
        self._pages.pop(viewer_id, None)
        if not len(post_ids):
            return
        self._pages[viewer_id] = (now_ms, post_ids[: self.max_posts].copy())
        if len(self._pages) > self._max_viewers:
            self._pages.popitem(last=False)

    def unserved(self, viewer_id: int, now_ms: int) -> Int64Array:
        """Return the posts of a viewer's newest page, best first, shape (n,), int64; none when it is too long ago."""
        at_ms, post_ids = self._pages.get(viewer_id, (0, np.empty(0, dtype=np.int64)))
        return post_ids if now_ms - at_ms < self.ttl_ms else np.empty(0, dtype=np.int64)
