"""`HomeRetrieval`: what finds posts by learned vectors in one process, as new as its stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from millrace.mixer.home_models import MODELS
from millrace.pipeline.query import Query
from millrace.stores.fold import EventBatch

if TYPE_CHECKING:
    from millrace.inference.post_index import PostIndex, PostIndexes
    from millrace.mixer.feed_state import FeedState

MAX_VERSIONS: Final = 4
"""Indexes that are kept; what serves is asked for all the time, what served before is let go of."""


class HomeRetrieval:
    """The post indexes of a process; an `EventListener` of its replica. Belongs to the thread of the stores.

    Parameters
    ----------
    fills_at_once
        Whether the first request of a version waits until its index is whole. A server's does not: until then its
        pages are made without.
    """

    def __init__(self, *, fills_at_once: bool = False) -> None:
        self._fills_at_once = fills_at_once
        self._state: FeedState | None = None
        self._indexes: PostIndexes | None = None
        self._used: dict[str, None] = {}

    def attach(self, state: FeedState) -> None:
        """Follow a state from now on: the restored one, which is another object than the empty one before."""
        self._state, self._indexes = state, None
        self._used.clear()

    def hear(self, batch: EventBatch) -> None:
        """Follow the stores, which have applied a batch of events."""
        if self._indexes is not None:
            self._indexes.hear(batch)

    def advance(self) -> bool:
        """Do one step for what is not filled yet; return whether all are up to date."""
        return self._indexes is None or self._indexes.advance()

    def retriever_of(self, query: Query) -> PostIndex | None:
        """Return the index of a request's towers; None where it has none, or it is not whole yet."""
        model = query[MODELS].retrieval
        if model is None or self._state is None:
            return None
        if self._indexes is None:
            # With the first model, not before: a home without models needs neither ONNX Runtime nor faiss.
            from millrace.inference.post_index import PostIndexes

            self._indexes = PostIndexes(self._state, self._state.texts)
        index = self._indexes.open(model)
        self._used.pop(model.version, None)
        self._used[model.version] = None
        while len(self._used) > MAX_VERSIONS:
            oldest = next(iter(self._used))
            del self._used[oldest]
            self._indexes.drop(oldest)
        if not index.is_filled and self._fills_at_once:
            index.fill()
        return index if index.is_filled else None
