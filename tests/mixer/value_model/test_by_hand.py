"""One slate of five posts by hand: every number from predictions to score, for ``x`` and for ``classic``."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from millrace.base.actions import Action, ActionSpace
from millrace.base.params import Param, ParamValue
from millrace.features.columns import (
    ACTION_PROBS,
    AUTHOR_FOLLOWERS,
    AUTHOR_ID,
    CREATED_MS,
    DURATION_MS,
    IS_IN_NETWORK,
    IS_MUTUAL,
    KIND,
    N_PROOFS,
    OBSERVED_COUNTS,
    POST_COUNTS,
    POST_ID,
    SCORE,
)
from millrace.mixer.feed import Why
from millrace.mixer.kinds import ORIGINAL, REPLY
from millrace.mixer.value_model.author_decay import AuthorDecay
from millrace.mixer.value_model.lift import RANK, NewAuthorLift
from millrace.mixer.value_model.multipliers import OutOfNetworkMultiplier, RecencyMultiplier
from millrace.mixer.value_model.profiles import CLASSIC
from millrace.mixer.value_model.social import SocialBonus
from millrace.mixer.value_model.weighted_sum import WeightedSum
from millrace.mixer.why import WhyReader
from millrace.pipeline.batch import CandidateBatch
from millrace.testing.builders import NOW_MS
from millrace.testing.pipeline_builders import a_batch, a_query

ACTIONS = ActionSpace()
RANKERS = (
    WeightedSum(ACTIONS),
    RecencyMultiplier(),
    SocialBonus(),
    NewAuthorLift(),
    AuthorDecay(),
    OutOfNetworkMultiplier(),
)
EXACT = 1e-6
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Post:
    """One post of the slate; strangers' originals of 5,000 followers unless said otherwise."""

    age_h: int
    probs: dict[Action, float]
    author: int
    kind: int = ORIGINAL
    is_followed: bool = False
    is_mutual: bool = False
    n_proofs: int = 0
    followers: int = 5_000
    duration_ms: int = 0


# A friend's post, an older reply of the same friend, a stranger's video that two friends noticed, a post that people
# hate, and a post by somebody with twelve followers.
SLATE = (
    Post(0, {Action.LIKE: 0.1, Action.REPLY: 0.02}, 10, is_followed=True, is_mutual=True),
    Post(2, {Action.LIKE: 0.2, Action.CLICK: 0.5}, 10, kind=REPLY, is_followed=True, is_mutual=True),
    Post(
        5,
        {Action.LIKE: 0.1, Action.REPOST: 0.05, Action.DWELL: 0.5, Action.DWELL_TIME: 10.0, Action.COMPLETE: 0.2},
        30,
        n_proofs=2,
        duration_ms=30_000,
    ),
    Post(10, {Action.LIKE: 0.1, Action.NOT_INTERESTED: 0.3, Action.REPORT: 0.01}, 40),
    Post(1, {Action.LIKE: 0.05}, 50, followers=12),
)


@dataclass(frozen=True)
class Row:
    """What comes out for one post, written out by hand."""

    value: float
    offset_value: float
    recency: tuple[float, float]
    social: tuple[float, float]
    new_author_lift: tuple[float, float]
    author_decay: tuple[float, float]
    out_of_network: tuple[float, float]
    weights: dict[str, float] = field(default_factory=dict)


# N = 43.2 + 58.8 + 31.2 + 234 + 0.02 = 367.22
# T = N + 0.5 + 5 + 1 + 5 + 2 + 5 + 20 + 0.4 + 0.2 + 0.05 + 0.05 + 0.05 + 0.05 + 4 = 410.52 (seconds are not in it)
# e^-0.05 = 0.951229425, e^-0.1 = 0.904837418, e^-0.25 = 0.778800783, e^-0.5 = 0.606530660
X = (
    Row(
        # 0.5 x 0.1 + (5 + 15) x 0.02: an original of a mutual follow
        value=0.45,
        offset_value=0.451,
        recency=(1.0, 0.451),
        social=(0.0, 0.451),
        new_author_lift=(1.0, 0.451),
        author_decay=(1.0, 0.451),
        out_of_network=(1.0, 0.451),
        weights={"like": 0.5, "reply": 20.0, "complete": 0.0},
    ),
    Row(
        # 0.5 x 0.2 + 0.4 x 0.5
        value=0.3,
        offset_value=0.301,
        recency=(0.904837418, 0.272356063),
        social=(0.0, 0.272356063),
        new_author_lift=(1.0, 0.272356063),
        # the friend's second: (1 - 0.25) x 0.5 + 0.25
        author_decay=(0.625, 0.170222539),
        # a reply, even of a friend
        out_of_network=(0.75, 0.127666904),
        weights={"reply": 5.0},
    ),
    Row(
        # 0.5 x 0.1 + 1 x 0.05 + 0 x 0.5 + 0.004 x 10 + 0.05 x 0.2
        value=0.15,
        offset_value=0.151,
        recency=(0.778800783, 0.117598918),
        social=(0.0, 0.117598918),
        new_author_lift=(1.0, 0.117598918),
        author_decay=(1.0, 0.117598918),
        out_of_network=(0.75, 0.088199189),
        weights={"complete": 0.05},
    ),
    Row(
        # 0.5 x 0.1 - 43.2 x 0.3 - 234 x 0.01
        value=-15.25,
        # 0.001 x (367.22 - 15.25) / 410.52
        offset_value=0.000857376,
        recency=(0.606530660, 0.000520025),
        social=(0.0, 0.000520025),
        new_author_lift=(1.0, 0.000520025),
        author_decay=(1.0, 0.000520025),
        out_of_network=(0.75, 0.000390019),
    ),
    Row(
        # 0.5 x 0.05
        value=0.025,
        offset_value=0.026,
        recency=(0.951229425, 0.024731965),
        social=(0.0, 0.024731965),
        # to the second place: 0.272356063 / 0.024731965
        new_author_lift=(11.012310, 0.272356063),
        author_decay=(1.0, 0.272356063),
        out_of_network=(0.75, 0.204267047),
    ),
)

# N = 4 x 0.1 = 0.4, T = 0.4 + 0.3 + 0.2 + 0.2 + 0.2 = 1.3
CLASSICAL = (
    Row(
        # 0.2 x 0.1; replies weigh nothing
        value=0.02,
        offset_value=0.021,
        recency=(1.0, 0.021),
        social=(1.0, 1.021),
        new_author_lift=(1.0, 1.021),
        author_decay=(1.0, 1.021),
        out_of_network=(1.0, 1.021),
        weights={"click": 0.3, "like": 0.2, "repost": 0.2, "dwell": 0.2, "not_interested": -0.1, "mute_author": -0.1}
        | {"block_author": -0.1, "report": -0.1},
    ),
    Row(
        # 0.2 x 0.2 + 0.3 x 0.5
        value=0.19,
        offset_value=0.191,
        recency=(0.818730753, 0.156377574),
        social=(1.0, 1.156377574),
        new_author_lift=(1.0, 1.156377574),
        author_decay=(1.0, 1.156377574),
        out_of_network=(1.0, 1.156377574),
    ),
    Row(
        # 0.2 x 0.1 + 0.2 x 0.05 + 0.2 x 0.5
        value=0.13,
        offset_value=0.131,
        recency=(0.606530660, 0.079455516),
        social=(0.5, 0.579455516),
        new_author_lift=(1.0, 0.579455516),
        author_decay=(1.0, 0.579455516),
        out_of_network=(1.0, 0.579455516),
    ),
    Row(
        # 0.2 x 0.1 - 0.1 x 0.3 - 0.1 x 0.01
        value=-0.011,
        # 0.001 x (0.4 - 0.011) / 1.3
        offset_value=0.000299231,
        recency=(0.367879441, 0.000110081),
        social=(0.0, 0.000110081),
        new_author_lift=(1.0, 0.000110081),
        author_decay=(1.0, 0.000110081),
        out_of_network=(1.0, 0.000110081),
    ),
    Row(
        # 0.2 x 0.05
        value=0.01,
        offset_value=0.011,
        recency=(0.904837418, 0.009953212),
        social=(0.0, 0.009953212),
        new_author_lift=(1.0, 0.009953212),
        author_decay=(1.0, 0.009953212),
        out_of_network=(1.0, 0.009953212),
    ),
)


def the_slate() -> CandidateBatch:
    probs = np.zeros((len(SLATE), len(ACTIONS)), dtype=np.float32)
    for row, post in enumerate(SLATE):
        for action, p in post.probs.items():
            probs[row, action] = p
    counts = np.zeros((len(SLATE), len(ACTIONS) + 1), dtype=np.float32)
    columns: dict[Any, Any] = {
        POST_ID: [1, 2, 3, 4, 5],
        ACTION_PROBS: probs,
        POST_COUNTS: counts,
        OBSERVED_COUNTS: counts,
        CREATED_MS: [NOW_MS - post.age_h * HOUR_MS for post in SLATE],
        AUTHOR_ID: [post.author for post in SLATE],
        KIND: [post.kind for post in SLATE],
        IS_IN_NETWORK: [post.is_followed for post in SLATE],
        IS_MUTUAL: [post.is_mutual for post in SLATE],
        N_PROOFS: [post.n_proofs for post in SLATE],
        AUTHOR_FOLLOWERS: [post.followers for post in SLATE],
        DURATION_MS: [post.duration_ms for post in SLATE],
    }
    return a_batch(columns)


def explained(values: dict[str, ParamValue]) -> tuple[list[Why], list[int]]:
    """Return the explanation of each post, and the order of their scores."""
    declared: dict[str, Param] = {param.name: param for stage in RANKERS for param in stage.params}
    query = a_query(params={declared[name]: value for name, value in values.items()})
    batch = the_slate()
    for stage in RANKERS:
        if stage.is_enabled(query):
            batch = batch.with_columns(stage.rank(query, batch))
        else:  # what the framework does
            batch = batch.with_columns({c: c.full(batch.n, {}) for c in stage.writes if c is not SCORE})  # type: ignore[union-attr]
    return WhyReader(RANKERS, ACTIONS.names).explain(query, batch), (np.argsort(-batch[SCORE]) + 1).tolist()


@pytest.mark.parametrize(
    ("values", "table", "order"),
    [
        # A slate of five has no sixteenth place: here a new author is lifted to the second.
        ({RANK.name: 1}, X, [1, 5, 2, 3, 4]),
        (dict(CLASSIC), CLASSICAL, [2, 1, 3, 5, 4]),
    ],
    ids=["x", "classic"],
)
def test_the_arithmetic_of_a_slate(values: dict[str, ParamValue], table: tuple[Row, ...], order: list[int]) -> None:
    found, ranking = explained(values)
    for post, why, row in zip(SLATE, found, table, strict=True):
        assert why.value == pytest.approx(row.value, abs=EXACT)
        assert why.offset_value == pytest.approx(row.offset_value, abs=EXACT)
        by_name = {step.name: step for step in why.steps}
        assert list(by_name) == ["recency", "social", "new_author_lift", "author_decay", "out_of_network"]
        for name, step in by_name.items():
            amount, after = getattr(row, name)
            assert step.kind == ("add" if name == "social" else "multiply")
            assert step.amount == pytest.approx(amount, rel=EXACT), (post, name)
            assert step.score_after == pytest.approx(after, abs=EXACT), (post, name)
        assert why.score == why.steps[-1].score_after
        assert sum(action.contribution for action in why.actions.values()) == pytest.approx(why.value, abs=EXACT)
        for name, weight in row.weights.items():
            assert why.actions[name].weight == pytest.approx(weight, rel=EXACT)
    assert ranking == order


def test_heads_that_weigh_nothing_in_a_profile_are_left_out_of_its_explanation() -> None:
    classic = explained(dict(CLASSIC))[0][0]
    assert set(classic.actions) == set(CLASSICAL[0].weights)
    assert "reply" in explained({"value.weight_reply": 0.0})[0][0].actions  # it weighs for mutual follows
