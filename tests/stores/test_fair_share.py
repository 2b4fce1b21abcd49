import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.stores.fair_share import rank_in_group, take_turns, take_turns_reference

groups = st.lists(st.integers(-3, 4), max_size=40).map(lambda values: np.array(values, dtype=np.int64))


@settings(deadline=None)
@given(groups, st.integers(0, 45))
def test_turns_are_those_of_the_reference(rows: np.ndarray, max_rows: int) -> None:
    assert take_turns(rows, max_rows).tolist() == take_turns_reference(rows, max_rows).tolist()


def test_ranks_count_earlier_rows_of_the_group() -> None:
    assert rank_in_group(np.array([7, 7, 0, 7, 0])).tolist() == [0, 1, 0, 2, 1]
    assert rank_in_group(np.array([], dtype=np.int64)).tolist() == []


def test_one_prolific_author_cannot_crowd_out_50_quiet_ones() -> None:
    authors = np.array([1] * 1_000 + list(range(100, 150)))  # the prolific author's posts are all newer
    chosen = authors[take_turns(authors, 60)]
    assert set(range(100, 150)) <= set(chosen.tolist())
    assert (chosen == 1).sum() == 10
    assert take_turns(authors, 60)[:10].tolist() == list(range(10))  # in their order, the newest of the prolific one
