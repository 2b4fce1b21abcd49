"""Kernels of the world's engine beside their NumPy references: bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.simulator.config import MechanismName, WorldConfig
from millrace.simulator.draws import take_key, take_key_reference
from millrace.simulator.mechanisms import MECHANISMS, make_mechanism
from millrace.simulator.mechanisms import gate as gate_module
from millrace.simulator.mechanisms.probabilities import probabilities_reference
from millrace.simulator.mechanisms.situation import Surroundings
from millrace.simulator.memory import Memory, are_followed
from millrace.simulator.truth import _first
from millrace.simulator.world import World

N = 700


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture(scope="module")
def world() -> World:
    world = World(WorldConfig(size="tiny", n_users=60), 1_767_571_200_000)
    for _ in world.history():
        pass
    return world


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_probabilities_are_the_reference_s(
    world: World, mechanism: MechanismName, monkeypatch: pytest.MonkeyPatch
) -> None:
    law = make_mechanism(mechanism, world.people, world.draws)
    viewer, row = rng().integers(0, 60, N), rng().integers(0, world.posts.n_posts, N)
    situation = world.encounters.situation(viewer, row, world.now_ms)
    surroundings = Surroundings(rng().integers(0, 9, N) * 1.0, rng().random(N) * 20, rng().random(N) - 0.5)
    affinity = law.affinity(situation)
    fused = law.respond(situation, affinity, surroundings)
    monkeypatch.setattr(gate_module, "probabilities", probabilities_reference)
    plain = law.respond(situation, affinity, surroundings)
    np.testing.assert_array_equal(fused.probs, plain.probs)
    np.testing.assert_array_equal(fused.annoyed, plain.annoyed)
    np.testing.assert_array_equal(law.liking(affinity, surroundings), plain.liking)


@pytest.mark.parametrize("n_states", [1, N])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8])
def test_hashes_take_keys_as_the_reference_does(n_states: int, dtype: type) -> None:
    state = rng().integers(0, 2**63, n_states).astype(np.uint64)
    key = rng().integers(-100, 100, N).astype(dtype)
    np.testing.assert_array_equal(take_key(state, key), take_key_reference(state, key))
    np.testing.assert_array_equal(take_key(state[:1], key[::2]), take_key_reference(state[:1], key[::2]))


def test_meetings_are_counted_and_kept_in_order() -> None:
    memory = Memory(20)
    viewer, row = rng().integers(0, 20, N), rng().integers(0, 40, N)
    for part in np.array_split(np.arange(N), 3):
        memory.meet(viewer[part], row[part])
    np.testing.assert_array_equal(memory.meetings, np.sort((viewer << 32) | row))
    asked, of = np.repeat(np.arange(20), 40), np.tile(np.arange(40), 20)
    expected = [int(((viewer == v) & (row == r)).sum()) for v, r in zip(asked, of, strict=True)]
    assert memory.occasions(asked, of).tolist() == expected
    shuffled = rng().permutation(len(asked))
    assert memory.occasions(asked[shuffled], of[shuffled]).tolist() == np.array(expected)[shuffled].tolist()


def test_follows_are_found() -> None:
    keys = np.unique(rng().integers(0, 20 * 20, 90))
    viewer, author = rng().integers(0, 20, N), rng().permutation(N) % 20
    np.testing.assert_array_equal(are_followed(viewer, author, keys, 20), np.isin(viewer * 20 + author, keys))
    assert not are_followed(viewer, author, keys[:0], 20).any()


@pytest.mark.parametrize("n", [1, 5, 200, N, N + 1])
def test_the_first_are_those_of_a_whole_stable_sort(n: int) -> None:
    values = np.round(rng().random(N), 2)
    np.testing.assert_array_equal(_first(values, n), np.argsort(values, kind="stable")[:n])
