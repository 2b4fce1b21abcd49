"""Encoded viewers are kept by version, within bytes."""

from __future__ import annotations

import numpy as np

from millrace.inference.runner import EncodedViewers
from millrace.inference.viewer_cache import ViewerCache


def encoded(number: float) -> EncodedViewers:
    keys = np.full((1, 1, 1, 2, 2), number, dtype=np.float32)
    return EncodedViewers(keys, keys.copy(), np.zeros((1, 2), dtype=np.float32))


SIZE = encoded(0.0).nbytes


def test_a_viewer_is_found_as_long_as_nothing_of_theirs_has_changed() -> None:
    cache, mine = ViewerCache(10 * SIZE), encoded(1.0)
    assert cache.find(7, b"a") is None
    cache.keep(7, b"a", mine)
    assert cache.find(7, b"a") is mine
    assert cache.find(7, b"b") is None
    assert cache.find(8, b"a") is None
    assert cache.counts == (1, 3, SIZE, 10 * SIZE)


def test_a_newer_version_takes_the_place_of_the_older() -> None:
    cache, newer = ViewerCache(10 * SIZE), encoded(2.0)
    cache.keep(7, b"a", encoded(1.0))
    cache.keep(7, b"b", newer)
    assert cache.find(7, b"a") is None
    assert cache.find(7, b"b") is newer
    assert cache.counts.n_bytes == SIZE


def test_bytes_are_bounded_and_who_was_not_asked_for_longest_goes_first() -> None:
    cache = ViewerCache(2 * SIZE)
    for viewer in (1, 2):
        cache.keep(viewer, b"", encoded(viewer))
    cache.find(1, b"")
    cache.keep(3, b"", encoded(3.0))
    assert [cache.find(viewer, b"") is not None for viewer in (1, 2, 3)] == [True, False, True]
    assert cache.counts.n_bytes == 2 * SIZE


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = ViewerCache(SIZE - 1)
    cache.keep(1, b"", encoded(1.0))
    assert cache.find(1, b"") is None
    assert cache.counts.n_bytes == 0
