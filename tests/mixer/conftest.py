"""Worlds that are closed when their test ends."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.events.envelope import AnyEvent
from millrace.testing.pipeline_world import FeedWorld


@pytest.fixture
def a_world(tmp_path: Path) -> Iterator[Callable[..., FeedWorld]]:
    worlds: list[FeedWorld] = []

    def make(events: Iterable[AnyEvent] = (), **more: Any) -> FeedWorld:
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        worlds.append(FeedWorld(folder, events, **more))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
