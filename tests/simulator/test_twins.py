"""Twin worlds share every draw, and a world that was written down goes on as the one that was not."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.simulator.atlas import Atlas
from millrace.simulator.loop import Loop, SliceDone
from millrace.simulator.mechanisms import MECHANISMS
from millrace.simulator.snapshot import Snapshot, read_snapshot, under_way, write_snapshot
from millrace.simulator.world import World
from millrace.testing.small_worlds import NOW_MS, SmallWorld, a_small_world

CODEC = EventCodec(EventRegistry())
UNMOVED = {"mood_pull": 0.0, "creator_pull": 0.0}


def looks_by_pair(small: SmallWorld, slices: list[SliceDone]) -> dict[tuple[int, int], tuple[object, ...]]:
    """Return what came of each first look of a viewer at a post: probabilities, actions, time."""
    found: dict[tuple[int, int], tuple[object, ...]] = {}
    for done in slices:
        for round_ in done.rounds:
            looks = round_.looks
            for i in np.flatnonzero(looks.is_examined).tolist():
                pair = (int(looks.slates.viewer[i]), int(looks.situation.key[i]))
                response = looks.response
                found.setdefault(pair, (response.probs[i], response.dwell_mu[i], looks.did[i], looks.dwell_ms[i]))
    return found


def test_twins_do_alike_before_the_same_post_even_when_their_histories_have_diverged() -> None:
    first, second = a_small_world(limit=20), a_small_world(limit=20, oldest_first=True)
    ours, theirs = (looks_by_pair(small, small.run(30)) for small in (first, second))
    assert set(ours) != set(theirs)
    n_same = n_alike = 0
    for pair in set(ours) & set(theirs):
        probs, mu, did, dwell_ms = ours[pair]
        probs_2, mu_2, did_2, dwell_ms_2 = theirs[pair]
        n_same += 1
        # One draw decides in both: who is the likelier to act does so whenever the other does.
        likelier = probs[:-4] >= probs_2[:-4]  # type: ignore[index,operator]
        if not (did[-4:].any() or did_2[-4:].any()):  # type: ignore[index]
            assert (did >= did_2)[:-4][likelier].all()  # type: ignore[index,operator]
            assert (did <= did_2)[:-4][~likelier].all()  # type: ignore[index,operator]
        assert np.log(dwell_ms / dwell_ms_2) == pytest.approx(mu - mu_2, abs=0.01)  # type: ignore[operator]
        n_alike += bool((did == did_2).all())  # type: ignore[union-attr]
    assert n_same > 50
    assert n_alike > 0.9 * n_same


def test_twins_whose_people_do_not_answer_the_feed_come_and_write_at_the_same_moments() -> None:
    first, second = a_small_world(**UNMOVED), a_small_world(oldest_first=True, **UNMOVED)
    for ours, theirs in zip(first.run(8), second.run(8), strict=True):
        np.testing.assert_array_equal(ours.sessions.viewer, theirs.sessions.viewer)
        np.testing.assert_array_equal(ours.sessions.started_ms, theirs.sessions.started_ms)
    originals = []
    for small in (first, second):
        posts = small.world.posts
        is_original = posts["kind"] == 0
        names = ("key", "author", "created_ms", "topic", "quality", "story")
        originals.append(sorted(zip(*(posts[name][is_original].tolist() for name in names), strict=True)))
    assert originals[0] == originals[1]
    assert [p.post_ids for p in first.client.pages(first.client.requests[-5:])] != [
        p.post_ids for p in second.client.pages(second.client.requests[-5:])
    ]


def test_people_and_feed_of_another_seed_are_others() -> None:
    first, second = a_small_world(), a_small_world(seed=2)
    assert not np.array_equal(first.world.people.interests, second.world.people.interests)


def bytes_of(small: SmallWorld, n_slices: int) -> list[bytes]:
    first = len(small.client.sent)
    small.run(n_slices)
    return [CODEC.encode(event) for event in small.client.sent[first:]]


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_world_that_was_written_down_goes_on_as_the_one_that_was_not(tmp_path: Path, name: str) -> None:
    lateness = {"late_frac": 0.3, "twice_frac": 0.1, "lost_frac": 0.1}
    small = a_small_world(mechanism=name, **lateness)
    small.run(4)
    path = tmp_path / "state.npz"
    mark = Snapshot(
        start_ms=small.now_ms, log_position=7, n_slices=4, under_way=under_way(small.loop.delivery, CODEC.encode)
    )
    write_snapshot(path, mark, small.world)

    world = World(small.world.config, NOW_MS)
    snapshot = read_snapshot(path, world)
    assert snapshot == mark
    assert len(snapshot.under_way) > 0
    atlas = Atlas(world.narrator, world.people.n_users)
    client = copy.deepcopy(small.client)
    loop = Loop(world, client, small.loop.policies, atlas=atlas, limit=10)
    loop.delivery.under_way = [(arrives_ms, CODEC.decode(data)) for arrives_ms, data in snapshot.under_way]
    again = SmallWorld(world, client, atlas, loop, snapshot.start_ms)
    assert bytes_of(again, 5) == bytes_of(small, 5)
    for part, columns in small.world.arrays().items():
        for column, values in columns.items():
            np.testing.assert_array_equal(world.arrays()[part][column], values, err_msg=f"{part}/{column}")
    assert not list(tmp_path.glob("*.new"))
