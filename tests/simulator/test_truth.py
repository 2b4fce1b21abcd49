from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from millrace.simulator.acts import draw_actions, draw_dwell_ms
from millrace.simulator.config import MechanismName
from millrace.simulator.draws import Draws
from millrace.simulator.mechanisms import MECHANISMS
from millrace.simulator.mechanisms.law import Mechanism
from millrace.simulator.mechanisms.situation import Situation, Surroundings
from millrace.simulator.truth import best_slate, examination, expected_utility, realised_utility
from millrace.testing.world_builders import a_mechanism, a_situation, respond_alone, some_situations

BY_NAME = {name: a_mechanism(name) for name in MECHANISMS}
every_mechanism = pytest.mark.parametrize("name", MECHANISMS)
N_DRAWS = 400
NEARLY = 0.97
"""A greedy slate places the best post first, and what follows it then seems dull: slates of three lose one to two per
cent by that (multi, gate), a page of twenty half a per cent."""


@every_mechanism
def test_expected_utility_is_the_mean_of_what_is_realised(name: MechanismName) -> None:
    mechanism, n = BY_NAME[name], 500
    situation = some_situations(n, seed=5)
    answer = respond_alone(mechanism, situation)
    expected = expected_utility(mechanism.law, situation, answer)
    values, pleasures = np.empty((N_DRAWS, n)), np.empty((N_DRAWS, n))
    for occasion in range(N_DRAWS):
        at = np.full(n, occasion)
        keys = (Draws(8), mechanism.law, situation.viewer, situation.key, at, answer)
        did, is_engaged = draw_actions(*keys)
        dwell_ms = draw_dwell_ms(*keys, is_engaged)
        values[occasion], pleasures[occasion] = realised_utility(situation, answer, did, dwell_ms)
    for realised, exact in ((values, expected.value), (pleasures, expected.satisfaction)):
        error = realised.mean(axis=0) - exact
        standard = realised.std() / np.sqrt(realised.size)
        assert abs(error.mean()) < 3.5 * standard
        # And not only over all looks together: those that are worth more are realised as more.
        top = exact > np.median(exact)
        standard = realised[:, top].std() / np.sqrt(realised[:, top].size)
        assert abs(error[top].mean()) < 3.5 * standard


def test_a_look_that_pleases_nobody_costs_satisfaction_and_a_dislike_far_more() -> None:
    situation = a_situation(2)
    answer = respond_alone(BY_NAME["gate"], situation)
    did = np.zeros(answer.probs.shape, dtype=np.bool_)
    did[1, -1] = True
    utility = realised_utility(situation, answer, did, np.array([5_000, 5_000]))
    np.testing.assert_allclose(utility.satisfaction, answer.liking - 0.1 - np.array([0.0, 4.0]))
    np.testing.assert_allclose(utility.value, [0.02, 0.02 - 234.0])


def test_watching_to_the_end_counts_for_videos_longer_than_ten_seconds_only() -> None:
    duration_ms = np.array([10_000, 12_000, 12_000, 0])
    situation = a_situation(4, duration_ms=duration_ms)
    answer = respond_alone(BY_NAME["gate"], situation)
    did = np.zeros(answer.probs.shape, dtype=np.bool_)
    value = realised_utility(situation, answer, did, np.array([12_000, 12_000, 11_999, 2_999])).value
    np.testing.assert_allclose(value, [0.048, 0.048 + 0.05, 0.047996, 0.011996 - 0.02])


def test_examination_falls_from_one_by_the_viewers_patience() -> None:
    examine = examination(np.full(3, 5.0), np.array([0, 5, 10]))
    np.testing.assert_allclose(examine, [1.0, np.exp(-1), np.exp(-2)])


def values_of(mechanism: Mechanism, situation: Situation, lately: Any, patience: float, orders: Any) -> Any:
    """Return what slates are worth, going down the page; ``orders`` holds one slate a row."""
    total, contrast = np.zeros(len(orders)), np.zeros(len(orders))
    affinity = mechanism.affinity(situation)
    liking_alone = mechanism.respond(situation, affinity, Surroundings.none(len(situation))).liking
    for position in range(orders.shape[1]):
        at, above = orders[:, position], orders[:, :position]
        n_author = lately[0][at] + (situation.author[above] == situation.author[at][:, None]).sum(axis=1)
        n_topic = lately[1][at] + (situation.topic[above] == situation.topic[at][:, None]).sum(axis=1)
        rows = situation.take(at)
        answer = mechanism.respond(rows, affinity[at], Surroundings(n_author, n_topic, contrast))
        total += expected_utility(mechanism.law, rows, answer).value * np.exp(-position / patience)
        contrast = liking_alone[at] - 0.5
    return total


@every_mechanism
def test_the_best_slate_is_nearly_as_good_as_trying_all_and_never_above_its_bound(name: MechanismName) -> None:
    mechanism, chosen, best = BY_NAME[name], 0.0, 0.0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n, k, patience = int(rng.integers(1, 7)), int(rng.integers(1, 4)), float(rng.uniform(4, 30))
        few = {"author": rng.integers(0, 3, n), "topic": rng.integers(0, 2, n).astype(np.int8)}
        situation = some_situations(n, seed, viewer=np.int64(4), **few)
        lately = (rng.integers(0, 4, n).astype(np.float64), rng.integers(0, 20, n).astype(np.float64))
        slate = best_slate(mechanism, situation, lately, patience, k)
        assert len(set(slate.rows.tolist())) == min(k, n)
        own = values_of(mechanism, situation, lately, patience, slate.rows[None, :])[0]
        assert slate.value == pytest.approx(own)
        orders = np.array(list(permutations(range(n), min(k, n))))
        optimum = values_of(mechanism, situation, lately, patience, orders).max()
        assert slate.value <= optimum + 1e-12
        assert optimum <= slate.bound + 1e-12
        chosen, best = chosen + slate.value, best + optimum
    assert chosen >= NEARLY * best


def test_no_content_is_on_a_slate_twice() -> None:
    mechanism = BY_NAME["gate"]
    situation = some_situations(6, viewer=np.int64(1))
    content = np.array([7, 7, 8, 8, 7, 8])
    slate = best_slate(mechanism, situation, (np.zeros(6), np.zeros(6)), 10.0, 4, content)
    assert sorted(content[slate.rows].tolist()) == [7, 8]


def test_of_no_posts_or_for_no_places_the_best_slate_is_empty() -> None:
    for n, k in ((0, 3), (3, 0)):
        slate = best_slate(BY_NAME["gate"], a_situation(n), (np.zeros(n), np.zeros(n)), 10.0, k)
        assert (slate.rows.tolist(), slate.value, slate.bound) == ([], 0.0, 0.0)


def test_of_many_posts_only_those_that_could_be_worth_most_are_tried() -> None:
    situation = some_situations(1_000, viewer=np.int64(1))
    nothing = (np.zeros(1_000), np.zeros(1_000))
    mechanism = BY_NAME["gate"]
    every = best_slate(mechanism, situation, nothing, 10.0, 20)
    best = best_slate(mechanism, situation.take(every.rows), (np.zeros(20), np.zeros(20)), 10.0, 20)
    assert best.value == pytest.approx(every.value)
    assert every.value <= every.bound
