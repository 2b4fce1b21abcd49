"""Slices of a `SampleSet`: rows of new viewers, of a language, of images, of fresh posts: whom a mean may hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.features.encoding.buckets import minute_buckets
from millrace.features.encoding.candidates import SCALARS
from millrace.flywheel.sample_set import SampleSet

FEW_ACTS: Final = 10
"""A viewer with a shorter history is new."""
FRESH_MS: Final = 3_600_000
"""A younger post is fresh."""
MAX_LANGUAGES: Final = 4
"""Languages with the most rows are slices of their own."""


def rows_by_slice(
    samples: SampleSet, slates: Int64Array, names: Mapping[int, str] | None = None
) -> dict[str, Int64Array]:
    """Return places among the rows of some slates (`SampleSet.rows_of`), by the name of the slice; empty ones left out.

    Parameters
    ----------
    samples, slates
        Where the rows are.
    names
        Of language rows (`millrace.features.encoding.languages`); without one a language goes by its number.
    """
    rows = samples.rows_of(slates)
    n_acts = np.diff(samples.history_starts)[slates]
    is_new = np.repeat(n_acts < FEW_ACTS, np.diff(samples.starts)[slates])
    dense = samples.dense[rows]

    def has(field: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        found: np.ndarray[tuple[int], np.dtype[np.bool_]] = dense[:, SCALARS.index(field)] > 0
        return found

    is_fresh = dense[:, SCALARS.index("age")] < minute_buckets(np.array([FRESH_MS]))[0]
    has_media = has("image") | has("video") | has("audio")
    masks = {
        "new viewers": is_new,
        "known viewers": ~is_new,
        "in-network": has("in_network"),
        "out-of-network": ~has("in_network"),
        "images": has("image"),
        "videos": has("video"),
        "no media": ~has_media,
        "fresh posts": is_fresh,
        "older posts": ~is_fresh,
    }
    languages = samples.row_languages[rows]
    codes, counts = np.unique(languages, return_counts=True)
    for code in codes[np.lexsort((codes, -counts))][:MAX_LANGUAGES].tolist():
        name = (names or {}).get(code) or (str(code) if code else "unknown")
        masks[f"language {name}"] = languages == code
    return {name: np.flatnonzero(mask) for name, mask in masks.items() if mask.any()}
