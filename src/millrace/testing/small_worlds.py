"""Small simulated worlds whose history is over, before the feed of `millrace.testing.feed_client`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.simulator.atlas import Atlas
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Int64Array
from millrace.simulator.loop import Loop, Round, SliceDone
from millrace.simulator.policies import Policy
from millrace.simulator.world import World
from millrace.testing.feed_client import NewestFeedClient

NOW_MS = 1_800_000_000_000
HOME = Policy(name="home")


def a_world_config(**settings: Any) -> WorldConfig:
    """Return a tiny world of sixty people with half a day of history, but for the settings given."""
    usual: dict[str, Any] = {"size": "tiny", "n_users": 60, "history_ms": 12 * HOUR_MS}
    return WorldConfig(**(usual | settings))


@dataclass
class SmallWorld:
    """A world before its feed.

    Attributes
    ----------
    now_ms
        Where its next slice begins.
    """

    world: World
    client: NewestFeedClient
    atlas: Atlas
    loop: Loop
    now_ms: int = NOW_MS

    def run(self, n_slices: int) -> list[SliceDone]:
        """Let some slices pass."""
        done = []
        for _ in range(n_slices):
            done.append(self.loop.run_slice(self.now_ms))
            self.now_ms = done[-1].stop_ms
        return done


def a_small_world(
    *,
    policies: Sequence[Policy] = (HOME,),
    listen: Callable[[Round, Int64Array], None] | None = None,
    oldest_first: bool = False,
    max_posts: int = 1_000_000,
    limit: int = 10,
    **settings: Any,
) -> SmallWorld:
    """Return a world of `a_world_config` at the end of its history."""
    world = World(a_world_config(**settings), NOW_MS)
    client = NewestFeedClient(world.history(), oldest_first=oldest_first, max_posts=max_posts)
    atlas = Atlas(world.narrator, world.people.n_users)
    loop = Loop(world, client, policies, atlas=atlas, limit=limit, listen=listen)
    loop.delivery.under_way = [(event.event_time_ms, event) for event in world.to_come]
    return SmallWorld(world, client, atlas, loop)
