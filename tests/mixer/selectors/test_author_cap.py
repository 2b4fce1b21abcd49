"""The page: best first, few per author."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.features.columns import AUTHOR_ID, POST_ID, SCORE
from millrace.mixer.selectors.author_cap import MAX_PER_AUTHOR, AuthorCapSelector
from millrace.testing.pipeline_builders import a_batch, a_query


def selected(scores: list[float], authors: list[int], n_wanted: int, most: int = 3) -> list[int]:
    batch = a_batch({SCORE: scores, AUTHOR_ID: authors})
    query = a_query(params={MAX_PER_AUTHOR: most})
    return batch[POST_ID][AuthorCapSelector().select(query, batch, n_wanted)].tolist()  # type: ignore[no-any-return]


def test_the_best_scores_come_first_and_ties_by_id() -> None:
    assert selected([0.1, 0.9, 0.5, 0.9], [1, 2, 3, 4], 3) == [2, 4, 3]


def test_an_author_has_at_most_so_many_posts() -> None:
    assert selected([5, 4, 3, 2, 1], [7, 7, 7, 8, 7], 4, most=2) == [1, 2, 4]


def test_scores_that_are_no_numbers_come_last() -> None:
    assert selected([np.nan, 0.0, np.inf], [1, 2, 3], 3) == [2, 1, 3]


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=40),
    n_wanted=st.integers(1, 12),
    most=st.integers(1, 3),
)
@settings(max_examples=50, deadline=None)
def test_selection_agrees_with_a_loop(rows: list[tuple[int, int]], n_wanted: int, most: int) -> None:
    expected: list[int] = []
    taken: dict[int, int] = {}
    for row in sorted(range(len(rows)), key=lambda i: (-rows[i][0], i)):
        author = rows[row][1]
        if taken.get(author, 0) < most and len(expected) < n_wanted:
            taken[author] = taken.get(author, 0) + 1
            expected.append(row + 1)
    assert selected([float(s) for s, _ in rows], [a for _, a in rows], n_wanted, most) == expected
