"""`execute`: what each kind of stage does to the candidates, on fakes."""

import numpy as np
import pytest

from millrace.base.params import Param
from millrace.features.columns import AUTHOR_ID, HAS_CONTENT, HEAT, POST_ID, SCORE
from millrace.features.query_fields import BLOCKED, FOLLOWING
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.column import PROVENANCE, Attachment
from millrace.pipeline.outcome import Fate
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Blender, Filter, OnError, PreRanker
from millrace.testing.pipeline_builders import DIMS, a_query, execute
from millrace.testing.pipeline_fakes import (
    FakeFilter,
    FakeHydrator,
    FakeQueryHydrator,
    FakeRanker,
    FakeSource,
    RecordingObserver,
    RecordingSideEffect,
    TopSelector,
)

TEXT: Attachment[str] = Attachment("text")


def a_pipeline(*, is_strict: bool = True, **stages: object) -> Pipeline:
    stages.setdefault("selector", TopSelector())
    return Pipeline("test", Stages(**stages), key=POST_ID, dims=DIMS, is_strict=is_strict)  # type: ignore[arg-type]


def slate_ids(pipeline: Pipeline, **query: object) -> list[int]:
    return execute(pipeline, a_query(**query)).slate[POST_ID].tolist()  # type: ignore[arg-type,no-any-return]


def test_a_page_goes_through_every_kind_of_stage() -> None:
    class Reversed(Blender):
        name = "reversed"

        def blend(self, query: object, slate: object) -> np.ndarray:
            return np.arange(len(slate))[::-1]  # type: ignore[arg-type]

    side_effect = RecordingSideEffect()
    pipeline = a_pipeline(
        query_hydrators=[FakeQueryHydrator({FOLLOWING: np.array([10, 20])})],
        sources=[FakeSource({POST_ID: [1, 2, 3]}, name="a"), FakeSource({POST_ID: [3, 4, 5]}, name="b")],
        hydrators=[FakeHydrator((AUTHOR_ID,), lambda batch: {AUTHOR_ID: batch[POST_ID] * 10})],
        filters=[FakeFilter(lambda batch: batch[AUTHOR_ID] != 20, reads=(AUTHOR_ID,))],
        rankers=[FakeRanker(lambda batch: batch[POST_ID])],
        selector=TopSelector(SCORE),
        blenders=[Reversed()],
        side_effects=[side_effect],
    )
    result = execute(pipeline, a_query(limit=3))
    assert result.slate[POST_ID].tolist() == [3, 4, 5]
    assert result.slate_sources() == [("a", "b"), ("b",), ("b",)]
    assert result.query[FOLLOWING].tolist() == [10, 20]
    assert result.candidates[POST_ID].tolist() == [1, 2, 3, 4, 5]
    assert result.candidates[PROVENANCE].tolist() == [1, 1, 3, 2, 2]
    assert result.slate_rows.tolist() == [2, 3, 4]
    assert result.n_dropped_by_name() == {"fake": 1}
    assert [(name, keys.tolist()) for name, keys in result.retrieved] == [("a", [1, 2, 3]), ("b", [3, 4, 5])]
    assert side_effect.results == [result]


def test_no_candidates_are_an_empty_page() -> None:
    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: []})],
        hydrators=[FakeHydrator((AUTHOR_ID,), lambda batch: {AUTHOR_ID: batch[POST_ID] * 10})],
        filters=[FakeFilter(lambda batch: batch[AUTHOR_ID] != 20)],
        rankers=[FakeRanker(lambda batch: batch[POST_ID])],
        late_filters=[FakeFilter(lambda batch: batch[POST_ID] > 0, name="late")],
    )
    assert slate_ids(pipeline) == []


def test_the_first_filter_that_drops_a_row_is_remembered() -> None:
    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3, 4]})],
        filters=[
            FakeFilter(lambda batch: batch[POST_ID] != 2, name="not_two"),
            FakeFilter(lambda batch: batch[POST_ID] < 0, name="off", is_on=False),
            FakeFilter(lambda batch: batch[POST_ID] % 2 == 1, name="odd"),
        ],
    )
    result = execute(pipeline, a_query())
    assert [result.drop_names[code] for code in result.dropped_by] == ["", "not_two", "", "odd"]
    assert [(c.component, c.fate, c.n_in, c.n_out) for c in result.report.components if c.stage == "filter"] == [
        ("not_two", Fate.OK, 4, 3),
        ("off", Fate.DISABLED, 3, 3),
        ("odd", Fate.OK, 3, 2),
    ]


def test_a_source_is_cut_at_its_cap() -> None:
    cap = Param("fake.max_candidates", 2)
    pipeline = a_pipeline(sources=[FakeSource({POST_ID: [7, 8, 9]}, cap=cap)])
    assert slate_ids(pipeline) == [7, 8]
    assert slate_ids(pipeline, params={cap: 1}) == [7]


def test_a_last_resort_takes_part_only_where_the_others_found_little() -> None:
    only_below = Param("last.only_below", 3)
    last = FakeSource({POST_ID: [8, 1]}, name="last")
    last.only_below = only_below
    pipeline = a_pipeline(sources=[last, FakeSource({POST_ID: [1, 2]}, name="first")])
    result = execute(pipeline, a_query())
    assert result.slate[POST_ID].tolist() == [8, 1, 2]
    assert result.slate_sources() == [("last",), ("last", "first"), ("first",)]
    assert slate_ids(pipeline, limit=2, params={only_below: 2}) == [1, 2]
    assert slate_ids(pipeline, params={only_below: 0}) == [1, 2]
    assert "last.only_below" in pipeline.params


def test_a_last_resort_takes_part_where_the_filters_leave_less_than_a_page() -> None:
    last = FakeSource({POST_ID: [8, 1]}, name="last")
    last.only_below = Param("last.only_below", 2)
    odd = FakeFilter(lambda batch: batch[POST_ID] % 2 == 0, name="odd")
    first = FakeSource({POST_ID: [1, 2, 3]}, name="first")
    pipeline = a_pipeline(sources=[last, first], filters=[odd])
    result = execute(pipeline, a_query(limit=2))
    assert result.slate[POST_ID].tolist() == [8, 2]
    assert result.n_dropped_by_name() == {"odd": 2}
    assert [name for name, _ in result.retrieved] == ["last", "first"]
    fates = [(c.component, c.fate) for c in result.report.components if c.stage == "source"]
    assert fates == [("first", Fate.OK), ("last", Fate.OK)]
    result = execute(pipeline, a_query(limit=1))
    assert result.slate[POST_ID].tolist() == [2]
    fates = [(c.component, c.fate) for c in result.report.components if c.stage == "source"]
    assert fates == [("first", Fate.OK), ("last", Fate.DISABLED)]


def test_a_late_filter_that_dropped_something_says_what_is_not_worth_choosing_any_more() -> None:
    class Taken(FakeFilter):
        n_turns = 0

        def keep(self, query: Query, batch: CandidateBatch) -> np.ndarray:  # type: ignore[override]
            self.n_turns += 1
            return batch[POST_ID] > 5

        async def foresee(self, query: Query, reserve: CandidateBatch) -> np.ndarray:
            return reserve[POST_ID] == 8  # of those that passed, too: they stay

    taken = Taken(len, name="taken")
    pipeline = a_pipeline(sources=[FakeSource({POST_ID: [9, 1, 2, 3, 4, 5, 6, 8]})], late_filters=[taken])
    result = execute(pipeline, a_query(limit=2))
    assert result.slate[POST_ID].tolist() == [9, 8]
    assert taken.n_turns == 2
    assert result.n_dropped_by_name() == {"taken": 6}


class Cheap(PreRanker):
    """Thinks most of post 2, then of 4, 3 and 1, 5 and so on."""

    name = "cheap"
    writes = (HEAT,)
    score = HEAT
    max_kept = Param("cheap.max_kept", 2)

    def __init__(self) -> None:
        self.n_seen: list[int] = []

    def rank(self, query: object, batch: CandidateBatch) -> dict:  # type: ignore[type-arg, override]
        self.n_seen.append(batch.n)
        scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.7}
        return {HEAT: np.array([scores.get(post, 0.01) for post in batch[POST_ID].tolist()], dtype=np.float32)}


def test_a_pre_ranker_keeps_the_best_and_leaves_their_order() -> None:
    cheap = Cheap()
    result = execute(a_pipeline(sources=[FakeSource({POST_ID: [1, 2, 3, 4]})], pre_rankers=[cheap]), a_query(limit=1))
    assert result.ranked[POST_ID].tolist() == [2, 4]
    assert result.slate[POST_ID].tolist() == [2]
    assert result.n_dropped_by_name() == {"cheap": 2}
    assert result.pre_ranked[POST_ID].tolist() == [1, 2, 3, 4]
    assert result.pre_ranked[HEAT][2] == np.float32(0.5)
    assert result.pre_ranked_rows.tolist() == [0, 1, 2, 3]


def test_a_pre_ranker_lets_two_pages_pass_whatever_its_param_says_and_has_no_turn_where_there_are_no_more() -> None:
    cheap = Cheap()
    result = execute(a_pipeline(sources=[FakeSource({POST_ID: [1, 2, 3, 4]})], pre_rankers=[cheap]), a_query(limit=2))
    assert result.slate[POST_ID].tolist() == [1, 2]
    assert not result.n_dropped_by_name()
    assert not cheap.n_seen
    assert not result.ranked[HEAT].any()
    assert result.pre_ranked[POST_ID].tolist() == [1, 2, 3, 4]


def test_a_pre_ranker_that_fails_lets_as_many_pass_and_the_page_says_so() -> None:
    class Broken(Cheap):
        def rank(self, query: object, batch: object) -> dict:  # type: ignore[type-arg, override]
            raise RuntimeError("not today")

    source = FakeSource({POST_ID: [9, 2, 3, 4]})
    result = execute(a_pipeline(sources=[source], pre_rankers=[Broken()], is_strict=False), a_query(limit=1))
    assert result.ranked[POST_ID].tolist() == [2, 3]
    assert [outcome.component for outcome in result.report.outcomes] == ["cheap"]


def test_what_was_cut_comes_back_where_the_page_would_be_short_without_it() -> None:
    class NotBest(Filter):
        name = "not_best"
        reads = (POST_ID,)
        on_error = OnError.KEEP_ALL

        def keep(self, query: Query, batch: CandidateBatch) -> np.ndarray:
            return ~np.isin(batch[POST_ID], [2, 4, 3])

    cheap = Cheap()
    source = FakeSource({POST_ID: [1, 2, 3, 4, 5, 6, 7]})
    pipeline = a_pipeline(sources=[source], pre_rankers=[cheap], late_filters=[NotBest()])
    result = execute(pipeline, a_query(limit=1))
    assert result.slate[POST_ID].tolist() == [1]
    assert result.n_dropped_by_name()["not_best"] >= 2
    assert "cheap" not in result.n_dropped_by_name()
    assert set(result.ranked[POST_ID].tolist()) == {1, 3, 5, 6, 7}
    assert result.ranked_rows.tolist() == [0, 2, 4, 5, 6]
    assert result.slate_rows.tolist() == [0]
    assert cheap.n_seen == [7]  # it had its say; the rest is ranked as if there were no pre-ranker


def test_hydrators_that_read_an_earlier_one_run_after_it() -> None:
    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2]})],
        hydrators=[
            FakeHydrator((AUTHOR_ID,), lambda batch: {AUTHOR_ID: batch[POST_ID] * 10}, name="first"),
            FakeHydrator(
                (HEAT,),
                lambda batch: {HEAT: batch[AUTHOR_ID].astype(np.float32)},
                name="second",
                reads=(AUTHOR_ID,),
            ),
        ],
    )
    assert execute(pipeline, a_query()).slate[HEAT].tolist() == [10.0, 20.0]


def test_the_observer_hears_of_requests_and_side_effects() -> None:
    observer = RecordingObserver()
    stages = Stages(
        selector=TopSelector(),
        sources=[FakeSource({POST_ID: [1]})],
        side_effects=[RecordingSideEffect(error=RuntimeError("no")), RecordingSideEffectTwo()],
    )
    execute(Pipeline("test", stages, key=POST_ID, observer=observer), a_query())
    (report,) = observer.reports
    assert (report.n_retrieved, report.n_candidates, report.n_slate, report.n_wanted) == (1, 1, 1, 35)
    assert report.took_ms_by_stage().keys() == {"source", "selector"}
    fates = {entry.component: (entry.fate, outcome) for _, entry, outcome in observer.side_effects}
    assert fates["recording"][0] is Fate.FAILED
    assert "RuntimeError: no" in fates["recording"][1].detail  # type: ignore[union-attr]
    assert fates["two"] == (Fate.OK, None)


class RecordingSideEffectTwo(RecordingSideEffect):
    name = "two"


def test_whether_a_stage_takes_part_may_depend_on_what_query_hydrators_found() -> None:
    class ForFollowers(FakeFilter):
        def is_enabled(self, query: Query) -> bool:
            return len(query[FOLLOWING]) > 0

    stage = ForFollowers(lambda batch: batch[POST_ID] > 1, name="for_followers", reads=(FOLLOWING,))
    for following, expected in (([10], [2]), ([], [1, 2])):
        found = FakeQueryHydrator({FOLLOWING: np.array(following, dtype=np.int64)})
        pipeline = a_pipeline(query_hydrators=[found], sources=[FakeSource({POST_ID: [1, 2]})], filters=[stage])
        assert slate_ids(pipeline) == expected


def test_a_filter_that_compares_rows_sees_those_that_are_left() -> None:
    seen: list[list[int]] = []

    class Comparing(FakeFilter):
        compares_rows = True

    def first_only(batch: object) -> np.ndarray:
        seen.append(batch[POST_ID].tolist())  # type: ignore[index]
        return np.arange(len(batch)) == 0  # type: ignore[arg-type]

    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3, 4]})],
        filters=[
            FakeFilter(lambda batch: batch[POST_ID] != 1, name="not_one"),
            Comparing(first_only, name="first_only"),
            FakeFilter(lambda batch: batch[POST_ID] > 0, name="last"),
        ],
    )
    result = execute(pipeline, a_query())
    assert seen == [[2, 3, 4]]
    assert result.slate[POST_ID].tolist() == [2]
    assert [result.drop_names[code] for code in result.dropped_by] == ["not_one", "", "first_only", "first_only"]


# ------------------------------------------------------------------------------------- late filters, refill


def test_late_filters_refill_from_the_reserve_in_rank_order() -> None:
    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3, 4, 5, 6]})],
        late_filters=[FakeFilter(lambda batch: batch[POST_ID] % 2 == 0, name="even")],
    )
    result = execute(pipeline, a_query(limit=2))
    assert result.slate[POST_ID].tolist() == [2, 4]
    assert result.report.n_refills == 2
    assert result.n_dropped_by_name() == {"even": 2}


def test_the_whole_slate_is_checked_again_after_a_refill() -> None:
    sizes: list[list[int]] = []

    def no_three(batch: object) -> np.ndarray:
        sizes.append(batch[POST_ID].tolist())  # type: ignore[index]
        return batch[POST_ID] != 3  # type: ignore[index,no-any-return]

    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3, 4, 5]})], late_filters=[FakeFilter(no_three, name="no_three")]
    )
    assert slate_ids(pipeline, limit=3) == [1, 2, 4]
    assert sizes == [[1, 2, 3], [1, 2, 4]]


def test_later_late_filters_judge_survivors_only() -> None:
    claimed: list[list[int]] = []

    def claim(batch: object) -> np.ndarray:
        claimed.append(batch[POST_ID].tolist())  # type: ignore[index]
        return np.ones(len(batch), dtype=bool)  # type: ignore[arg-type]

    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3]})],
        late_filters=[FakeFilter(lambda batch: batch[POST_ID] != 1, name="a"), FakeFilter(claim, name="claim")],
    )
    assert slate_ids(pipeline, limit=2) == [2, 3]
    assert claimed == [[2], [2, 3]]


def test_late_hydrators_get_each_row_once_and_only_rows_of_the_page() -> None:
    hydrator = FakeHydrator(
        (HAS_CONTENT, TEXT),
        lambda batch: {
            HAS_CONTENT: batch[POST_ID] != 2,
            TEXT: {key: f"text {key}" for key in batch[POST_ID].tolist() if key != 2},
        },
    )
    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: list(range(1, 100))})],
        late_hydrators=[hydrator],
        late_filters=[FakeFilter(lambda batch: batch[HAS_CONTENT], name="content", reads=(HAS_CONTENT,))],
    )
    result = execute(pipeline, a_query(limit=3))
    assert result.slate[POST_ID].tolist() == [1, 3, 4]
    assert result.attached(TEXT) == {1: "text 1", 3: "text 3", 4: "text 4"}
    assert hydrator.n_rows == [3, 1]


def test_late_filters_read_what_late_hydrators_attached_to_any_row_of_the_page() -> None:
    hydrator = FakeHydrator((TEXT,), lambda batch: {TEXT: {key: f"text {key}" for key in batch[POST_ID].tolist()}})
    read: list[dict[int, str]] = []

    def keep(batch: CandidateBatch) -> object:
        read.append({key: batch.attached(TEXT)[key] for key in batch[POST_ID].tolist()})
        return batch[POST_ID] != 2

    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3]})],
        late_hydrators=[hydrator],
        late_filters=[FakeFilter(keep, name="first"), FakeFilter(keep, name="second", reads=(TEXT,))],
    )
    assert slate_ids(pipeline, limit=2) == [1, 3]
    assert read == [
        {1: "text 1", 2: "text 2"},
        {1: "text 1"},  # what the first one dropped
        {1: "text 1", 3: "text 3"},  # refilled
        {1: "text 1", 3: "text 3"},
    ]


def test_an_exhausted_reserve_gives_a_short_page() -> None:
    pipeline = a_pipeline(
        sources=[FakeSource({POST_ID: [1, 2, 3]})], late_filters=[FakeFilter(lambda batch: batch[POST_ID] == 3)]
    )
    assert slate_ids(pipeline, limit=2) == [3]


def test_equal_queries_give_equal_pages_and_random_numbers() -> None:
    query, again, other = a_query(), a_query(), a_query(request_id="r2")
    assert query.rng("x").integers(1 << 60) == again.rng("x").integers(1 << 60)
    assert query.rng("x").integers(1 << 60) != query.rng("y").integers(1 << 60)
    assert query.rng("x").integers(1 << 60) != other.rng("x").integers(1 << 60)


@pytest.mark.parametrize("fields", [{BLOCKED: [3]}, {}])
def test_query_fields_have_defaults(fields: dict) -> None:  # type: ignore[type-arg]
    assert a_query(fields)[BLOCKED].tolist() == fields.get(BLOCKED, [])
