"""Popularity: what many liked is liked.

To rank, what is known of a post's likings at the time of the request; to retrieve, a count.
"""

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.features.encoding.buckets import BUCKETS_PER_DOUBLING
from millrace.flywheel.baselines.contract import Predict, by_score
from millrace.flywheel.baselines.interactions import LIKINGS, Interactions
from millrace.flywheel.metrics import Float64Array
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.pipeline.ragged import Ragged


class Popularity:
    """Scores posts by the logarithm of how many liked them, the same for everybody.

    Parameters
    ----------
    interactions
        Likings, counted once a viewer.
    """

    def __init__(self, interactions: Interactions) -> None:
        self._interactions = interactions
        counts = np.bincount(interactions.columns, minlength=len(interactions.posts) + 1)
        self._scores: Float32Array = np.log1p(counts).astype(np.float32)  # the last one, of none, is for -1

    def scores(self, histories: Ragged, post_ids: Int64Array) -> Float32Array:
        """See `millrace.flywheel.baselines.contract.Scorer`."""
        return np.tile(self._scores[self._interactions.columns_of(post_ids)], (len(histories), 1))


def fit_popularity(samples: SampleSet, learned: Int64Array, validated: Int64Array) -> Predict:
    """Return predictions by the post's counters of likings as they stood at each request."""
    return by_score(liked_so_far, samples, learned, validated)


def liked_so_far(samples: SampleSet, slates: Int64Array) -> Float64Array:
    """Return ``log(1 + likings of the post)`` of each row as of its request, shape (n,), from the encoded counters."""
    fields = [samples.meta.dense.index(f"post:{samples.meta.actions[action]}") for action in LIKINGS]
    buckets = samples.dense[samples.rows_of(slates)][:, fields].astype(np.float64)
    likings: Float64Array = np.log1p((np.exp2(buckets / BUCKETS_PER_DOUBLING) - 1.0).sum(axis=1))
    return likings
