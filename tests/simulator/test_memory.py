from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.simulator.memory import N_LIKERS, N_RECENT, Memory, first_of_runs

HOUR_MS = 3_600_000

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def topics(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int8)


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(pairs, max_size=4), asked=pairs)
def test_occasions_count_the_earlier_meetings_of_a_pair(
    batches: list[list[tuple[int, int]]], asked: list[tuple[int, int]]
) -> None:
    memory, model = Memory(6), Counter[tuple[int, int]]()
    for batch in batches:
        memory.meet(ints(*(v for v, _ in batch)), ints(*(r for _, r in batch)))
        model.update(batch)
    occasions = memory.occasions(ints(*(v for v, _ in asked)), ints(*(r for _, r in asked)))
    assert occasions.tolist() == [model[pair] for pair in asked]


def test_surroundings_count_looks_before_the_page_and_rows_above_on_it() -> None:
    memory = Memory(2)
    memory.looked(ints(0, 0, 1), ints(7, 8, 7), topics(3, 3, 4))
    viewer, author, topic = ints(0, 0, 0, 0, 1), ints(7, 7, 9, 7, 7), topics(3, 4, 3, 3, 3)
    authors, about = memory.surroundings(viewer, author, topic, page=ints(0, 0, 0, 1, 2))
    assert authors.tolist() == [1, 2, 0, 1, 1]
    assert about.tolist() == [2, 0, 3, 2, 0]


def test_only_the_newest_looks_at_authors_are_remembered() -> None:
    memory = Memory(1)
    memory.looked(np.zeros(N_RECENT, dtype=np.int64), np.full(N_RECENT, 5), np.zeros(N_RECENT, dtype=np.int8))
    memory.looked(ints(0, 0), ints(6, 6), topics(0, 0))
    authors, _ = memory.surroundings(ints(0, 0), ints(5, 6), topics(0, 0), page=ints(0, 1))
    assert authors.tolist() == [N_RECENT - 2, 2]


def test_looks_at_a_topic_are_half_forgotten_in_six_hours_and_attention_in_a_day() -> None:
    memory = Memory(1)
    memory.looked(ints(0), ints(1), topics(2))
    memory.reactions[0], memory.written[0] = 4.0, 2.0
    memory.pass_time(6 * HOUR_MS)
    assert memory.topic_looks[0, 2] == pytest.approx(0.5)
    memory.pass_time(18 * HOUR_MS)
    assert (memory.reactions[0], memory.written[0]) == pytest.approx((2.0, 1.0))


def test_proofs_are_the_likers_whom_the_viewer_follows() -> None:
    memory, n_users = Memory(10), 10
    memory.liked(ints(3, 4, 5), ints(0, 0, 1), n_posts=2)
    follows = np.sort(ints(1 * n_users + 3, 1 * n_users + 4, 1 * n_users + 5, 2 * n_users + 4))
    viewer, row = ints(1, 1, 2, 2, 3), ints(0, 1, 0, 1, 0)
    assert memory.n_proofs(viewer, row, follows, n_users).tolist() == [2, 1, 1, 0, 0]
    assert memory.n_proofs(viewer, row, ints(), n_users).tolist() == [0] * 5


def test_only_the_newest_likers_are_proof_and_a_post_that_nobody_liked_has_none() -> None:
    n = N_LIKERS + 2
    memory = Memory(n + 1)
    memory.liked(np.arange(n), np.zeros(n, dtype=np.int64), n_posts=1)
    follows = n * (n + 1) + np.arange(n)
    assert memory.n_proofs(ints(n, n), ints(0, 5_000), follows, n + 1).tolist() == [N_LIKERS, 0]


def test_likers_survive_when_posts_outgrow_the_table() -> None:
    memory = Memory(3)
    memory.liked(ints(0), ints(10), n_posts=1_024)
    memory.liked(ints(1), ints(2_000), n_posts=2_001)
    assert memory.n_proofs(ints(2, 2), ints(10, 2_000), ints(6, 7), 3).tolist() == [1, 1]


def test_effort_grows_with_attention_and_is_as_usual_for_who_has_not_written() -> None:
    memory = Memory(100)
    memory.written[:] = 3.0
    memory.reactions = np.linspace(0, 200, 100)
    effort = memory.effort(1.0)
    assert (np.diff(effort) > 0).all()
    assert 0.15 < effort[0] < 1.0 < effort[-1] < 1.85
    np.testing.assert_array_equal(memory.effort(0.0), np.ones(100))
    memory.written[:], memory.reactions[:] = 0.0, 0.0
    np.testing.assert_allclose(memory.effort(1.0), 1.0)


def test_writing_into_silence_makes_one_stop() -> None:
    memory = Memory(100)
    memory.written = np.linspace(0, 50, 100)
    effort = memory.effort(1.0)
    assert (np.diff(effort) < 0).all()
    assert effort[-1] < 0.25


def test_moods_move_by_three_tenths_towards_the_last_visit() -> None:
    memory = Memory(3)
    memory.feel(ints(0, 2), np.array([1.0, -0.5]))
    memory.feel(ints(0), np.array([1.0]))
    assert memory.mood.tolist() == pytest.approx([0.51, 0.0, -0.15])


def test_what_was_written_down_and_read_again_remembers_alike() -> None:
    memory = Memory(4)
    memory.meet(ints(1, 2, 1), ints(5, 5, 5))
    memory.looked(ints(1, 2), ints(3, 3), topics(1, 2))
    memory.liked(ints(1), ints(1_500), n_posts=1_501)
    memory.feel(ints(1), np.array([0.7]))
    again = Memory(4)
    again.load(memory.arrays())
    for name, values in memory.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], values)
        assert again.arrays()[name] is not values
    memory.feel(ints(1), np.array([0.7]))
    assert again.mood[1] == pytest.approx(0.21)


def test_runs_begin_where_values_change() -> None:
    assert first_of_runs(ints(4, 4, 5, 4)).tolist() == [True, False, True, True]
    assert first_of_runs(ints()).tolist() == []
