"""`HomeRetrieval`: what finds posts by learned vectors in one process, as new as its stores.

Towers that are promoted find nothing until the posts have their vectors, which takes a world of millions minutes. Until
then the towers before them go on answering, with their own index: both are one version, and pages say which it was.
Everything else of a promotion serves at once. An index that no lane and no page needs any more is let go of.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from millrace.mixer.home_models import MODELS, HomeModels, ModelSource
from millrace.pipeline.query import Query
from millrace.registry.pointer import DEFAULT_LANE
from millrace.stores.fold import EventBatch

if TYPE_CHECKING:
    from millrace.inference.post_index import PostIndex, PostIndexes
    from millrace.inference.retrieval_model import RetrievalModel
    from millrace.mixer.feed_state import FeedState
    from millrace.stores.read_gate import ReadGate

_KIND: Final = "retrieval"

_IDLE_S: Final = 0.2
_BETWEEN_S: Final = 0.005
"""A step of filling takes about as long: requests get every other moment."""
_MAX_WAITS: Final = 10


class HomeRetrieval:
    """The post indexes of a process; an `EventListener` of its replica. Belongs to the thread of the stores.

    Parameters
    ----------
    fills_at_once
        Whether the first request of a version waits until its index is whole. A server's does not: until then the
        towers before answer, and where there are none, pages are made without.
    """

    def __init__(self, *, fills_at_once: bool = False) -> None:
        self._fills_at_once = fills_at_once
        self._state: FeedState | None = None
        self._indexes: PostIndexes | None = None
        self._models: ModelSource | None = None
        self._standing: dict[str, str] = {}
        self._n_held: Counter[str] = Counter()

    def attach(self, state: FeedState, models: ModelSource | None = None) -> None:
        """Follow a state from now on: the restored one, which is another object than the empty one before.

        Parameters
        ----------
        state
            What is followed.
        models
            Says what the lanes need; what they do not is let go of. None: everything that was asked for stays.
        """
        self._state, self._indexes, self._models = state, None, models
        self._standing = {}
        self._n_held = Counter()

    @property
    def versions(self) -> Sequence[str]:
        """The versions that have an index now, whole or not."""
        return () if self._indexes is None else self._indexes.versions

    def hear(self, batch: EventBatch) -> None:
        """Follow the stores, which have applied a batch of events."""
        if self._indexes is not None:
            self._indexes.hear(batch)
        self._keep_needed()

    def advance(self) -> bool:
        """Do one step for what is not filled yet; return whether all are up to date."""
        self._keep_needed()
        is_up_to_date = self._indexes is None or self._indexes.advance()
        self._keep_needed()  # what is whole now has a predecessor that has answered for the last time
        return is_up_to_date

    async def keep_filled(self, gate: ReadGate, max_waits: int = _MAX_WAITS) -> None:
        """Fill the index of each version that begins to serve, a batch of posts at a time, between requests.

        Parameters
        ----------
        gate
            Tells whether requests are under way.
        max_waits
            How many moments a step waits for there to be none: a server that is never idle fills its index as well.
        """
        while True:
            if self.advance():
                await asyncio.sleep(_IDLE_S)
                continue
            for _ in range(max_waits):
                await asyncio.sleep(_BETWEEN_S)
                if not gate.n_readers:
                    break

    @contextmanager
    def hold(self, lane: str, models: HomeModels) -> Iterator[HomeModels]:
        """Give a lane's models as they answer now, and keep their index until the block ends.

        The towers are those whose index is whole: the lane's own, else those that answered before them, else none.
        ``versions`` names them.
        """
        index, n_held = self._answering(lane, models), self._n_held
        if index is None:
            yield _with_towers(models, None)
            return
        version = index.model.version
        n_held[version] += 1
        try:
            yield _with_towers(models, index.model)
        finally:
            n_held[version] -= 1
            if not n_held[version]:
                del n_held[version]
                self._keep_needed()

    def retriever_of(self, query: Query) -> PostIndex | None:
        """Return the index of a request's towers; None where it has none, or it is not whole yet."""
        model = query[MODELS].retrieval
        if model is None or self._state is None:
            return None
        index = self._opened(model)
        if index is not None and not index.is_filled and self._fills_at_once:
            index.fill()
        return index if index is not None and index.is_filled else None

    def _answering(self, lane: str, models: HomeModels) -> PostIndex | None:
        if models.retrieval is None or self._state is None:
            return None
        index = self._opened(models.retrieval)
        if index is None or index.is_filled or self._fills_at_once:  # that is when it is asked, if it ever is
            return index
        if self._indexes is None:
            return None
        # A lane that is new was served as the default one until now.
        before = self._standing.get(lane) or self._standing.get(DEFAULT_LANE, "")
        return self._indexes.find(before)

    def _opened(self, model: RetrievalModel) -> PostIndex | None:
        if self._state is None:
            return None
        if self._indexes is None:
            # With the first model, not before: a home without models needs neither ONNX Runtime nor faiss.
            from millrace.inference.post_index import PostIndexes

            self._indexes = PostIndexes(self._state, self._state.texts)
        return self._indexes.open(model)

    def _keep_needed(self) -> None:
        """Begin the indexes that lanes want, and let go of those that no lane wants, answers with, or holds."""
        if self._models is None:
            return
        wanted, standing = set(self._n_held), {}
        for lane, models in self._models.by_lane().items():
            index = None if models.retrieval is None else self._opened(models.retrieval)
            if index is None:
                continue
            wanted.add(index.model.version)
            answers = index.model.version if index.is_filled else self._standing.get(lane, "")
            if answers:
                standing[lane] = answers
        self._standing = standing
        if self._indexes is not None:
            for version in set(self._indexes.versions) - wanted - set(standing.values()):
                self._indexes.drop(version)


class AnsweringModels:
    """The models of another source, with the towers that answer: a page has the same ones from beginning to end.

    Parameters
    ----------
    models
        What the lanes serve.
    retrieval
        Knows whose index is whole.
    """

    def __init__(self, models: ModelSource, retrieval: HomeRetrieval) -> None:
        self._models = models
        self._retrieval = retrieval

    @contextmanager
    def lease(self, lane: str) -> Iterator[HomeModels]:
        """Give a lane's models as they answer now; see `HomeRetrieval.hold`."""
        with self._models.lease(lane) as models, self._retrieval.hold(lane, models) as answering:
            yield answering

    def held(self) -> Sequence[HomeModels]:
        """Return what serves the lanes now."""
        return self._models.held()

    def by_lane(self) -> Mapping[str, HomeModels]:
        """Return what each lane serves now."""
        return self._models.by_lane()


def _with_towers(models: HomeModels, towers: RetrievalModel | None) -> HomeModels:
    """Return models with other towers, or none, and the versions that are true of them."""
    own = models.retrieval
    if own is towers or (own is not None and towers is not None and own.version == towers.version):
        return models
    versions = {kind: version for kind, version in models.versions.items() if kind != _KIND}
    if towers is not None:
        versions[_KIND] = towers.version
    return replace(models, retrieval=towers, versions=versions)
