"""Two sets of samples as one, in the order of their slates: what was logged, and what had to be replayed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel.sample_set import SampleSet


def merged(one: SampleSet, of_one: Int64Array, other: SampleSet, of_other: Int64Array) -> SampleSet:
    """Return the slates of both in the order of their numbers, as if one builder had read them in that order.

    Of a post that both know, the text counts that the earlier slate has read: it is never newer than its reader.

    Parameters
    ----------
    one, other
        The sets.
    of_one, of_other
        Shape (S,), int64: the numbers of their slates, no number twice.

    Raises
    ------
    SchemaError
        If they are of different inputs or labels.
    """
    both = one.joined(other)
    shared = np.intersect1d(one.text_posts, other.text_posts)
    is_earlier = _first_readers(other, of_other, shared) < _first_readers(one, of_one, shared)
    rows, theirs = both.texts_of(shared[is_earlier]), other.texts_of(shared[is_earlier])
    tokens, vectors = np.array(both.text_tokens), np.array(both.text_vectors)
    tokens[rows], vectors[rows] = other.text_tokens[theirs], other.text_vectors[theirs]
    order = np.argsort(np.concatenate([of_one, of_other]), kind="stable")
    return replace(both, text_tokens=tokens, text_vectors=vectors).take(order)


def _first_readers(samples: SampleSet, numbers: Int64Array, wanted: Int64Array) -> Int64Array:
    """Return the least number among the slates that read each post, shape of ``wanted``; all of them are read."""
    posts = np.concatenate([samples.history_posts, samples.post_ids])
    readers = np.concatenate(
        [np.repeat(numbers, np.diff(samples.history_starts)), np.repeat(numbers, np.diff(samples.starts))]
    )
    order = np.argsort(readers, kind="stable")
    known, first = np.unique(posts[order], return_index=True)
    found: Int64Array = readers[order][first][np.searchsorted(known, wanted)]
    return found
