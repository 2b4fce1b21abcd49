"""The new-author lift: who is lifted, how far, and that it is one post."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.features.columns import (
    AUTHOR_FOLLOWERS,
    CREATED_MS,
    KIND,
    LIFT_FACTOR,
    OBSERVED_COUNTS,
    POST_COUNTS,
    SCORE,
)
from millrace.mixer.kinds import QUOTE
from millrace.mixer.value_model.lift import IS_ON, MAX_FOLLOWERS, N_RANKS, RANK, NewAuthorLift
from millrace.pipeline.batch import CandidateBatch
from millrace.testing.builders import NOW_MS
from millrace.testing.pipeline_builders import a_batch, a_query, ranked

HOUR_MS = 3_600_000
N = 40
FAMOUS = 1_001


def scored(new: dict[int, dict[Any, Any]], n: int = N) -> CandidateBatch:
    """Return posts 1 to n with scores 1, 1/2, 1/3 ...: those in ``new`` by new authors, with what they have else."""
    columns: dict[Any, Any] = {
        SCORE: [1 / (row + 1) for row in range(n)],
        KIND: [0] * n,
        CREATED_MS: [NOW_MS - HOUR_MS] * n,
        AUTHOR_FOLLOWERS: [FAMOUS] * n,
        POST_COUNTS: np.zeros((n, 24), dtype=np.float32),
        OBSERVED_COUNTS: np.zeros((n, 24), dtype=np.float32),
    }
    for row, cells in new.items():
        for column, value in {AUTHOR_FOLLOWERS: 3, **cells}.items():
            if column in (POST_COUNTS, OBSERVED_COUNTS):
                columns[column][row, -1] = value
            else:
                columns[column][row] = value
    return a_batch(columns)


def lifted(batch: CandidateBatch, **params: Any) -> list[int]:
    return (np.flatnonzero(ranked(NewAuthorLift(), a_query(**params), batch)[LIFT_FACTOR] != 1)).tolist()


def test_the_best_eligible_post_and_no_other_comes_up_to_the_sixteenth_place() -> None:
    batch = scored({20: {}, 25: {}, 30: {}})
    after = ranked(NewAuthorLift(), a_query(), batch)
    assert lifted(batch) == [20]
    assert after[SCORE][20] >= batch[SCORE][15]
    assert after[SCORE][20] == pytest.approx(1 / 16, rel=1e-6)
    assert after[LIFT_FACTOR][20] == pytest.approx(21 / 16, rel=1e-6)
    others = np.delete(np.arange(N), 20)
    assert (after[SCORE][others] == batch[SCORE][others]).all()


@pytest.mark.parametrize(
    "why_not",
    [
        {AUTHOR_FOLLOWERS: FAMOUS},
        {KIND: QUOTE},
        {CREATED_MS: NOW_MS - 24 * HOUR_MS - 1},
        {POST_COUNTS: 1_000},
        {OBSERVED_COUNTS: 1_000},
        {SCORE: 0.0},
    ],
    ids=["followed by many", "no original", "old", "seen by many", "known elsewhere", "worth nothing"],
)
def test_others_are_not_lifted(why_not: dict[Any, Any]) -> None:
    assert lifted(scored({20: why_not})) == []
    assert lifted(scored({20: why_not, 21: {}})) == [21]


def test_the_limits_are_inclusive_as_published() -> None:
    at_the_edge = {AUTHOR_FOLLOWERS: 1_000, CREATED_MS: NOW_MS - 24 * HOUR_MS, POST_COUNTS: 999}
    assert lifted(scored({20: at_the_edge})) == [20]


def test_only_the_upper_85_percent_are_lifted() -> None:
    assert lifted(scored({33: {}})) == [33]  # the 34th of 40
    assert lifted(scored({34: {}})) == []


def test_what_stands_above_the_sixteenth_place_stays_there_and_counts_as_the_one() -> None:
    assert lifted(scored({3: {}, 20: {}})) == []
    assert lifted(scored({15: {}, 20: {}})) == []


def test_a_page_without_a_sixteenth_place_lifts_nobody() -> None:
    assert lifted(scored({14: {}}, n=15)) == []
    assert lifted(scored({16: {}}, n=20)) == [16]


def test_it_can_be_switched_off_and_told_otherwise() -> None:
    assert not NewAuthorLift().is_enabled(a_query(params={IS_ON: False}))
    assert lifted(scored({20: {}}), params={MAX_FOLLOWERS: 2}) == []
    batch = scored({20: {}})
    after = ranked(NewAuthorLift(), a_query(params={RANK: 5}), batch)
    assert after[SCORE][20] == pytest.approx(1 / 6, rel=1e-6)


def test_the_rank_is_drawn_by_the_request_alone() -> None:
    def score(request_id: str) -> float:
        query = a_query(request_id=request_id, params={N_RANKS: 5})
        return float(ranked(NewAuthorLift(), query, scored({30: {}}))[SCORE][30])

    drawn = {request_id: score(request_id) for request_id in map(str, range(50))}
    assert drawn == {request_id: score(request_id) for request_id in drawn}
    assert {round(1 / value) for value in drawn.values()} == {16, 17, 18, 19, 20}


@given(
    st.lists(st.tuples(st.floats(0, 1e3, width=32), st.booleans()), max_size=40),
    st.integers(0, 20),
)
@settings(max_examples=200, deadline=None)
def test_one_post_at_most_rises_and_never_ends_below_its_place(posts: list[tuple[float, bool]], rank: int) -> None:
    batch = scored({row: {} for row, (_, is_new) in enumerate(posts) if is_new}, n=len(posts))
    batch = batch.with_columns({SCORE: np.array([score for score, _ in posts], dtype=np.float32)})
    after = ranked(NewAuthorLift(), a_query(params={RANK: rank}), batch)
    rose = np.flatnonzero(after[LIFT_FACTOR] != 1)
    assert len(rose) <= 1
    assert np.isfinite(after[SCORE]).all()
    for row in rose:
        assert posts[row][1]
        assert after[SCORE][row] >= np.sort(batch[SCORE])[::-1][rank] > batch[SCORE][row]
        assert np.delete(after[SCORE], row).tolist() == np.delete(batch[SCORE], row).tolist()
