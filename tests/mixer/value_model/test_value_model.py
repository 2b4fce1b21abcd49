"""Arithmetic of the value model, by hand."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import NEGATIVE, Action, ActionSpace
from millrace.base.params import ParamSet
from millrace.features.columns import (
    ACTION_PROBS,
    CREATED_MS,
    DURATION_MS,
    IS_IN_NETWORK,
    IS_MUTUAL,
    KIND,
    NETWORK_FACTOR,
    OFFSET_VALUE,
    RECENCY_FACTOR,
    SCORE,
    VALUE,
)
from millrace.mixer.home_models import MODELS, HomeModels
from millrace.mixer.kinds import ORIGINAL, QUOTE, REPLY, REPOST
from millrace.mixer.value_model.multipliers import (
    LEARNED_RECENCY,
    RECENCY_RATE,
    RESCORES_REPLIES,
    OutOfNetworkMultiplier,
    RecencyMultiplier,
)
from millrace.mixer.value_model.weighted_sum import MIN_COMPLETE_S, MUTUAL_REPLY_BOOST, WeightedSum, offset_value
from millrace.mixer.value_model.weights import X_WEIGHTS, Weights, signed_sums
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn
from millrace.testing.builders import NOW_MS
from millrace.testing.pipeline_builders import a_batch, a_query, ranked

ACTIONS = ActionSpace()
NOTHING: Mapping[AnyColumn, Any] = {}


def a_predicted_batch(
    rows: list[dict[Action, float]], duration_ms: int = 0, more: Mapping[AnyColumn, Any] = NOTHING
) -> CandidateBatch:
    probs = np.zeros((len(rows), len(ACTIONS)), dtype=np.float32)
    for row, cells in enumerate(rows):
        for action, p in cells.items():
            probs[row, action] = p
    n = len(rows)
    columns: dict[AnyColumn, Any] = {ACTION_PROBS: probs, DURATION_MS: [duration_ms] * n, IS_MUTUAL: [False] * n}
    return a_batch({**columns, KIND: [ORIGINAL] * n, **more}, n=n)


def test_value_is_the_sum_of_weight_times_prediction() -> None:
    batch = ranked(
        WeightedSum(ACTIONS),
        a_query(),
        a_predicted_batch([{Action.LIKE: 0.1, Action.REPLY: 0.02, Action.DWELL_TIME: 5.0, Action.REPORT: 0.0001}]),
    )
    expected = 0.5 * 0.1 + 5 * 0.02 + 0.004 * 5 - 234 * 0.0001
    assert batch[VALUE][0] == pytest.approx(expected, abs=1e-6)
    assert batch[OFFSET_VALUE][0] == pytest.approx(expected + 0.001, abs=1e-6)
    assert batch[SCORE][0] == batch[OFFSET_VALUE][0]


def test_negative_sums_go_into_a_band_below_everything_else_in_their_order() -> None:
    batch = ranked(
        WeightedSum(ACTIONS), a_query(), a_predicted_batch([{}, {Action.REPORT: 0.01}, {Action.REPORT: 1.0}])
    )
    negative = 43.2 + 58.8 + 31.2 + 234.0 + 0.02
    total = negative + sum(w for a, w in X_WEIGHTS.items() if w > 0 and a is not Action.DWELL_TIME)
    assert batch[OFFSET_VALUE].tolist() == pytest.approx(
        [0.001, 0.001 * (negative - 2.34) / total, 0.001 * (negative - 234) / total], abs=1e-6
    )
    assert negative == pytest.approx(367.22)


def test_watching_to_the_end_counts_for_long_videos_only() -> None:
    for duration_ms, expected in ((10_000, 0.0), (10_001, 0.05)):
        batch = a_predicted_batch([{Action.COMPLETE: 1.0}], duration_ms)
        assert ranked(WeightedSum(ACTIONS), a_query(), batch)[VALUE][0] == pytest.approx(expected, abs=1e-7)
    query = a_query(params={MIN_COMPLETE_S: 0.0})
    assert ranked(WeightedSum(ACTIONS), query, batch)[VALUE][0] == pytest.approx(0.05)


def test_replies_to_originals_of_mutual_follows_weigh_more() -> None:
    more = {IS_MUTUAL: [False, True, True], KIND: [ORIGINAL, ORIGINAL, QUOTE]}
    batch = a_predicted_batch([{Action.REPLY: 0.01}] * 3, more=more)
    values = ranked(WeightedSum(ACTIONS), a_query(), batch)[VALUE].tolist()
    assert values == pytest.approx([0.05, 0.2, 0.05], abs=1e-7)
    query = a_query(params={MUTUAL_REPLY_BOOST: 0.0})
    assert ranked(WeightedSum(ACTIONS), query, batch)[VALUE].tolist() == pytest.approx([0.05] * 3, abs=1e-7)


def test_applied_weights_are_those_that_the_sum_was_made_with() -> None:
    rows = [dict.fromkeys(Action, 0.01)] * 3
    batch = a_predicted_batch(rows, 20_000, {IS_MUTUAL: [True, False, True], KIND: [ORIGINAL, ORIGINAL, REPLY]})
    for query in (a_query(), a_query(params={MUTUAL_REPLY_BOOST: 0.0}), a_query(params={MIN_COMPLETE_S: 30.0})):
        stage = WeightedSum(ACTIONS)
        applied = stage.applied_weights(query, batch)
        np.testing.assert_allclose(
            (applied * batch[ACTION_PROBS]).sum(axis=1), ranked(stage, query, batch)[VALUE], rtol=1e-5
        )


def test_weights_are_params_of_the_request() -> None:
    stage = WeightedSum(ACTIONS)
    declared = {param.name: param for param in stage.params}
    params = ParamSet().override("experiment", {"value.weight_like": 2.0}, declared)
    weights = stage.weights.read(params)
    assert weights[Action.LIKE] == 2.0
    assert weights[Action.REPLY] == 5.0
    assert stage.weights.read(ParamSet())[Action.LIKE] == 0.5


def test_every_head_has_a_weight_of_the_right_sign() -> None:
    params = Weights(ActionSpace(("purchase",))).params
    assert len(params) == len(ACTIONS) + 1
    for action in Action:
        assert (params[action].high == 0) == (action in NEGATIVE)
    assert params[-1].name == "value.weight_purchase"
    assert params[-1].default == 0


def test_recency_multiplies_by_a_decay_per_hour() -> None:
    batch = a_batch(
        {
            CREATED_MS: [NOW_MS, NOW_MS - 36_000_000, NOW_MS + 5_000],
            SCORE: [2.0, 2.0, 2.0],
        }
    )
    decayed = ranked(RecencyMultiplier(), a_query(params={RECENCY_RATE: 0.1}), batch)
    assert decayed[RECENCY_FACTOR].tolist() == pytest.approx([1, np.exp(-1), 1])
    assert decayed[SCORE].tolist() == pytest.approx([2, 2 * np.exp(-1), 2])
    assert ranked(RecencyMultiplier(), a_query(params={RECENCY_RATE: 0.0}), batch)[SCORE].tolist() == [2, 2, 2]


def test_where_a_ranker_has_learned_ages_count_for_less() -> None:
    batch = a_batch({SCORE: [1.0], CREATED_MS: [NOW_MS - 36_000_000]})
    params = {RECENCY_RATE: 0.1, LEARNED_RECENCY: 0.5}
    learned = {MODELS: HomeModels(ranker=cast("Any", object()))}
    by_counters = ranked(RecencyMultiplier(), a_query(params=params), batch)
    by_ranker = ranked(RecencyMultiplier(), a_query(learned, params=params), batch)
    assert by_counters[SCORE].tolist() == pytest.approx([np.exp(-1.0)])
    assert by_ranker[SCORE].tolist() == pytest.approx([np.exp(-0.5)])


def test_strangers_posts_count_for_less() -> None:
    kinds = [ORIGINAL, QUOTE, REPLY, REPOST, ORIGINAL]
    batch = a_batch({IS_IN_NETWORK: [True, True, True, True, False], KIND: kinds, SCORE: [2.0] * 5})
    scored = ranked(OutOfNetworkMultiplier(), a_query(), batch)
    assert scored[NETWORK_FACTOR].tolist() == [1.0, 1.0, 0.75, 0.75, 0.75]  # of those one follows: what they wrote
    assert scored[SCORE].tolist() == [2.0, 2.0, 1.5, 1.5, 1.5]
    query = a_query(params={RESCORES_REPLIES: False})
    assert ranked(OutOfNetworkMultiplier(), query, batch)[NETWORK_FACTOR].tolist() == [1.0, 1.0, 1.0, 1.0, 0.75]


@given(st.lists(st.floats(-300, 300, width=32), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_offset_keeps_the_order_and_is_never_negative(values: list[float]) -> None:
    sums = signed_sums(Weights(ACTIONS).read(ParamSet()))
    array = np.array(sorted(values), dtype=np.float32)
    offset = offset_value(array, *sums)
    assert (np.diff(offset) >= 0).all()
    assert (offset >= 0).all()
