"""`build_index`: which vector index for how many posts."""

from __future__ import annotations

from typing import Final

from millrace.inference.vector_index import VectorIndex
from millrace.inference.vector_index_exact import ExactIndex
from millrace.inference.vector_index_ivf import IvfConfig, IvfIndex

MAX_EXACT: Final = 200_000
"""Up to so many posts, comparing all takes a few milliseconds."""
MAX_WHOLE: Final = 4_000_000
"""Up to so many, whole vectors in lists: about 1.3 GB of 64 dimensions; beyond, product-quantised codes."""
_DIMS_PER_CODE: Final = 4
_MAX_CODE_SIZE: Final = 64


def build_index(n_expected: int, n_dims: int, tower_version: str) -> VectorIndex:
    """Return an empty index for about ``n_expected`` live posts.

    Parameters
    ----------
    n_expected
        How many posts it will hold.
    n_dims
        Length of a vector; for codes, a multiple of 4 (others are kept whole).
    tower_version
        Of the item tower that makes the vectors.
    """
    if n_expected <= MAX_EXACT:
        return ExactIndex(n_dims, tower_version)
    if n_expected <= MAX_WHOLE or n_dims % _DIMS_PER_CODE or n_dims > _DIMS_PER_CODE * _MAX_CODE_SIZE:
        return IvfIndex(n_dims, tower_version)
    config = IvfConfig(code_size=n_dims // _DIMS_PER_CODE, n_rescored_per_k=16.0, reach=3.5)
    return IvfIndex(n_dims, tower_version, config)
