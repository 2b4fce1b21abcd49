"""The page: best first, few per author and topic, one of a conversation, a reserve for the long tail."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.params import Param, ParamValue
from millrace.features.columns import AUTHOR_ID, CONVERSATION_ID, HEAT, PAGE_SCORE, POST_ID, SCORE, TOPICS
from millrace.mixer.selectors.page import (
    HEAD_SIZE,
    LONG_TAIL,
    MAX_PER_AUTHOR,
    MAX_PER_TOPIC,
    ONE_PER_CONVERSATION,
    PageSelector,
    popular_head,
)
from millrace.mixer.selectors.page_kernel import Rules, fill_page, fill_page_reference
from millrace.pipeline.batch import CandidateBatch
from millrace.testing.pipeline_builders import a_batch, a_query


def candidates(n: int, **columns: Any) -> CandidateBatch:
    """Return candidates that no rule keeps apart, ids 1 to n in falling order, except for the given columns."""
    topics = columns.get("topics", [0] * n)
    return a_batch(
        {
            PAGE_SCORE: columns.get("page_scores", list(range(n, 0, -1))),
            SCORE: columns.get("scores", [0.0] * n),
            AUTHOR_ID: columns.get("authors", list(range(100, 100 + n))),
            TOPICS: np.array([[topic, 99, 99] for topic in topics], dtype=np.int32).reshape(n, 3),
            CONVERSATION_ID: columns.get("conversations", list(range(1, n + 1))),
            HEAT: columns.get("heat", [0.0] * n),
        },
        n=n,
    )


def page(batch: CandidateBatch, n_wanted: int, params: dict[Param, ParamValue] | None = None) -> list[int]:
    rows = PageSelector().select(a_query(params=params), batch, n_wanted)
    return batch[POST_ID][rows].tolist()  # type: ignore[no-any-return]


def test_the_best_places_come_first() -> None:
    assert page(candidates(4, page_scores=[1, 4, 2, 3]), 3) == [2, 4, 3]


def test_where_nobody_re_ranked_the_score_decides_and_ties_go_by_id() -> None:
    assert page(candidates(4, page_scores=[0] * 4, scores=[0.1, 0.9, 0.5, 0.9]), 3) == [2, 4, 3]


def test_scores_that_are_no_numbers_come_last() -> None:
    assert page(candidates(3, page_scores=[0] * 3, scores=[np.nan, 0.0, np.inf]), 3) == [2, 1, 3]


def test_an_author_has_at_most_so_many_posts() -> None:
    batch = candidates(5, authors=[7, 7, 7, 8, 7])
    assert page(batch, 4, {MAX_PER_AUTHOR: 2}) == [1, 2, 4]


def test_a_topic_has_at_most_so_many_posts_and_the_unknown_one_any_number() -> None:
    batch = candidates(6, topics=[3, 3, 0, 3, 0, 0])
    assert page(batch, 6, {MAX_PER_TOPIC: 2}) == [1, 2, 3, 5, 6]


def test_of_a_conversation_the_best_is_there() -> None:
    batch = candidates(4, conversations=[5, 6, 5, 6])
    assert page(batch, 4) == [1, 2]
    assert page(batch, 4, {ONE_PER_CONVERSATION: False}) == [1, 2, 3, 4]


def test_posts_of_unknown_conversations_are_not_taken_for_one() -> None:
    assert page(candidates(3, conversations=[0, 0, 0]), 3) == [1, 2, 3]


def test_the_lowest_of_the_popular_head_make_room_for_the_long_tail() -> None:
    batch = candidates(8, heat=[9, 8, 7, 6, 5, 0, 0, 0])
    assert page(batch, 4, {LONG_TAIL: 0.5}) == [1, 2, 6, 7]
    assert page(batch, 4, {LONG_TAIL: 0.0}) == [1, 2, 3, 4]


def test_a_page_that_has_enough_of_the_long_tail_stays_as_it_is() -> None:
    assert page(candidates(6, heat=[0, 9, 8, 0, 7, 0]), 4, {LONG_TAIL: 0.5}) == [1, 2, 3, 4]


def test_the_head_fills_up_what_the_long_tail_cannot() -> None:
    assert page(candidates(5, heat=[9, 8, 7, 6, 0]), 5, {LONG_TAIL: 0.5}) == [1, 2, 3, 4, 5]


def test_a_reserve_does_not_loosen_the_caps() -> None:
    batch = candidates(5, heat=[9, 8, 7, 0, 0], authors=[1, 2, 3, 1, 1])
    assert page(batch, 4, {LONG_TAIL: 0.5, MAX_PER_AUTHOR: 2}) == [1, 2, 3, 4]


@pytest.mark.parametrize(("n_wanted", "frac", "n_reserved"), [(35, 0.1, 4), (30, 0.1, 3), (50, 0.2, 10), (1, 0.1, 1)])
def test_the_reserve_is_rounded_up_and_not_beyond(n_wanted: int, frac: float, n_reserved: int) -> None:
    n = 2 * n_wanted
    chosen = page(candidates(n, heat=[1.0] * n_wanted + [0.0] * n_wanted), n_wanted, {LONG_TAIL: frac})
    assert sum(post > n_wanted for post in chosen) == n_reserved


def test_the_popular_head_is_the_hottest_and_never_what_is_cold() -> None:
    batch = candidates(5, heat=[3, 0, 2, 2, 1])
    assert popular_head(batch, 1).tolist() == [True, False, False, False, False]
    assert popular_head(batch, 2).tolist() == [True, False, True, True, False]  # as hot as the second
    assert popular_head(batch, 9).tolist() == [True, False, True, True, True]
    assert popular_head(batch, 0).tolist() == [False] * 5


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.integers(0, 9)),
    max_size=60,
)


@given(
    rows=ROWS,
    n_wanted=st.integers(1, 12),
    most=st.integers(1, 3),
    max_per_topic=st.integers(1, 4),
    is_one=st.booleans(),
    frac=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    head_size=st.integers(0, 20),
)
@settings(max_examples=150, deadline=None)
def test_pages_keep_their_rules_and_agree_with_the_naive_model(
    rows: list[tuple[int, int, int, int, int]],
    n_wanted: int,
    most: int,
    max_per_topic: int,
    is_one: bool,
    frac: float,
    head_size: int,
) -> None:
    columns_of = [list(column) for column in zip(*rows, strict=True)] or [[]] * 5
    authors, topics, conversations, heat, scores = columns_of
    batch = candidates(
        len(rows), authors=authors, topics=topics, conversations=conversations, heat=heat, page_scores=scores
    )
    chosen = page(
        batch,
        n_wanted,
        {
            MAX_PER_AUTHOR: most,
            MAX_PER_TOPIC: max_per_topic,
            ONE_PER_CONVERSATION: is_one,
            LONG_TAIL: frac,
            HEAD_SIZE: head_size,
        },
    )
    order = sorted(range(len(rows)), key=lambda row: (-scores[row], row))
    is_head = popular_head(batch, head_size)
    max_head = n_wanted - math.ceil(round(frac * n_wanted, 6))
    rules = Rules(n_wanted, most, max_per_topic, is_one, max_head)
    columns = (batch[AUTHOR_ID], batch[TOPICS][:, 0], batch[CONVERSATION_ID], is_head)
    expected = fill_page_reference(*(column[order] for column in columns), rules, is_all=True)  # type: ignore[index]
    assert chosen == [order[place] + 1 for place in expected]

    on_page = [rows[post - 1] for post in chosen]
    assert max(map([row[0] for row in on_page].count, range(4))) <= most
    assert max(map([row[1] for row in on_page].count, range(1, 4)), default=0) <= max_per_topic
    known = [row[2] for row in on_page if row[2]]
    assert not is_one or len(known) == len(set(known))
    # More of the head than its share only where every other candidate that is left would break a rule.
    if sum(is_head[post - 1] for post in chosen) > max_head:
        left = [row for row in range(len(rows)) if row + 1 not in chosen and not is_head[row]]
        assert not any(_may_join(rows[row], on_page, most, max_per_topic, is_one) for row in left)


@given(rows=ROWS, n_wanted=st.integers(1, 12), max_head=st.integers(0, 12), is_all=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_kernel_agrees_with_its_reference(
    rows: list[tuple[int, int, int, int, int]], n_wanted: int, max_head: int, is_all: bool
) -> None:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 5).T.copy()
    arguments = (
        columns[0],
        columns[1].astype(np.int32),
        columns[2],
        columns[3] > 0,
        Rules(n_wanted, 2, 3, True, max_head),
    )
    assert fill_page(*arguments, is_all).tolist() == fill_page_reference(*arguments, is_all).tolist()


def test_a_page_chosen_again_without_some_rows_keeps_its_rules() -> None:
    batch = candidates(8, authors=[1, 1, 1, 2, 1, 3, 1, 4], topics=[1, 1, 0, 1, 0, 1, 0, 0])
    params: dict[Param, ParamValue] = {MAX_PER_AUTHOR: 2, MAX_PER_TOPIC: 2}
    assert page(batch, 4, params) == [1, 2, 8]
    assert page(batch.take(np.array([1, 2, 3, 4, 5, 6, 7])), 4, params) == [2, 3, 4, 8]


def _may_join(
    row: tuple[int, ...], on_page: list[tuple[int, ...]], most: int, max_per_topic: int, is_one: bool
) -> bool:
    return (
        [other[0] for other in on_page].count(row[0]) < most
        and (row[1] == 0 or [other[1] for other in on_page].count(row[1]) < max_per_topic)
        and not (is_one and row[2] and row[2] in [other[2] for other in on_page])
    )
