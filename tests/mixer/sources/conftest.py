"""One source of a world at a time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.mixer.feed import FeedRequest
from millrace.pipeline.query import Query
from millrace.testing.pipeline_world import FeedWorld


class Look:
    """What a source of the home feed returns for a viewer, and why it returns nothing else."""

    def __init__(self, world: FeedWorld, name: str, viewer: str | int, fields: dict[Any, Any]) -> None:
        (self._source,) = (source for source in world.service.pipeline.stages.sources if source.name == name)
        request = FeedRequest(viewer_id=str(viewer), request_id="look", is_dry_run=True)
        query: Query = asyncio.run(world.service.execute(request)).query.with_fields(fields)
        batch: Any = self._source.retrieve(query)
        self._world = world
        self.query = query
        self.keys = batch[POST_ID].tolist()
        self.scores = batch[RETRIEVAL_SCORE].tolist() if RETRIEVAL_SCORE in batch else []
        assert {column for column in batch.columns if column is not POST_ID} == set(self._source.writes)

    def ids(self, among: Sequence[str | int]) -> list[str]:
        """Return the found posts by outside id; all must be among these."""
        known = {self._world.post_id(text): str(text) for text in among}
        return [known[key] for key in self.keys]

    def why_not(self, post: str | int) -> str:
        """Return the source's explanation."""
        return self._source.explain(self.query, self._world.post_id(post))


@pytest.fixture
def look() -> Callable[..., Look]:
    def make(world: FeedWorld, name: str, viewer: str | int = 20, fields: dict[Any, Any] | None = None) -> Look:
        return Look(world, name, viewer, fields or {})

    return make
