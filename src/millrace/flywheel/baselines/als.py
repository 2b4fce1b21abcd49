"""ALS: matrix factorisation of implicit feedback, by the library implicit (extra: millrace[bench]).

A viewer's factors are solved anew from the history of the moment, so that nobody is unknown who liked anything.

References
----------
Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, ICDM 2008.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from msgspec import Struct

from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.contract import Predict, by_score, scored_rows
from millrace.flywheel.baselines.interactions import Interactions
from millrace.flywheel.baselines.libraries import library
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.pipeline.ragged import Ragged


class AlsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How factors are found.

    Attributes
    ----------
    confidence
        Weight of a liking against that of a pair without one.
    """

    n_factors: int = 64
    regularization: float = 0.05
    confidence: float = 10.0
    n_iterations: int = 15
    seed: int = 1


class Als:
    """Scores posts by the product of factors; one thread, the same factors each time.

    Parameters
    ----------
    interactions
        Likings.
    config
        How.

    Raises
    ------
    ConfigError
        If implicit is not installed.
    """

    def __init__(self, interactions: Interactions, config: AlsConfig | None = None) -> None:
        config = config or AlsConfig()
        als = library("implicit.als")
        self._interactions = interactions
        with _one_thread():
            self._model = als.AlternatingLeastSquares(
                factors=config.n_factors,
                regularization=config.regularization,
                alpha=config.confidence,
                iterations=config.n_iterations,
                random_state=config.seed,
                num_threads=1,
            )
            if len(interactions.posts):
                self._model.fit(interactions.matrix(), show_progress=False)

    def scores(self, histories: Ragged, post_ids: Int64Array) -> Float32Array:
        """See `millrace.flywheel.baselines.contract.Scorer`."""
        column = self._interactions.columns_of(post_ids)
        known = np.flatnonzero(column >= 0)
        found = np.zeros((len(histories), len(post_ids)), dtype=np.float32)
        if len(known) and len(histories):
            with _one_thread():
                viewers = self._model.recalculate_user(np.arange(len(histories)), self._interactions.rows_of(histories))
            found[:, known] = viewers @ self._model.item_factors[column[known]].T
        return found


def fit_als(samples: SampleSet, learned: Int64Array, validated: Int64Array) -> Predict:
    """Return predictions by ALS over the learned slates, calibrated on the validated ones."""
    return by_score(scored_rows(Als(Interactions.of(samples, learned))), samples, learned, validated)


def _one_thread() -> AbstractContextManager[Any]:
    """Keep the algebra below to one thread: more only get in each other's way, and implicit warns of them."""
    limits: AbstractContextManager[Any] = library("threadpoolctl").threadpool_limits(1, "blas")
    return limits
