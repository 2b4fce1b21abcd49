"""Encoded viewers that are kept: bounded in bytes, by what their encoder reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.inference.kept_viewers import KeptViewers, viewers_key
from millrace.inference.runner import EncodedViewers, Viewers
from millrace.testing.rank_runner_contract import small_config, some_viewers


def encoded(n_bytes: int) -> EncodedViewers:
    """Return arrays of so many bytes together."""
    none = np.zeros((1, 0), dtype=np.float32)
    return EncodedViewers(np.zeros((1, n_bytes // 4), dtype=np.float32), none, none)


def test_the_longest_unused_is_let_go_first() -> None:
    kept = KeptViewers(max_bytes=1_200)
    for name in (b"a", b"b", b"c"):
        kept.put(name, encoded(400))
    assert kept.get(b"a") is not None
    kept.put(b"d", encoded(400))
    assert [kept.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert (kept.n_bytes, len(kept), kept.n_hits, kept.n_misses) == (1_200, 3, 4, 1)


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    kept = KeptViewers(max_bytes=1_000)
    kept.put(b"a", encoded(400))
    kept.put(b"b", encoded(1_200))
    assert kept.get(b"b") is None
    assert kept.get(b"a") is not None


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 120))))
def test_bytes_are_counted_and_never_more_than_the_bound(puts: list[tuple[bytes, int]]) -> None:
    kept = KeptViewers(max_bytes=200)
    for key, n in puts:
        kept.put(key, encoded(4 * n))
        assert kept.n_bytes <= 200
        found = [one for one in map(kept.get, (b"a", b"b", b"c", b"d")) if one is not None]
        assert kept.n_bytes == sum(one.nbytes for one in found)


@pytest.mark.parametrize("part", ["profile", "history", "mask"])
def test_a_key_names_all_that_an_encoder_reads(part: str) -> None:
    viewers = some_viewers(small_config(), 1)
    same = Viewers(viewers.profile.copy(), viewers.history.copy(), viewers.mask.copy())
    assert viewers_key(viewers) == viewers_key(same)
    array = getattr(same, part)
    array[0, -1] = array[0, -1] == 0
    assert viewers_key(viewers) != viewers_key(same)


def test_a_shorter_history_has_another_key() -> None:
    """Also where the bytes happen to be the same."""
    empty, full = some_viewers(small_config(), 0, 3), some_viewers(small_config(), 0, 4)
    assert viewers_key(empty) != viewers_key(full)
