import numpy as np

from millrace.mixer.ranked_memory import RankedMemory


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_the_newest_page_counts_and_time_runs_out() -> None:
    memory = RankedMemory(ttl_ms=100)
    memory.remember(1, 1_000, ids(5, 6))
    memory.remember(1, 1_050, ids(7))
    assert memory.unserved(1, 1_149).tolist() == [7]
    assert memory.unserved(1, 1_150).tolist() == []
    assert memory.unserved(2, 1_100).tolist() == []
    memory.remember(1, 1_060, ids())
    assert (memory.unserved(1, 1_070).tolist(), len(memory)) == ([], 0)


def test_viewers_and_posts_are_bounded_and_nothing_else_is_kept_alive() -> None:
    memory = RankedMemory(max_viewers=2, max_posts=3)
    many = np.arange(1, 1_000)
    for viewer in (1, 2, 1, 3):
        memory.remember(viewer, 1_000, many)
    assert [memory.unserved(viewer, 1_000).tolist() for viewer in (1, 2, 3)] == [[1, 2, 3], [], [1, 2, 3]]
    assert memory.unserved(3, 1_000).base is None
