"""Smoothed rates: exact small cases, and the kernel against its reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action, ActionSpace
from millrace.base.params import Param
from millrace.features.columns import (
    ACTION_PROBS,
    AUTHOR_AFFINITY,
    AUTHOR_COUNTS,
    IS_IN_NETWORK,
    N_PROOFS,
    OBSERVED_COUNTS,
    POST_COUNTS,
    TEXT_TASTE,
    TOPIC_COUNTS,
)
from millrace.mixer.rankers.counters_ranker import (
    AFFINITY_GAIN,
    BASE_RATES,
    BASE_STRENGTH,
    FOLLOW_AFFINITY,
    LEAST_TASTE,
    POST_STRENGTH,
    PROOF_AFFINITY,
    STRANGER_FACTOR,
    TASTE_AFFINITY,
    CountersRanker,
)
from millrace.mixer.rankers.rates import smoothed_rates, smoothed_rates_reference
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.testing.pipeline_builders import a_batch, a_query, ranked

N = len(ActionSpace())


def counts(rows: list[dict[object, float]]) -> np.ndarray:
    array = np.zeros((len(rows), N + 1), dtype=np.float32)
    for row, cells in enumerate(rows):
        for action, value in cells.items():
            array[row, N if action == "views" else int(action)] = value  # type: ignore[call-overload]
    return array


def a_counted_batch(n: int, **evidence: np.ndarray) -> CandidateBatch:
    empty = counts([{}] * n)
    return a_batch(
        {
            POST_COUNTS: evidence.get("post", empty.copy()),
            AUTHOR_COUNTS: evidence.get("author", empty.copy()),
            TOPIC_COUNTS: evidence.get("topic", empty.copy()),
            OBSERVED_COUNTS: evidence.get("observed", empty.copy()),
            AUTHOR_AFFINITY: evidence.get("affinity", np.zeros(n, dtype=np.float32)),
            IS_IN_NETWORK: evidence.get("in_network", np.zeros(n, dtype=np.bool_)),
            N_PROOFS: evidence.get("proofs", np.zeros(n, dtype=np.int32)),
            TEXT_TASTE: evidence.get("taste", np.zeros(n, dtype=np.float32)),
        },
        n=n,
    )


def as_counted(params: dict[Param, object] | None = None) -> Query:
    """A query whose rates hold for strangers' posts as they were counted."""
    return a_query(params={STRANGER_FACTOR: 1.0, **(params or {})})


def test_without_evidence_everything_has_its_base_rate() -> None:
    probs = ranked(CountersRanker(ActionSpace()), as_counted(), a_counted_batch(1))[ACTION_PROBS]
    assert probs.shape == (1, N)
    assert probs[0, Action.LIKE] == pytest.approx(BASE_RATES[Action.LIKE])
    assert probs[0, Action.DWELL_TIME] == pytest.approx(BASE_RATES[Action.DWELL_TIME])


def test_a_post_moves_from_the_prior_to_its_own_rate_as_views_come_in() -> None:
    batch = a_counted_batch(
        3,
        post=counts(
            [{"views": 2, Action.LIKE: 1}, {"views": 40, Action.LIKE: 20}, {"views": 40_000, Action.LIKE: 20_000}]
        ),
    )
    likes = ranked(CountersRanker(ActionSpace()), as_counted({POST_STRENGTH: 40.0}), batch)[ACTION_PROBS][
        :, Action.LIKE
    ]
    assert likes[0] == pytest.approx((1 + 40 * 0.03) / 42)
    assert likes[1] == pytest.approx((20 + 40 * 0.03) / 80)
    assert likes[2] == pytest.approx(0.5, abs=1e-3)


def test_more_likes_without_logged_views_mean_a_higher_rate_and_never_more_than_one() -> None:
    batch = a_counted_batch(4, observed=counts([{Action.LIKE: c} for c in (0, 10, 1_000, 1_000_000)]))
    likes = ranked(CountersRanker(ActionSpace()), as_counted(), batch)[ACTION_PROBS][:, Action.LIKE]
    assert likes.tolist() == sorted(likes.tolist())
    assert pytest.approx(likes[0]) == 0.03
    assert likes[3] < 1


def test_affinity_lifts_positive_heads_only() -> None:
    affinity = np.array([0, 3, 1000], dtype=np.float32)
    probs = ranked(
        CountersRanker(ActionSpace()), as_counted({AFFINITY_GAIN: 2.0}), a_counted_batch(3, affinity=affinity)
    )[ACTION_PROBS]
    assert probs[:, Action.LIKE].tolist() == pytest.approx([0.03, 0.06, 0.09], rel=0.01)
    assert len(set(probs[:, Action.REPORT].tolist())) == 1
    assert len(set(probs[:, Action.DWELL_TIME].tolist())) == 1


def test_following_an_author_counts_as_affinity_before_anything_was_done() -> None:
    batch = a_counted_batch(2, in_network=np.array([False, True]))
    probs = ranked(CountersRanker(ActionSpace()), as_counted({AFFINITY_GAIN: 2.0, FOLLOW_AFFINITY: 3.0}), batch)
    assert probs[ACTION_PROBS][:, Action.LIKE].tolist() == pytest.approx([0.03, 0.06])


def test_each_followed_account_that_engaged_with_a_post_counts_as_affinity() -> None:
    batch = a_counted_batch(2, proofs=np.array([0, 6], dtype=np.int32))
    probs = ranked(CountersRanker(ActionSpace()), as_counted({AFFINITY_GAIN: 2.0, PROOF_AFFINITY: 0.5}), batch)
    assert probs[ACTION_PROBS][:, Action.LIKE].tolist() == pytest.approx([0.03, 0.06])


def test_a_text_like_what_one_liked_counts_as_affinity_beyond_what_chance_gives() -> None:
    batch = a_counted_batch(3, taste=np.array([0.0, 0.2, 0.5], dtype=np.float32))
    params = {AFFINITY_GAIN: 2.0, TASTE_AFFINITY: 10.0, LEAST_TASTE: 0.2}
    probs = ranked(CountersRanker(ActionSpace()), as_counted(params), batch)
    assert probs[ACTION_PROBS][:, Action.LIKE].tolist() == pytest.approx([0.03, 0.03, 0.06])


def test_less_is_expected_of_what_is_done_with_posts_of_strangers() -> None:
    batch = a_counted_batch(2, in_network=np.array([False, True]))
    query = a_query(params={STRANGER_FACTOR: 0.5, FOLLOW_AFFINITY: 0.0})
    probs = ranked(CountersRanker(ActionSpace()), query, batch)[ACTION_PROBS]
    assert probs[:, Action.LIKE].tolist() == pytest.approx([0.015, 0.03])
    assert len(set(probs[:, Action.REPORT].tolist())) == 1


def test_an_unknown_author_begins_as_an_average_one_of_the_candidates() -> None:
    author = counts([{"views": 9_000, Action.LIKE: 1_800}, {}, {Action.LIKE: 500}])  # the last without logged views
    batch = a_counted_batch(3, author=author)
    likes = ranked(CountersRanker(ActionSpace()), as_counted({BASE_STRENGTH: 1_000.0}), batch)[ACTION_PROBS]
    assert likes[1, Action.LIKE] == pytest.approx((1_800 + 1_000 * 0.03) / 10_000)


def test_business_actions_have_heads_that_begin_at_zero() -> None:
    actions = ActionSpace(("purchase",))
    empty = np.zeros((1, len(actions) + 1), dtype=np.float32)
    columns = (POST_COUNTS, AUTHOR_COUNTS, TOPIC_COUNTS, OBSERVED_COUNTS)
    batch = a_batch(
        {
            **{column: empty.copy() for column in columns},
            AUTHOR_AFFINITY: [0.0],
            IS_IN_NETWORK: [False],
            N_PROOFS: [0],
            TEXT_TASTE: [0.0],
        },
        n=1,
    )
    probs = ranked(CountersRanker(actions), as_counted(), batch)[ACTION_PROBS]
    assert probs.shape == (1, N + 1)
    assert probs[0, N] == 0


def test_nothing_is_concluded_from_what_an_import_did_not_count() -> None:
    batch = a_counted_batch(1, observed=counts([{Action.LIKE: 500}]))
    probs = ranked(CountersRanker(ActionSpace()), as_counted(), batch)[ACTION_PROBS]
    assert probs[0, Action.LIKE] > BASE_RATES[Action.LIKE]
    assert probs[0, Action.REPLY] == pytest.approx(BASE_RATES[Action.REPLY])


@given(
    data=st.lists(st.lists(st.floats(0, 1e4, width=32), min_size=5, max_size=5), min_size=4, max_size=16),
    max_views=st.floats(1, 1e4, width=32),
)
@settings(max_examples=50, deadline=None)
def test_kernel_agrees_with_its_reference(data: list[list[float]], max_views: float) -> None:
    n = len(data) // 4
    tables = np.array(data[: 4 * n], dtype=np.float32).reshape(4, n, 5)
    base = np.array([0.1, 0.01, 4.0, 0.3], dtype=np.float32)
    strengths = np.array([100, 50, 20, 20], dtype=np.float32)
    ours = smoothed_rates(*tables, base, strengths, max_views, 2)
    expected = smoothed_rates_reference(*tables, base, strengths, max_views, 2)
    np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-7)
