"""Scoring what is given, and asking the sources: parts of a request, run on their own."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from millrace.features.columns import AUTHOR_ID, HEAT, N_PROOFS, POST_ID, SCORE
from millrace.features.query_fields import FOLLOWING
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.pipeline import Pipeline
from millrace.testing.pipeline_builders import DIMS, a_query
from millrace.testing.pipeline_fakes import (
    FakeFilter,
    FakeHydrator,
    FakeQueryHydrator,
    FakeRanker,
    FakeSource,
    TopSelector,
)


def a_pipeline(**stages: object) -> Pipeline:
    every = Stages(
        query_hydrators=[FakeQueryHydrator({FOLLOWING: np.array([10])})],
        sources=[
            FakeSource({POST_ID: [1, 2], HEAT: [0.5, 0.25]}, name="hot"),
            FakeSource({POST_ID: [2, 3], N_PROOFS: [4, 5]}, name="proven"),
        ],
        hydrators=[FakeHydrator((AUTHOR_ID,), lambda batch: {AUTHOR_ID: batch[POST_ID] * 10})],
        filters=[FakeFilter(lambda batch: np.zeros(batch.n, dtype=np.bool_))],
        rankers=stages.get("rankers", [FakeRanker(lambda batch: batch[N_PROOFS] + 0.5, reads=(N_PROOFS,))]),  # type: ignore[arg-type]
        selector=TopSelector(),
    )
    return Pipeline("test", every, key=POST_ID, dims=DIMS)


def test_given_candidates_are_scored_in_their_order_and_nothing_is_filtered() -> None:
    keys = np.array([9, 3, 2], dtype=np.int64)
    batch = asyncio.run(a_pipeline().score(a_query(), keys))
    assert batch[POST_ID].tolist() == [9, 3, 2]
    assert batch[AUTHOR_ID].tolist() == [90, 30, 20]
    assert batch[N_PROOFS].tolist() == [0, 5, 4]  # what a source knows of them counts; whom it found besides does not
    assert batch[SCORE].tolist() == [0.5, 5.5, 4.5]
    assert batch[HEAT].tolist() == [0.0, 0.0, 0.0]  # nobody reads it, so its source is not asked
    keys[0] = 7  # the batch owns its own


def test_nothing_given_is_nothing_scored() -> None:
    assert asyncio.run(a_pipeline().score(a_query(), np.empty(0, dtype=np.int64))).n == 0


def test_sources_tell_what_each_found() -> None:
    found = asyncio.run(a_pipeline().retrieve(a_query()))
    assert [(name, keys.tolist()) for name, keys in found] == [("hot", [1, 2]), ("proven", [2, 3])]


def test_a_stage_that_fails_is_not_hidden() -> None:
    def fail(_batch: object) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(a_pipeline(rankers=[FakeRanker(fail)]).score(a_query(), np.array([1], dtype=np.int64)))
