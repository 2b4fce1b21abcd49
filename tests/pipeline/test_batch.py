"""Batches: declared columns, immutable, shared, gathered when read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import PipelineError
from millrace.features.columns import AUTHOR_ID, POST_ID, SCORE, TOPICS
from millrace.pipeline.batch import CandidateBatch, empty_batch
from millrace.pipeline.column import Column, RaggedColumn
from millrace.pipeline.ragged import Ragged
from millrace.testing.pipeline_builders import a_batch

TOKENS = RaggedColumn("tokens", np.dtype(np.int64))


def test_rows_are_taken_in_the_given_order_from_every_column() -> None:
    batch = a_batch({POST_ID: [1, 2, 3], AUTHOR_ID: [10, 20, 30], TOKENS: [[1], [], [2, 3]]})
    taken = batch.take(np.array([2, 0]))
    assert taken[POST_ID].tolist() == [3, 1]
    assert taken[AUTHOR_ID].tolist() == [30, 10]
    assert [taken[TOKENS].row(i).tolist() for i in range(2)] == [[2, 3], [1]]


def test_untouched_columns_are_shared_and_not_copied() -> None:
    batch = a_batch({AUTHOR_ID: [10, 20]})
    wider = batch.with_columns({SCORE: np.ones(2, dtype=np.float32)})
    assert wider[AUTHOR_ID] is batch[AUTHOR_ID]
    assert SCORE not in batch
    assert batch.compact(np.array([True, True])) is batch


def test_a_gathered_column_is_gathered_once() -> None:
    taken = a_batch({AUTHOR_ID: [10, 20]}).take(np.array([1]))
    assert taken[AUTHOR_ID] is taken[AUTHOR_ID]


def test_columns_cannot_be_written() -> None:
    batch = a_batch({AUTHOR_ID: [10, 20]})
    with pytest.raises(ValueError, match="read-only"):
        batch[AUTHOR_ID][0] = 1
    with pytest.raises(ValueError, match="read-only"):
        batch.take(np.array([1]))[AUTHOR_ID][0] = 1


def test_no_rows_are_valid() -> None:
    batch = empty_batch((POST_ID, TOPICS, TOKENS), {})
    assert len(batch) == 0
    assert batch[TOPICS].shape == (0, 3)
    assert len(batch.take(np.empty(0, dtype=np.intp))[TOKENS]) == 0


@pytest.mark.parametrize(
    "data",
    [np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int32), np.zeros((2, 1), dtype=np.int64), [1, 2]],
    ids=["rows", "dtype", "dimensions", "list"],
)
def test_a_column_of_the_wrong_form_is_refused_by_name(data: object) -> None:
    with pytest.raises(PipelineError, match="column author_id"):
        a_batch({POST_ID: [1, 2]}).with_columns({AUTHOR_ID: data})


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(PipelineError, match="column author_id"):
        a_batch({POST_ID: [1]})[AUTHOR_ID]


def test_columns_of_objects_cannot_be_declared() -> None:
    with pytest.raises(PipelineError, match="column text"):
        Column("text", np.dtype(object), 0)


def test_row_shows_one_candidate() -> None:
    batch = a_batch({POST_ID: [1, 2], TOKENS: [[1], [5]]})
    shown = batch.row(1)
    assert shown["post_id"] == 2
    assert shown["tokens"].tolist() == [5]


@given(
    values=st.lists(st.integers(-(2**60), 2**60), max_size=30),
    seed=st.integers(0, 100),
    n_takes=st.integers(1, 4),
)
@settings(max_examples=50, deadline=None)
def test_taking_again_and_again_is_indexing_again_and_again(values: list[int], seed: int, n_takes: int) -> None:
    rng = np.random.default_rng(seed)
    batch = CandidateBatch({POST_ID: np.array(values, dtype=np.int64)})
    expected = np.array(values, dtype=np.int64)
    for _ in range(n_takes):
        rows = rng.integers(0, max(len(expected), 1), size=len(expected)) if len(expected) else np.empty(0, np.intp)
        batch, expected = batch.take(rows), expected[rows]
    assert batch[POST_ID].tolist() == expected.tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=12), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_ragged_rows_behave_like_lists(rows: list[list[int]], seed: int) -> None:
    ragged = Ragged.from_rows(rows, np.dtype(np.int64))
    order = np.random.default_rng(seed).permutation(len(rows))
    taken = ragged.take(order)
    assert [taken.row(i).tolist() for i in range(len(rows))] == [rows[i] for i in order]
    doubled = Ragged.concatenate([ragged, taken])
    assert doubled.lengths.tolist() == [len(r) for r in rows] + [len(rows[i]) for i in order]
    assert ragged.any_by_row(ragged.values > 4).tolist() == [any(v > 4 for v in row) for row in rows]
