from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.base.errors import ConfigError
from millrace.simulator.config import MechanismName
from millrace.simulator.draws import Float64Array
from millrace.simulator.mechanisms import MECHANISMS
from millrace.simulator.mechanisms.law import load_law
from millrace.simulator.mechanisms.situation import COLUMN, DISLIKES, N_FRIENDLY, WORLD_ACTIONS, Response, Surroundings
from millrace.simulator.posts import IMAGE, QUOTE, REPLY, VIDEO
from millrace.testing.world_builders import N_PEOPLE, a_mechanism, a_situation, respond_alone, some_situations

every_mechanism = pytest.mark.parametrize("name", MECHANISMS)


def response(name: MechanismName = "gate", n: int = 1, **columns: Any) -> Response:
    return respond_alone(a_mechanism(name), a_situation(n, **columns))


def probability(action: Action, name: MechanismName = "gate", **columns: Any) -> float:
    return float(response(name, **columns).probs[0, COLUMN[action]])


@every_mechanism
def test_a_law_names_every_action_once_and_on_its_side(name: MechanismName) -> None:
    law = load_law(name)
    assert [*law.friendly, *law.dislikes] == [action.label for action in WORLD_ACTIONS]
    assert set(law.dislikes) == {action.label for action in DISLIKES}
    assert all(0 < rate < 1 for rate in (*law.friendly.values(), *law.dislikes.values()))


def test_every_friendly_action_belongs_to_exactly_one_group_of_multi() -> None:
    actions = [action for group in load_law("multi").groups.values() for action in group.actions]
    assert sorted(actions) == sorted(action.label for action in WORLD_ACTIONS[:N_FRIENDLY])


@pytest.mark.parametrize("name", ["nonsense", "../gate", ""])
def test_a_law_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match="gate, multi, shifted"):
        load_law(name)


@every_mechanism
def test_probabilities_are_probabilities_and_annoyance_is_the_sum_of_the_dislikes(name: MechanismName) -> None:
    answer = respond_alone(a_mechanism(name), some_situations(3_000))
    assert ((answer.probs >= 0) & (answer.probs <= 0.95)).all()
    assert ((answer.liking >= 0) & (answer.liking <= 1)).all()
    np.testing.assert_allclose(answer.annoyed, answer.probs[:, N_FRIENDLY:].sum(axis=1), rtol=1e-12)
    assert (answer.annoyed <= 0.5).all()


@every_mechanism
@pytest.mark.parametrize(
    ("action", "possible", "impossible"),
    [
        (Action.FOLLOW_AUTHOR, {"is_followed": False}, {"is_followed": True}),
        (Action.VIDEO_VIEW, {"media": np.int8(VIDEO)}, {"media": np.int8(IMAGE)}),
        (Action.PHOTO_EXPAND, {"media": np.int8(IMAGE)}, {}),
        (Action.LINK_OPEN, {"has_link": True}, {}),
        (Action.QUOTE_CLICK, {"kind": np.int8(QUOTE)}, {}),
        (Action.REPOST, {}, {"kind": np.int8(REPLY)}),
    ],
)
def test_what_a_post_does_not_offer_has_probability_zero(
    name: MechanismName, action: Action, possible: dict[str, Any], impossible: dict[str, Any]
) -> None:
    assert probability(action, name, **possible) > 0
    assert probability(action, name, **impossible) == 0


@every_mechanism
def test_liking_grows_with_what_speaks_for_a_post(name: MechanismName) -> None:
    base = response(name).liking[0]
    better: list[dict[str, Any]] = [{"interest": 1.0}, {"quality": 0.9}, {"author_taste": 1.0}, {"n_proofs": 3}]
    better += [{"story_heat": 1.0}, {"age_ms": 0}]
    worse: list[dict[str, Any]] = [{"interest": 0.2}, {"quality": 0.1}, {"is_followed": False}, {"is_spam": True}]
    worse += [{"reads_language": False}, {"age_ms": 48 * 3_600_000}]
    assert all(response(name, **columns).liking[0] > base for columns in better)
    assert all(response(name, **columns).liking[0] < base for columns in worse)


@every_mechanism
def test_friendly_actions_grow_with_interest_and_dislikes_fall(name: MechanismName) -> None:
    interest = np.linspace(0, 1, 20)
    probs = response(name, 20, interest=interest, key=np.uint64(7), is_followed=False).probs
    assert (np.diff(probs[:, COLUMN[Action.LIKE]]) > 0).all()
    assert (np.diff(probs[:, N_FRIENDLY:], axis=0) < 0).all()
    assert (np.diff(response(name, 20, interest=interest, key=np.uint64(7)).dwell_mu) > 0).all()


@every_mechanism
def test_dislikes_are_rare_but_for_spam(name: MechanismName) -> None:
    assert response(name, interest=0.0, is_followed=False).annoyed[0] < 0.003
    assert response(name, is_followed=False, is_spam=True).annoyed[0] > 0.01
    assert response(name, is_followed=True).annoyed[0] < response(name, is_followed=False).annoyed[0]


def test_who_is_annoyed_does_nothing_friendly_so_friendly_probabilities_leave_room() -> None:
    answer = response(n=1, is_spam=True, propensity=200.0, arousal=5.0, is_followed=False)
    assert answer.probs[0, :N_FRIENDLY].max() <= 0.95 * (1 - answer.annoyed[0])


def test_silent_people_answer_a_tenth_and_like_as_much() -> None:
    for action, factor in ((Action.REPLY, 0.1), (Action.QUOTE, 0.1), (Action.REPOST, 0.1), (Action.LIKE, 1.0)):
        assert probability(action, is_silent=True) == pytest.approx(factor * probability(action))


def test_arousal_moves_answers_and_keeps_their_mean() -> None:
    rng = np.random.default_rng(1)
    calm = probability(Action.REPLY) * np.exp(0.5)  # the law's mean: at arousal 0 a post is below it
    roused = response(n=200_000, arousal=rng.normal(size=200_000)).probs[:, COLUMN[Action.REPLY]]
    assert roused.mean() == pytest.approx(calm, rel=0.03)
    assert roused.std() > roused.mean()
    assert probability(Action.LIKE, arousal=2.0) == probability(Action.LIKE)


@every_mechanism
def test_one_tires_of_authors_and_topics(name: MechanismName) -> None:
    mechanism, situation = a_mechanism(name), a_situation(4)
    counts = np.array([0.0, 3.0, 6.0, 60.0])
    for tired in (Surroundings(counts, np.zeros(4), np.zeros(4)), Surroundings(np.zeros(4), counts, np.zeros(4))):
        liking = mechanism.respond(a_situation(4, key=np.uint64(1)), _affinity(mechanism, situation), tired).liking
        assert (np.diff(liking) <= 0).all()
        assert liking[3] < liking[0]
    author = Surroundings(counts, np.zeros(4), np.zeros(4))
    liking = mechanism.respond(situation, _affinity(mechanism, situation), author).liking
    assert liking[2] == liking[3]  # the same person, however often more: no further harm


def _affinity(mechanism: Any, situation: Any) -> Float64Array:
    """Return the first look's affinity for all, whatever noise the others have."""
    first: Float64Array = mechanism.affinity(situation)[:1]
    return np.repeat(first, len(situation), axis=0)


@pytest.mark.parametrize(("name", "sign"), [("gate", -1), ("multi", -1), ("shifted", 1)])
def test_after_a_great_post_the_next_seems_dull_and_in_shifted_the_other_way_round(
    name: MechanismName, sign: int
) -> None:
    mechanism, situation = a_mechanism(name), a_situation(2)
    after = Surroundings(np.zeros(2), np.zeros(2), np.array([-0.5, 0.5]))
    dull, great = mechanism.respond(situation, _affinity(mechanism, situation), after).liking
    assert np.sign(great - dull) == sign


def test_under_gate_all_actions_rank_topics_alike_and_under_multi_some_viewers_differ() -> None:
    topics = np.arange(12, dtype=np.int8)
    differs = {"gate": 0, "multi": 0}
    for name in ("gate", "multi"):
        mechanism = a_mechanism(name)
        for viewer in range(N_PEOPLE):
            interest = np.random.default_rng(viewer).random(12)
            situation = a_situation(12, key=np.uint64(5), viewer=np.int64(viewer), topic=topics, interest=interest)
            probs = respond_alone(mechanism, situation).probs
            best = [int(np.argmax(probs[:, COLUMN[action]])) for action in (Action.LIKE, Action.REPLY, Action.CLICK)]
            differs[name] += len(set(best)) > 1
    assert differs["gate"] == 0
    assert differs["multi"] > N_PEOPLE / 4


def test_the_groups_of_multi_see_a_quality_of_their_own_in_a_post() -> None:
    affinity = a_mechanism("multi").affinity(a_situation(4_000))
    assert affinity.shape == (4_000, 4)
    # The same viewer, topic and stated quality throughout: only the facets vary, and they do so independently.
    correlation = np.corrcoef(affinity.T)
    assert (affinity.std(axis=0) > 0.01).all()
    assert np.abs(correlation - np.eye(4)).max() < 0.06


def test_shifted_has_noise_between_a_viewer_and_a_post_that_stays_when_they_meet_again() -> None:
    law = load_law("shifted")
    first = a_mechanism("shifted").affinity(a_situation(20_000))[:, 0]
    assert first.std() == pytest.approx(law.affinity.noise, rel=0.03)
    np.testing.assert_array_equal(first, a_mechanism("shifted").affinity(a_situation(20_000))[:, 0])
    other = a_mechanism("shifted").affinity(a_situation(20_000, viewer=np.int64(2)))[:, 0]
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03


def test_rare_actions_of_shifted_grow_faster_with_liking_than_likes_do() -> None:
    dull, good = (response("shifted", key=np.uint64(1), interest=interest) for interest in (0.3, 1.0))
    growth = good.probs[0] / dull.probs[0].clip(1e-12)
    assert growth[COLUMN[Action.REPLY]] > growth[COLUMN[Action.LIKE]] > growth[COLUMN[Action.CLICK]] > 1


def test_videos_hold_longer_by_a_share_of_their_length() -> None:
    law = load_law("gate").dwell
    still, video = response(), response(media=np.int8(VIDEO), duration_ms=60_000)
    seconds = np.exp(video.dwell_mu - law.by_liking * video.liking)[0]
    assert seconds == pytest.approx(law.base_s + law.video_frac * video.liking[0] * 60)
    assert video.dwell_mu[0] > still.dwell_mu[0]


@every_mechanism
def test_no_looks_give_no_answers(name: MechanismName) -> None:
    answer = respond_alone(a_mechanism(name), a_situation(0))
    assert answer.probs.shape == (0, len(WORLD_ACTIONS))
    assert answer.liking.shape == answer.annoyed.shape == answer.dwell_mu.shape == (0,)
