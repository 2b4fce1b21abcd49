from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action
from millrace.simulator.acts import (
    MAX_DWELL_S,
    MIN_DWELL_S,
    act_kernel,
    act_reference,
    draw_actions,
    draw_dwell_ms,
    dwell_moments,
    engaged_shifts,
)
from millrace.simulator.config import MechanismName
from millrace.simulator.draws import Draws, Purpose
from millrace.simulator.mechanisms import MECHANISMS
from millrace.simulator.mechanisms.situation import COLUMN, N_FRIENDLY, WORLD_ACTIONS, Response
from millrace.simulator.posts import VIDEO
from millrace.testing.world_builders import a_mechanism, a_situation, respond_alone, some_situations

N = 100_000
LAW = a_mechanism().law
CODES = np.array([int(action) for action in WORLD_ACTIONS[:N_FRIENDLY]], dtype=np.uint64)
VIEWER = np.arange(N)
KEY = np.zeros(N, dtype=np.uint64)
ONCE = np.zeros(N, dtype=np.int64)

shares = st.floats(0, 1, exclude_max=True)


def response_of(probs: list[float] | np.ndarray, annoyed: float = 0.0, n: int = N, mu: float = 0.0) -> Response:
    """Return ``n`` equal responses."""
    return Response(np.full(n, 0.5), np.tile(probs, (n, 1)), np.full(n, annoyed), np.full(n, mu))


def probs_with(**by_name: float) -> np.ndarray:
    probs = np.zeros(len(WORLD_ACTIONS))
    for name, p in by_name.items():
        probs[COLUMN[Action[name.upper()]]] = p
    return probs


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(0, 30), seed=st.integers(0, 2**32 - 1), frac=shares, ratio=st.floats(1, 4))
def test_the_kernel_does_what_the_reference_does(
    data: st.DataObject, n: int, seed: int, frac: float, ratio: float
) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.random((n, len(WORLD_ACTIONS))) * data.draw(st.sampled_from([0.01, 0.3, 1.0]))
    probs[rng.random(probs.shape) < 0.2] = 0.0
    probs[:, N_FRIENDLY:] *= data.draw(st.sampled_from([0.0, 0.01, 0.2]))
    annoyed = probs[:, N_FRIENDLY:].sum(axis=1)
    prefix = rng.integers(0, 2**64, n, dtype=np.uint64)
    arguments = (prefix, CODES, probs, annoyed, rng.random(n), rng.random(n), frac, ratio)
    did = np.zeros(probs.shape, dtype=np.bool_)
    act_kernel(*arguments, did)
    np.testing.assert_array_equal(did, act_reference(*arguments))


def test_the_draw_of_an_action_hangs_on_seed_viewer_post_occasion_and_action() -> None:
    probs, nothing = np.full(len(WORLD_ACTIONS), 0.5), np.zeros(len(WORLD_ACTIONS))
    probs[N_FRIENDLY:] = nothing[N_FRIENDLY:]
    viewer, key, occasion = np.array([7]), np.array([9], dtype=np.uint64), np.array([1])
    did, is_engaged = draw_actions(Draws(3), LAW, viewer, key, occasion, response_of(probs, n=1))
    high = 0.5 * LAW.engaged_ratio
    p = min(high, 1.0) if is_engaged[0] else (0.5 - LAW.engaged_frac * min(high, 1.0)) / (1 - LAW.engaged_frac)
    u = Draws(3).uniform(Purpose.ACTION, 7, 9, 1, CODES)
    assert did[0, :N_FRIENDLY].tolist() == (u < p).tolist()


@pytest.mark.parametrize("p", [0.001, 0.1, 0.4, 0.6, 0.95])
def test_an_action_happens_exactly_as_often_as_its_probability_says(p: float) -> None:
    did, _ = draw_actions(Draws(2), LAW, VIEWER, KEY, ONCE, response_of(probs_with(like=p)))
    assert did.mean(axis=0)[COLUMN[Action.LIKE]] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / N))
    assert did.sum() == did[:, COLUMN[Action.LIKE]].sum()


@pytest.mark.parametrize("name", MECHANISMS)
def test_all_actions_of_a_law_happen_as_often_as_their_probabilities_say(name: MechanismName) -> None:
    situation = some_situations(N, seed=3)
    answer = respond_alone(a_mechanism(name), situation)
    did, _ = draw_actions(Draws(2), a_mechanism(name).law, VIEWER, situation.key, ONCE, answer)
    standard_error = np.sqrt((answer.probs * (1 - answer.probs)).sum(axis=0))
    assert (np.abs(did.sum(axis=0) - answer.probs.sum(axis=0)) <= 4 * standard_error).all()


def test_actions_come_together_although_each_keeps_its_probability() -> None:
    did, is_engaged = draw_actions(Draws(2), LAW, VIEWER, KEY, ONCE, response_of(probs_with(like=0.2, reply=0.1)))
    like, reply = did[:, COLUMN[Action.LIKE]], did[:, COLUMN[Action.REPLY]]
    frac, ratio = LAW.engaged_frac, LAW.engaged_ratio
    low = (1 - frac * ratio) / (1 - frac)
    both = 0.2 * 0.1 * (frac * ratio**2 + (1 - frac) * low**2)
    assert both > 1.5 * 0.2 * 0.1
    assert (like & reply).mean() == pytest.approx(both, abs=4 * np.sqrt(both / N))
    assert is_engaged.mean() == pytest.approx(frac, abs=0.005)


def test_at_most_one_dislike_happens_and_then_nothing_friendly() -> None:
    probs = probs_with(not_interested=0.1, mute_author=0.05, block_author=0.02, report=0.03)
    probs[:N_FRIENDLY] = 0.4 * 0.8
    did, _ = draw_actions(Draws(2), LAW, VIEWER, KEY, ONCE, response_of(probs, annoyed=0.2))
    dislikes, friendly = did[:, N_FRIENDLY:], did[:, :N_FRIENDLY]
    annoyed = dislikes.any(axis=1)
    assert dislikes.sum(axis=1).max() == 1
    assert not friendly[annoyed].any()
    np.testing.assert_allclose(dislikes.mean(axis=0), [0.1, 0.05, 0.02, 0.03], atol=0.003)
    np.testing.assert_allclose(friendly.mean(axis=0), 0.32, atol=0.005)  # the calm ones make up for it


def test_a_look_has_a_length_between_its_bounds_and_liked_ones_last_longer() -> None:
    engaged = VIEWER % 2 == 0
    arguments = (Draws(2), LAW, VIEWER, KEY, ONCE)
    short = draw_dwell_ms(*arguments, response_of([0.0], mu=-3.0), engaged)
    long = draw_dwell_ms(*arguments, response_of([0.0], mu=6.0), engaged)
    assert short.min() == MIN_DWELL_S * 1000
    assert long.max() == MAX_DWELL_S * 1000
    assert (long >= short).all()


def test_being_engaged_lengthens_a_look_and_leaves_the_mean_of_the_log() -> None:
    high, low = engaged_shifts(LAW)
    assert high > 0 > low
    assert LAW.engaged_frac * high + (1 - LAW.engaged_frac) * low == pytest.approx(0)
    assert high - low == pytest.approx(LAW.dwell.engaged)


@pytest.mark.parametrize(("mu", "duration_ms"), [(0.5, 0), (1.5, 6_000), (3.0, 40_000), (5.5, 600_000), (2.0, 900_000)])
def test_dwell_moments_are_those_of_the_draws(mu: float, duration_ms: int) -> None:
    answer = response_of([0.0], mu=mu)
    situation = a_situation(1, media=np.int8(VIDEO), duration_ms=np.int64(duration_ms))
    one = Response(answer.liking[:1], answer.probs[:1], answer.annoyed[:1], answer.dwell_mu[:1])
    mean_s, p_short, p_complete = dwell_moments(LAW, situation, one, 3.0)[0]
    is_engaged = Draws(4).uniform(Purpose.ENGAGED, VIEWER) < LAW.engaged_frac
    dwell_ms = draw_dwell_ms(Draws(2), LAW, VIEWER, KEY, ONCE, answer, is_engaged)
    assert dwell_ms.mean() / 1000 == pytest.approx(mean_s, abs=4 * dwell_ms.std() / 1000 / np.sqrt(N) + 0.001)
    assert (dwell_ms < 3_000).mean() == pytest.approx(p_short, abs=0.005)
    complete = (dwell_ms >= duration_ms).mean() if duration_ms else 0.0
    assert complete == pytest.approx(p_complete, abs=0.005)


def test_nobody_does_nothing() -> None:
    nobody = np.empty(0, dtype=np.int64)
    nothing = Response(np.empty(0), np.empty((0, len(WORLD_ACTIONS))), np.empty(0), np.empty(0))
    did, is_engaged = draw_actions(Draws(1), LAW, nobody, nobody.astype(np.uint64), nobody, nothing)
    assert did.shape == (0, len(WORLD_ACTIONS))
    assert is_engaged.shape == (0,)
