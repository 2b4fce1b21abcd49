"""Repetitions are counted exactly while there is room, and the room is bounded."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from millrace.stream.act_memory import ActMemory

WINDOW_MS = 100
ACTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("vw"), st.integers(0, 6), st.integers(0, 60)), max_size=60
)


@given(ACTS)
def test_counts_are_those_of_sets_of_ids(acts: list[tuple[str, str, int, int]]) -> None:
    memory = ActMemory(WINDOW_MS, 1_000)
    naive: dict[tuple[str, str], tuple[int, set[str]]] = {}
    now_ms = 0
    for post, viewer, event, passed_ms in acts:
        now_ms += passed_ms
        since_ms, ids = naive.get((viewer, post), (now_ms, set()))
        if now_ms - since_ms > WINDOW_MS:
            since_ms, ids = now_ms, set()
        ids.add(str(event))
        naive[viewer, post] = (since_ms, ids)
        assert memory.add((viewer, post), str(event), time_ms=now_ms, heard_ms=now_ms) == len(ids)


def test_what_was_done_hours_apart_and_is_told_at_once_is_counted_by_its_own_times() -> None:
    memory = ActMemory(WINDOW_MS, 10)
    counts = [memory.add(("v", "p"), str(at), time_ms=at, heard_ms=5_000) for at in (0, 90, 100, 101, 190)]
    assert counts == [1, 2, 3, 1, 2]


def test_after_eight_ids_every_event_counts_as_one_more() -> None:
    memory = ActMemory(WINDOW_MS, 10)
    ids = [*range(8), 3, 8, 8]
    assert [memory.add(("v", "p"), str(i), time_ms=0, heard_ms=0) for i in ids] == [*range(1, 9), 8, 9, 10]


def test_the_act_heard_of_longest_ago_makes_room_and_an_old_one_leaves_by_itself() -> None:
    memory = ActMemory(WINDOW_MS, 2)
    for at, act in enumerate("abc"):
        memory.add((act,), "1", time_ms=at, heard_ms=at)
    assert len(memory) == 2
    assert memory.add(("b",), "2", time_ms=3, heard_ms=3) == 2  # b was kept, a was not
    assert memory.add(("a",), "2", time_ms=3, heard_ms=3) == 1
    memory.add(("d",), "1", time_ms=500, heard_ms=500)
    assert len(memory) == 1


def test_bytes_are_bounded_whatever_ids_and_acts_are() -> None:
    memory = ActMemory(WINDOW_MS, 10_000)  # so many that what Python itself keeps at hand does not count
    tracemalloc.start()
    for n in range(15_000):
        for i in range(9):
            memory.add(("v" * 100, f"{n:0100d}"), f"{i:0100d}", time_ms=0, heard_ms=0)
    n_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(memory) == 10_000
    assert n_bytes < 10_000 * 400
