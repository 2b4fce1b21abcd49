"""`Catalogue`: the posts that there were, as columns: what viewers' positives are told apart from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.features.encoding.buckets import BUCKETS_PER_DOUBLING, UInt8Array
from millrace.features.encoding.posts import POST_TRAITS, PostInputs
from millrace.flywheel.sample_set import SampleSet

BoolArray = npt.NDArray[np.bool_]

_MINUTE_MS: Final = 60_000.0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Posts by id, ascending; P of them.

    Attributes
    ----------
    posts
        What towers read, but for vectors.
    texts
        Shape (P,): rows of the samples' table of texts, -1 where there is none; see `SampleSet.texts_of`.
    created_ms
        Shape (P,), int64: when; from samples it is known to a tenth of the post's age at its first look.
    n_shown
        Shape (P,), int64: in how many of the slates that it was made of.
    """

    posts: PostInputs
    texts: npt.NDArray[np.intp]
    created_ms: Int64Array
    n_shown: Int64Array

    def __len__(self) -> int:
        return len(self.created_ms)

    def find(self, post_ids: Int64Array) -> npt.NDArray[np.intp]:
        """Return the rows of posts, shape as given; -1 where there is none."""
        known = self.posts.post_ids
        if not len(known):
            return np.full(post_ids.shape, -1, dtype=np.intp)
        at = np.minimum(np.searchsorted(known, post_ids), len(known) - 1)
        rows: npt.NDArray[np.intp] = np.where(known[at] == post_ids, at, -1)
        return rows

    def is_live(self, rows: npt.NDArray[np.intp], now_ms: Int64Array, max_age_ms: int) -> BoolArray:
        """Return which posts (of shape (m,)) were there at which times (of shape (n,)), shape (n, m)."""
        age_ms = now_ms[:, None] - self.created_ms[rows]
        live: BoolArray = (age_ms >= 0) & (age_ms <= max_age_ms)
        return live


def is_content_row(samples: SampleSet) -> BoolArray:
    """Return which rows show a post itself, shape (n,): a repost shows somebody else's, under the reposter's name."""
    is_content: BoolArray = np.asarray(samples.dense[:, samples.meta.dense.index("repost")]) == 0
    return is_content


def catalogue_of(samples: SampleSet) -> Catalogue:
    """Return every post that the samples show, as it was at the youngest look at it."""
    rows = np.flatnonzero(is_content_row(samples))
    ages_ms = ages_of(samples, rows)
    order = np.lexsort((ages_ms, np.asarray(samples.post_ids)[rows]))
    rows, ages_ms = rows[order], ages_ms[order]
    ids, first, n_shown = np.unique(np.asarray(samples.post_ids)[rows], return_index=True, return_counts=True)
    at = rows[first]
    now_ms = np.asarray(samples.now_ms)[samples.slate_of[at]]
    texts = samples.texts_of(ids)
    tokens = np.zeros((len(ids), samples.text_tokens.shape[1]), dtype=np.uint16)
    tokens[texts >= 0] = samples.text_tokens[texts[texts >= 0]]
    posts = PostInputs(ids, samples.author_ids[at], samples.row_languages[at], traits_of(samples, at), tokens)
    return Catalogue(posts, texts, now_ms - ages_ms[first], n_shown.astype(np.int64))


def traits_of(samples: SampleSet, rows: npt.NDArray[np.integer]) -> UInt8Array:
    """Return the fields of `POST_TRAITS` of some rows, shape (n, 7), uint8."""
    columns = [samples.meta.dense.index(name) for name in POST_TRAITS]
    traits: UInt8Array = np.ascontiguousarray(samples.dense[rows][:, columns])
    return traits


def ages_of(samples: SampleSet, rows: npt.NDArray[np.integer]) -> Int64Array:
    """Return the ages that rows' posts had, milliseconds, shape (n,): the middle of what their bucket says."""
    buckets = samples.dense[rows, samples.meta.dense.index("age")].astype(np.float64)
    ages_ms: Int64Array = np.rint((np.exp2(buckets / BUCKETS_PER_DOUBLING) - 1.0) * _MINUTE_MS).astype(np.int64)
    return ages_ms
