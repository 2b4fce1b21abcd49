"""What the fast layer knows a candidate by: ids and their crosses, hashed to slots of one table.

One definition for the servers that read the weights and for the learner that makes them. There is no vocabulary: a new
post has slots before anybody has seen it, and two that share one share its weight (the hashing trick: Weinberger et
al., ICML 2009).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array

Int32Array = npt.NDArray[np.int32]

FIELDS: Final = ("post", "author", "viewer", "surface", "post_surface", "viewer_author")
"""The fields, in the order of the slots."""

N_FIELDS: Final = len(FIELDS)

_SALTS: Final = np.array(
    [
        0x9E3779B97F4A7C15,
        0xD1B54A32D192ED03,
        0x8CB92BA72F3D8DD7,
        0xABC98388FB8FAC03,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
    ],
    dtype=np.uint64,
)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


def cross_slots(viewer_id: int, post_ids: Int64Array, author_ids: Int64Array, surface: int, n_slots: int) -> Int32Array:
    """Return the slots of a viewer's candidates, shape (n, `N_FIELDS`), int32, each from 0 to ``n_slots - 1``.

    Parameters
    ----------
    viewer_id
        Inside id.
    post_ids, author_ids
        Shape (n,), inside ids: what a viewer would see (of a repost: the post that it carries), and who sent it.
    surface
        A code of `millrace.base.surfaces`.
    n_slots
        Size of the table, a power of two.
    """
    n = len(post_ids)
    viewer = np.int64(viewer_id).view(np.uint64)
    posts = np.ascontiguousarray(post_ids, dtype=np.int64).view(np.uint64)
    authors = np.ascontiguousarray(author_ids, dtype=np.int64).view(np.uint64)
    place = np.uint64(surface + 1)
    keys = np.empty((n, N_FIELDS), dtype=np.uint64)
    keys[:, 0] = posts
    keys[:, 1] = authors
    keys[:, 2] = viewer
    keys[:, 3] = place
    keys[:, 4] = _mixed(posts) + place
    keys[:, 5] = _mixed(authors) ^ viewer
    return (_mixed(keys + _SALTS) & np.uint64(n_slots - 1)).astype(np.int32)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of SplitMix64 (Steele et al. 2014), element by element."""
    mixed = (values ^ (values >> _S30)) * _MIX_1
    mixed = (mixed ^ (mixed >> _S27)) * _MIX_2
    return mixed ^ (mixed >> _S31)
