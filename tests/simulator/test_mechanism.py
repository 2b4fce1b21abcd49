from __future__ import annotations

from typing import Any

import numpy as np

from millrace.base.actions import Action
from millrace.simulator.draws import Draws
from millrace.simulator.mechanisms.situation import (
    COLUMN,
    DISLIKES,
    WORLD_ACTIONS,
    GateMechanism,
    Situation,
    draw_actions,
    draw_dwell_ms,
)
from millrace.simulator.posts import IMAGE, VIDEO

N = 4_000
MECHANISM = GateMechanism()


def a_situation(n: int = 1, **columns: Any) -> Situation:
    values: dict[str, Any] = {
        "interest": 0.8,
        "quality": 0.5,
        "is_followed": True,
        "reads_language": True,
        "propensity": 1.0,
        "kind": np.int8(0),
        "media": np.int8(0),
        "duration_ms": 0,
        "has_link": False,
        "is_spam": False,
    }
    return Situation(**{name: np.broadcast_to(value, n) for name, value in (values | columns).items()})


def probability(action: Action, **columns: Any) -> float:
    situation = a_situation(**columns)
    return float(MECHANISM.probabilities(situation, MECHANISM.liking(situation))[0, COLUMN[action]])


def test_liking_grows_with_interest_quality_and_acquaintance() -> None:
    base = MECHANISM.liking(a_situation())[0]
    assert MECHANISM.liking(a_situation(interest=0.2))[0] < base
    assert MECHANISM.liking(a_situation(quality=0.1))[0] < base
    assert MECHANISM.liking(a_situation(is_followed=False))[0] < base
    assert MECHANISM.liking(a_situation(reads_language=False))[0] < base


def test_impossible_actions_have_probability_zero() -> None:
    assert probability(Action.FOLLOW_AUTHOR, is_followed=True) == 0
    assert probability(Action.FOLLOW_AUTHOR, is_followed=False) > 0
    assert probability(Action.VIDEO_VIEW) == 0
    assert probability(Action.VIDEO_VIEW, media=np.int8(VIDEO)) > 0
    assert probability(Action.PHOTO_EXPAND, media=np.int8(IMAGE)) > 0
    assert probability(Action.LINK_OPEN) == 0


def test_dislikes_are_rare_and_fall_on_what_is_not_liked() -> None:
    for action in DISLIKES:
        assert probability(action, interest=0.0) > probability(action, interest=1.0)
        assert probability(action, interest=0.0, is_followed=False) < 0.01
        assert probability(action, is_spam=True) > probability(action)


def test_actions_happen_as_often_as_their_probability_says() -> None:
    situation = a_situation(N)
    probs = MECHANISM.probabilities(situation, MECHANISM.liking(situation))
    viewer = np.arange(N)
    did = draw_actions(Draws(2), viewer, viewer.astype(np.uint64), np.zeros(N, dtype=np.int64), probs)
    np.testing.assert_allclose(did.mean(axis=0), probs[0], atol=0.03)


def test_who_dislikes_a_post_does_nothing_friendly_with_it() -> None:
    viewer = np.arange(N)
    probs = np.full((N, len(WORLD_ACTIONS)), 0.4)
    did = draw_actions(Draws(2), viewer, viewer.astype(np.uint64), np.zeros(N, dtype=np.int64), probs)
    is_dislike = np.array([action in DISLIKES for action in WORLD_ACTIONS])
    annoyed = did[:, is_dislike].any(axis=1)
    assert annoyed.any()
    assert not did[annoyed][:, ~is_dislike].any()


def test_liked_posts_are_looked_at_longer_and_videos_for_a_share_of_their_length() -> None:
    viewer = np.arange(N)
    key = viewer.astype(np.uint64)
    nothing = np.zeros((N, len(WORLD_ACTIONS)), dtype=np.bool_)
    dull, good = np.zeros(N), np.ones(N)
    short = draw_dwell_ms(Draws(2), a_situation(N), viewer, key, dull, nothing)
    long = draw_dwell_ms(Draws(2), a_situation(N), viewer, key, good, nothing)
    assert (long >= short).all()
    watched = nothing.copy()
    watched[:, COLUMN[Action.VIDEO_VIEW]] = True
    video = a_situation(N, media=np.int8(VIDEO), duration_ms=60_000)
    dwell_ms = draw_dwell_ms(Draws(2), video, viewer, key, good, watched)
    assert 0.1 < (dwell_ms >= 60_000).mean() < 0.9
