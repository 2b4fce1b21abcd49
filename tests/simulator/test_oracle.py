from __future__ import annotations

import numpy as np

from millrace.simulator.atlas import Atlas
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.oracle import Oracle
from millrace.simulator.world import World

NOW_MS = 1_767_571_200_000


def test_posts_of_the_slice_are_known_to_the_oracle_once_the_slice_is_over() -> None:
    world = World(WorldConfig(size="tiny"), NOW_MS)
    assert sum(1 for _ in world.history()) > 1_000
    atlas = Atlas(world.narrator, world.people.n_users)
    atlas.extend(world.posts.n_posts)
    oracle, n_before = Oracle(world, atlas), world.posts.n_posts
    for start_ms in range(NOW_MS, NOW_MS + 6 * HOUR_MS, world.slice_ms):
        list(world.open_slice(start_ms, start_ms + world.slice_ms))
    assert world.posts.n_posts > n_before
    later_ms = NOW_MS + 6 * HOUR_MS + 1  # a session that lasts into the next slice
    live = oracle.live(later_ms)
    assert len(live) > 0
    assert live.max() < n_before
    assert len(atlas.insides(live)) == len(live)
    atlas.extend(world.posts.n_posts)
    assert np.setdiff1d(oracle.live(later_ms), live).min() >= n_before
