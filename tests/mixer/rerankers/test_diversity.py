"""The diversity re-ranker: what it chooses comes first, nothing is lost, and pages hold without it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.base.ids import Int64Array
from millrace.base.params import Param, ParamValue
from millrace.features.columns import (
    AUTHOR_ID,
    CONTENT_ID,
    CONVERSATION_ID,
    DIVERSITY,
    HEAT,
    PAGE_SCORE,
    POST_ID,
    SCORE,
    TOPICS,
)
from millrace.mixer.rerankers import dpp, mmr
from millrace.mixer.rerankers.diversity import DiversityReRanker
from millrace.mixer.rerankers.vectors import usable_vectors
from millrace.mixer.selectors.page import PageSelector
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.outcome import Fate
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Deadline
from millrace.testing.pipeline_builders import a_batch, a_query, execute, ranked
from millrace.testing.pipeline_fakes import FakeSource


class Table:
    """Vectors by post id; others have none."""

    def __init__(self, rows: dict[int, Any], size: int = 2) -> None:
        self._rows, self._size = rows, size

    def vectors(self, post_ids: Int64Array) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        missing = [0.0] * self._size
        rows = [self._rows.get(post, missing) for post in post_ids.tolist()]
        has = np.array([post in self._rows for post in post_ids.tolist()], dtype=np.bool_)
        return np.array(rows, dtype=np.float32).reshape(-1, self._size), has


class Broken:
    def vectors(self, post_ids: Int64Array) -> Any:
        raise OSError("index is gone")


TWINS = Table({1: [1, 0], 2: [1, 0], 3: [0, 1]})


def re_ranked(
    vectors: Any,
    scores: list[float],
    params: dict[Param, ParamValue] | None = None,
    ids: list[int] | None = None,
    contents: list[int] | None = None,
) -> CandidateBatch:
    ids = ids or list(range(1, len(scores) + 1))
    batch = a_batch({SCORE: scores, POST_ID: ids, CONTENT_ID: contents or ids})
    return ranked(DiversityReRanker(vectors), a_query(params=params), batch)


def test_what_is_too_much_like_a_better_one_comes_after_all_others_but_before_nothing() -> None:
    batch = re_ranked(TWINS, [0.9, 0.8, 0.1, 0.05], {dpp.MAX_POOL: 3})
    assert batch[DIVERSITY].tolist() == [1, -1, 1, 0]
    assert batch[PAGE_SCORE].tolist() == [4, 2, 3, 1]
    assert batch[SCORE].tolist() == pytest.approx([0.9, 0.8, 0.1, 0.05])


def test_a_repost_is_about_what_it_repeats() -> None:
    batch = re_ranked(TWINS, [0.9, 0.8, 0.1], ids=[11, 12, 13], contents=[1, 2, 3])
    assert batch[DIVERSITY].tolist() == [1, -1, 1]


def test_without_vectors_the_order_is_that_of_scores() -> None:
    batch = re_ranked(Table({}), [0.1, 0.9, 0.5, 0.9])
    assert batch[DIVERSITY].tolist() == [1, 1, 1, 1]
    assert batch[PAGE_SCORE].tolist() == [1, 4, 2, 3]


def test_switched_off_it_leaves_the_order_of_scores() -> None:
    batch = re_ranked(TWINS, [0.9, 0.8, 0.1], {dpp.IS_ON: False})
    assert batch[DIVERSITY].tolist() == [0, 0, 0]
    assert batch[PAGE_SCORE].tolist() == [3, 2, 1]
    assert DiversityReRanker(TWINS).explain(batch, 2) == "not compared with others; place 3 of 3"


@pytest.mark.parametrize("is_dpp_on", [True, False])
def test_mmr_goes_in_the_order_of_choice(is_dpp_on: bool) -> None:
    batch = re_ranked(TWINS, [0.9, 0.8, 0.1], {mmr.IS_ON: True, mmr.LAMBDA: 0.5, dpp.IS_ON: is_dpp_on})
    assert batch[DIVERSITY].tolist() == [1, 1, 1]
    assert batch[PAGE_SCORE].tolist() == [3, 1, 2]


def test_no_candidates_are_no_failure() -> None:
    batch = re_ranked(TWINS, [])
    assert batch[PAGE_SCORE].shape == (0,)


def test_every_row_is_explained_with_its_place() -> None:
    batch = re_ranked(TWINS, [0.9, 0.8, 0.1, 0.05], {dpp.MAX_POOL: 3})
    stage = DiversityReRanker(TWINS)
    assert stage.explain(batch, 0) == "chosen: good enough for how like the others it is; place 1 of 4"
    assert stage.explain(batch, 1) == "passed over: too much like better ones; place 3 of 4"
    assert stage.explain(batch, 3) == "not compared with others; place 4 of 4"


@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, float("nan"), -1.0]), max_size=40),
    max_pool=st.integers(1, 30),
    max_chosen=st.integers(1, 10),
    is_mmr=st.booleans(),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_places_are_all_different_and_the_chosen_come_first(
    scores: list[float], max_pool: int, max_chosen: int, is_mmr: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = Table({i: rng.standard_normal(3) for i in range(1, 30, 2)}, size=3)
    params: dict[Param, ParamValue] = {dpp.MAX_POOL: max_pool, dpp.MAX_CHOSEN: max_chosen, mmr.IS_ON: is_mmr}
    batch = re_ranked(vectors, scores, params)
    n = len(scores)
    places, diversity = batch[PAGE_SCORE], batch[DIVERSITY]
    assert sorted(places.tolist()) == list(range(1, n + 1))
    assert np.count_nonzero(diversity) == min(n, max_pool)
    n_chosen = np.count_nonzero(diversity == 1)
    assert n_chosen <= max_chosen
    assert sorted(places[diversity == 1].tolist()) == list(range(n - n_chosen + 1, n + 1))
    others = np.argsort(-places[diversity != 1])
    usable = np.where(np.isfinite(batch[SCORE]), batch[SCORE], -np.inf)[diversity != 1][others]
    assert (usable[1:] <= usable[:-1]).all()


def test_vectors_that_are_of_no_use_count_as_missing() -> None:
    table = Table({1: [3, 4], 2: [0, 0], 3: [np.nan, 1], 4: [np.inf, 0]})
    with np.errstate(all="raise"):
        vectors, has = usable_vectors(table, np.array([1, 2, 3, 4, 5]))
    assert has.tolist() == [True, False, False, False, False]
    assert vectors[0].tolist() == pytest.approx([0.6, 0.8])
    assert vectors.dtype == np.float32
    assert not vectors[1:].any()


# --------------------------------------------------------------------------------------------- in a pipeline


def a_pipeline(vectors: Any, scores: dict[int, float]) -> Pipeline:
    n = len(scores)
    source = FakeSource(
        {
            POST_ID: list(scores),
            SCORE: list(scores.values()),
            CONTENT_ID: list(scores),
            AUTHOR_ID: list(range(n)),
            CONVERSATION_ID: [0] * n,
            HEAT: [0] * n,
            TOPICS: [[0, 0, 0]] * n,
        }
    )
    stages = Stages(sources=(source,), re_rankers=(DiversityReRanker(vectors),), selector=PageSelector())
    return Pipeline("test", stages, key=POST_ID, clock=ManualClock(0))


def test_the_page_is_what_the_re_ranker_says() -> None:
    result = execute(a_pipeline(TWINS, {1: 0.9, 2: 0.8, 3: 0.1}), a_query(limit=2))
    assert result.slate[POST_ID].tolist() == [1, 3]


def test_a_page_is_not_short_for_what_was_passed_over() -> None:
    result = execute(a_pipeline(TWINS, {1: 0.9, 2: 0.8, 3: 0.1}), a_query(limit=3))
    assert result.slate[POST_ID].tolist() == [1, 3, 2]


def test_where_it_fails_the_page_goes_by_score() -> None:
    result = execute(a_pipeline(Broken(), {1: 0.1, 2: 0.8, 3: 0.9}), a_query(limit=2))
    assert result.slate[POST_ID].tolist() == [3, 2]
    assert result.report.outcomes == (("re-ranker", "diversity", Fate.FAILED, "OSError: index is gone"),)
    assert DiversityReRanker(Broken()).explain(result.ranked, 0) == ""


def test_after_the_deadline_the_page_goes_by_score() -> None:
    clock = ManualClock(0)
    query = a_query(limit=2, deadline=Deadline.after_ms(clock, 0))
    result = execute(a_pipeline(TWINS, {1: 0.1, 2: 0.8, 3: 0.9}), query)
    assert result.slate[POST_ID].tolist() == [3, 2]
    assert [outcome.fate for outcome in result.report.outcomes] == [Fate.SKIPPED]
