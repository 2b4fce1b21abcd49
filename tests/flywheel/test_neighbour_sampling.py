"""What one step reads: neighbours that are there, none that are to be predicted, each as likely as the others."""

import numpy as np

from millrace.features.follow_edges import FollowEdges
from millrace.flywheel.follow_batches import FollowBatches
from millrace.flywheel.neighbour_sampling import NeighbourSampler


def star(n: int) -> FollowEdges:
    """User 0 follows everybody else; 1 follows 2."""
    return FollowEdges.of(np.array([0] * n + [1]), np.array([*range(1, n + 1), 2]))


def test_all_neighbours_are_taken_where_there_are_few() -> None:
    sample = NeighbourSampler(star(4), (9, 9)).draw(np.array([2, 0]), np.random.default_rng(0))
    assert sample.users.tolist() == [0, 1, 2, 3, 4]
    last = sample.blocks[1]
    # The first block gives the users that the last reads: 0, 1, 2, 3, 4.
    assert last.own.tolist() == [2, 0]
    assert [last.following.row(0).tolist(), last.following.row(1).tolist()] == [[], [1, 2, 3, 4]]
    assert [last.followers.row(0).tolist(), last.followers.row(1).tolist()] == [[0, 1], []]
    assert sample.blocks[0].own.tolist() == [0, 1, 2, 3, 4]


def test_of_many_every_neighbour_is_as_likely() -> None:
    sampler, rng = NeighbourSampler(star(7), (3,)), np.random.default_rng(0)
    counts = np.zeros(8)
    for _ in range(2_000):
        sample = sampler.draw(np.array([0]), rng)
        drawn = sample.users[sample.blocks[0].following.values]
        assert len(drawn) == 3
        np.add.at(counts, drawn, 1)
    assert counts[0] == 0
    assert np.abs(counts[1:] / 2_000 - 3 / 7).max() < 0.05


def test_hidden_edges_are_looked_along_in_neither_direction() -> None:
    edges = star(3)
    is_hidden = (edges.followers == 0) & (edges.followees == 2)
    block = NeighbourSampler(edges, (9,)).draw(np.array([0, 2]), np.random.default_rng(0), is_hidden).blocks[0]
    sample = NeighbourSampler(edges, (9,)).draw(np.array([0, 2]), np.random.default_rng(0), is_hidden)
    assert sample.users[block.following.row(0)].tolist() == [1, 3]
    assert sample.users[block.followers.row(1)].tolist() == [1]


def test_a_batch_names_followers_candidates_and_what_is_no_negative() -> None:
    rng = np.random.default_rng(2)
    edges = FollowEdges.of(rng.integers(0, 30, size=200), rng.integers(0, 30, size=200))
    batch = FollowBatches(edges, (4, 3), n_edges=16, n_random=8, seed=1).draw(step=5)
    # What the last block gives, in its order: rows of users.
    given = np.arange(len(batch.sample.users))
    for block in batch.sample.blocks:
        given = given[block.own]
    users = batch.sample.users[given]
    followers, candidates = users[batch.followers], users[batch.candidates]
    followed = candidates[batch.positives]
    keys = set(zip(edges.followers.tolist(), edges.followees.tolist(), strict=True))
    assert all(pair in keys for pair in zip(followers.tolist(), followed.tolist(), strict=True))
    for i, follower in enumerate(followers.tolist()):
        for j, candidate in enumerate(candidates.tolist()):
            is_other = (follower, candidate) in keys and j != batch.positives[i]
            assert batch.is_left_out[i, j] == (is_other or follower == candidate)


def test_candidates_are_there_as_often_as_their_frequency_says() -> None:
    rng = np.random.default_rng(2)
    edges = FollowEdges.of(rng.integers(0, 30, size=200), rng.integers(0, 30, size=200))
    batches = FollowBatches(edges, (1,), n_edges=10, n_random=3, seed=1)
    counts = np.zeros(edges.n_users)
    frequencies = np.zeros(edges.n_users)
    for step in range(1_500):
        batch = batches.draw(step)
        users = batch.sample.users[batch.sample.blocks[0].own][batch.candidates]
        counts[users] += 1
        frequencies[users] = np.exp(batch.log_frequencies)
    assert np.abs(counts / 1_500 - frequencies).max() < 0.05
