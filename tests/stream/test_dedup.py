import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.stream.dedup import DuplicateWindow, ReferenceDuplicateWindow, digest_bytes, digests_from


def admitted(window: DuplicateWindow, *event_ids: str) -> list[bool]:
    return window.admit(digests_from(digest_bytes(event_ids))).tolist()


@given(
    window=st.integers(1, 12),
    batches=st.lists(st.lists(st.integers(0, 20).map(str), max_size=30), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_the_window_agrees_with_its_reference(window: int, batches: list[list[str]]) -> None:
    fast, reference = DuplicateWindow(window), ReferenceDuplicateWindow(window)
    for batch in batches:
        assert admitted(fast, *batch) == reference.admit(batch).tolist()


@given(st.integers(0, 1 << 32), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_it_agrees_where_all_digests_fall_into_few_slots(seed: int, window: int) -> None:
    rng = np.random.default_rng(seed)
    digests = np.stack([rng.integers(0, 6, 400) << 40, rng.integers(0, 12, 400)], axis=1).astype(np.uint64)
    fast, reference = DuplicateWindow(window), ReferenceDuplicateWindow(window)
    for part in np.split(digests, [7, 50, 51, 300]):
        assert fast.admit(part).tolist() == reference.admit([tuple(row) for row in part.tolist()]).tolist()


def test_the_table_grows_and_forgets_nothing() -> None:
    window = DuplicateWindow(1 << 14)
    ids = [f"e{i}" for i in range(1 << 14)]
    assert all(admitted(window, *ids[:9_000]))
    assert all(admitted(window, *ids[9_000:]))
    assert not any(admitted(window, *ids))
    assert window.end == 1 << 14
    assert admitted(window, "one more", "e0", "e1", "e2") == [True, True, True, True]


def test_a_window_begins_at_any_offset() -> None:
    window = DuplicateWindow(3, first=100)
    assert admitted(window, "a", "b", "a") == [True, True, False]
    assert window.end == 102


def test_digests_are_equal_on_every_machine() -> None:
    assert digest_bytes(["a"]).hex() == digest_bytes(iter(["a"])).hex()
    assert digests_from(digest_bytes(["é", "e"])).shape == (2, 2)
    assert digest_bytes([]) == b""


def test_a_full_window_takes_24_bytes_an_event() -> None:
    window = DuplicateWindow(1 << 12)
    admitted(window, *(f"e{i}" for i in range(5_000)))
    assert window.n_bytes == 24 << 12
