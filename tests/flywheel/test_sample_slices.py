"""Whom a mean may hide: slices of samples."""

import numpy as np

from millrace.features.encoding.buckets import minute_buckets
from millrace.features.encoding.candidates import SCALARS
from millrace.flywheel.sample_slices import FRESH_MS, rows_by_slice
from millrace.testing.sample_builders import planted_samples


def test_rows_are_in_the_slices_that_their_facts_say() -> None:
    samples = planted_samples(4, n_rows=3, n_history=12)
    samples.dense[:] = 0
    samples.dense[:, SCALARS.index("age")] = minute_buckets(np.array([2 * FRESH_MS]))[0]
    samples.dense[[3, 4], SCALARS.index("in_network")] = 32
    samples.dense[5, SCALARS.index("image")] = 32
    samples.dense[6, SCALARS.index("age")] = 0
    samples.row_languages[7] = 9
    found = rows_by_slice(samples, np.array([1, 2]), {9: "de"})  # rows 3 to 8
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "known viewers": [0, 1, 2, 3, 4, 5],
        "in-network": [0, 1],
        "out-of-network": [2, 3, 4, 5],
        "images": [2],
        "no media": [0, 1, 3, 4, 5],
        "fresh posts": [3],
        "older posts": [0, 1, 2, 4, 5],
        "language 1": [0, 1, 2, 3, 5],
        "language de": [4],
    }


def test_who_has_hardly_acted_is_new() -> None:
    samples = planted_samples(2, n_history=3)
    assert "new viewers" in rows_by_slice(samples, np.arange(2))
    assert "known viewers" not in rows_by_slice(samples, np.arange(2))
