"""What failing, late and blind components do to a page: outcomes, policies, last known values."""

import asyncio

import numpy as np
import pytest

from millrace.base.clock import SystemClock
from millrace.features.columns import AUTHOR_ID, HAS_CONTENT, POST_ID, SCORE
from millrace.features.query_fields import BLOCKED
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.outcome import Fate, NullObserver
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Deadline, Query
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import Filter, OnError
from millrace.testing.pipeline_builders import DIMS, a_batch, a_query, execute
from millrace.testing.pipeline_fakes import (
    FakeFilter,
    FakeHydrator,
    FakeQueryHydrator,
    FakeRanker,
    FakeSource,
    SlowSource,
    TopSelector,
)
from millrace.testing.told_clock import ToldClock


def a_pipeline(**stages: object) -> Pipeline:
    stages.setdefault("selector", TopSelector())
    stages.setdefault("sources", [FakeSource({POST_ID: [1, 2, 3]})])
    return Pipeline("test", Stages(**stages), key=POST_ID, dims=DIMS)  # type: ignore[arg-type]


def ids(result: PipelineResult) -> list[int]:
    return result.slate[POST_ID].tolist()  # type: ignore[no-any-return]


def fates(result: PipelineResult) -> dict[str, Fate]:
    return {outcome.component: outcome.fate for outcome in result.report.outcomes}


def n_out(result: PipelineResult, stage: str) -> list[int]:
    return [report.n_out for report in result.report.components if report.stage == stage]


def test_a_source_of_the_cpu_that_takes_too_long_is_used_and_said_to_have_overrun() -> None:
    class Steps(SystemClock):
        at_s = 0.0

        def monotonic_s(self) -> float:
            return self.at_s

    clock = Steps()

    class Dawdles(FakeSource):
        def retrieve(self, query: Query) -> CandidateBatch:
            clock.at_s += 0.021
            return super().retrieve(query)

    sources = [Dawdles({POST_ID: [1]}, name="dawdles"), FakeSource({POST_ID: [2]}, name="quick")]
    pipeline = Pipeline("test", Stages(selector=TopSelector(), sources=sources), key=POST_ID, dims=DIMS, clock=clock)
    result = execute(pipeline, a_query())
    assert sorted(ids(result)) == [1, 2]
    found = {report.component: report.fate for report in result.report.components if report.stage == "source"}
    assert found == {"dawdles": Fate.OVERRAN, "quick": Fate.OK}
    assert not result.report.is_degraded


class DropsTheFirst(Filter):
    """A late filter that waits, then drops the first row; never ends if the wait is None."""

    name = "drops_the_first"
    on_error = OnError.KEEP_ALL

    def __init__(self, *, wait_s: float | None, timeout_ms: float) -> None:
        self._wait_s, self.timeout_ms = wait_s, timeout_ms
        self.n_turns = 0
        self.has_begun = asyncio.Event()
        self.abandoned: list[str] = []

    async def keep(self, query: Query, batch: CandidateBatch) -> np.ndarray:
        self.n_turns += 1
        self.has_begun.set()
        if self._wait_s is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self._wait_s)
        return np.arange(batch.n) > 0

    def abandon(self, query: Query) -> None:
        self.abandoned.append(query.request_id)


def boom(_batch: object) -> np.ndarray:
    raise RuntimeError("boom")


def test_a_failed_source_leaves_the_others_page() -> None:
    result = execute(
        a_pipeline(
            sources=[
                FakeSource({POST_ID: [1]}, name="bad", error=ValueError("no")),
                FakeSource({POST_ID: [2]}, name="good"),
            ]
        ),
        a_query(),
    )
    assert ids(result) == [2]
    assert result.slate_sources() == [("good",)]
    assert [(o.stage, o.component, o.fate, o.detail) for o in result.report.outcomes] == [
        ("source", "bad", Fate.FAILED, "ValueError: no")
    ]


class MeetingSource(SlowSource):
    """Finds its posts only while all others are looking for theirs."""

    meeting: asyncio.Barrier

    async def retrieve(self, query: Query) -> CandidateBatch:
        await self.meeting.wait()
        return a_batch({POST_ID: list(self._post_ids)})


def test_a_late_source_is_left_behind_and_cancelled() -> None:
    slow = SlowSource([9], timeout_ms=5)
    result = execute(a_pipeline(sources=[slow, FakeSource({POST_ID: [1]})]), a_query())
    assert ids(result) == [1]
    assert fates(result) == {"slow": Fate.LATE}
    assert slow.was_cancelled


def test_waiting_sources_wait_together_and_keep_their_order() -> None:
    sources = [MeetingSource([i], name=f"s{i}", timeout_ms=60_000) for i in range(8)]

    async def run() -> PipelineResult:
        meeting = asyncio.Barrier(len(sources))
        for source in sources:
            source.meeting = meeting
        return await a_pipeline(sources=sources).execute(a_query())

    assert ids(asyncio.run(run())) == list(range(8))


def test_the_deadline_bounds_every_wait() -> None:
    slow = SlowSource([9], timeout_ms=60_000)
    deadline = Deadline.after_ms(ToldClock(), 10)  # that is not over before the sources have begun
    result = execute(a_pipeline(sources=[slow, FakeSource({POST_ID: [1]})]), a_query(deadline=deadline))
    assert ids(result) == [1]
    assert fates(result) == {"slow": Fate.LATE}


def test_the_deadline_does_not_cut_off_a_filter_without_which_there_is_no_page() -> None:
    """It has its own time: after the deadline a late page is better than none."""

    class Checks(FakeFilter):
        async def keep(self, query: object, batch: CandidateBatch) -> np.ndarray:  # type: ignore[override]
            await (asyncio.sleep(0.02) if self.on_error is OnError.DROP_ALL else asyncio.Event().wait())
            return np.ones(batch.n, dtype=np.bool_)

    def page(on_error: OnError) -> PipelineResult:
        checks = Checks(len, name="checks", on_error=on_error)
        checks.timeout_ms = 60_000
        pipeline = a_pipeline(sources=[FakeSource({POST_ID: [1]})], late_filters=[checks])
        return execute(pipeline, a_query(deadline=Deadline.after_ms(ToldClock(), 1)))

    assert fates(page(OnError.DROP_ALL)) == {}
    assert fates(page(OnError.KEEP_ALL)) == {"checks": Fate.LATE}


def test_after_the_deadline_what_can_be_left_out_is_left_out_and_filters_are_not() -> None:
    deadline = Deadline(SystemClock(), at_s=0.0)
    result = execute(
        a_pipeline(
            sources=[FakeSource({POST_ID: [1, 2, 3]}, name="first"), FakeSource({POST_ID: [4]}, name="second")],
            filters=[FakeFilter(lambda batch: batch[POST_ID] != 2)],
            rankers=[FakeRanker(lambda batch: batch[POST_ID])],
            selector=TopSelector(SCORE),
        ),
        a_query(deadline=deadline),
    )
    assert ids(result) == [1, 3]
    assert fates(result) == {"second": Fate.SKIPPED, "fake": Fate.SKIPPED}


def test_a_cancelled_request_cancels_what_it_waits_for() -> None:
    slow = SlowSource([9], timeout_ms=60_000)

    async def run() -> None:
        task = asyncio.create_task(a_pipeline(sources=[slow]).execute(a_query()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(run())
    assert slow.was_cancelled


def test_a_failed_quality_filter_keeps_and_a_failed_safety_filter_drops() -> None:
    quality = execute(a_pipeline(filters=[FakeFilter(boom, on_error=OnError.KEEP_ALL)]), a_query())
    assert ids(quality) == [1, 2, 3]
    assert fates(quality) == {"fake": Fate.FAILED}
    assert n_out(quality, "filter") == [3]
    safety = execute(a_pipeline(filters=[FakeFilter(boom, on_error=OnError.DROP_ALL)]), a_query())
    assert ids(safety) == []
    assert safety.n_dropped_by_name() == {"fake": 3}
    assert n_out(safety, "filter") == [0]


def test_the_report_of_what_failed_says_how_many_candidates_go_on() -> None:
    result = execute(
        a_pipeline(
            sources=[FakeSource({POST_ID: [1, 2, 3]}), FakeSource({POST_ID: [4]}, name="bad", error=OSError("down"))],
            rankers=[FakeRanker(boom)],
            selector=TopSelector(SCORE),
        ),
        a_query(limit=2),
    )
    assert n_out(result, "source") == [3, 0]
    assert n_out(result, "ranker") == [3]


def test_a_filter_that_waits_has_its_time_once_for_all_rounds() -> None:
    slow = DropsTheFirst(wait_s=0.02, timeout_ms=50)
    result = execute(
        a_pipeline(sources=[FakeSource({POST_ID: list(range(1, 40))})], late_filters=[slow]), a_query(limit=5)
    )
    assert slow.n_turns <= 3  # 20 ms each: the third at the latest is late
    assert fates(result) == {"drops_the_first": Fate.LATE}
    assert len(ids(result)) == 5


def test_what_fails_or_is_cancelled_is_told_to_every_stage() -> None:
    keeper = DropsTheFirst(wait_s=None, timeout_ms=60_000)

    async def run() -> None:
        pipeline = a_pipeline(late_filters=[keeper])
        task = asyncio.create_task(pipeline.execute(a_query(request_id="r7")))
        await keeper.has_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert keeper.abandoned == ["r7"]


def test_a_filter_whose_input_is_missing_follows_its_policy() -> None:
    for policy, expected in ((OnError.DROP_ALL, []), (OnError.KEEP_ALL, [1, 2, 3])):
        result = execute(
            a_pipeline(
                query_hydrators=[FakeQueryHydrator({BLOCKED: np.array([1])}, error=OSError("down"))],
                filters=[FakeFilter(lambda batch: batch[POST_ID] > 0, on_error=policy, reads=(BLOCKED,))],
            ),
            a_query(),
        )
        assert ids(result) == expected
        assert fates(result) == {"fake_query": Fate.FAILED, "fake": Fate.BLIND}


def test_last_known_values_stand_in_for_a_failed_hydrator() -> None:
    last_known = np.array([2], dtype=np.int64)
    result = execute(
        a_pipeline(
            query_hydrators=[
                FakeQueryHydrator({BLOCKED: last_known}, error=OSError("down"), last_known={BLOCKED: last_known})
            ],
            hydrators=[
                FakeHydrator((AUTHOR_ID,), boom, name="authors", last_known=lambda b: {AUTHOR_ID: b[POST_ID] * 10})
            ],
            filters=[FakeFilter(lambda b: b[AUTHOR_ID] != 20, on_error=OnError.DROP_ALL, reads=(BLOCKED, AUTHOR_ID))],
        ),
        a_query(),
    )
    assert ids(result) == [1, 3]
    assert fates(result) == {"fake_query": Fate.FALLBACK, "authors": Fate.FALLBACK}
    assert "OSError: down; last known values used" in result.report.outcomes[0].detail


@pytest.mark.parametrize(
    "answer",
    [
        {AUTHOR_ID: np.zeros(2, dtype=np.int64)},
        {AUTHOR_ID: np.zeros(3, dtype=np.int32)},
        {},
        {AUTHOR_ID: np.zeros(3, dtype=np.int64), SCORE: np.zeros(3, dtype=np.float32)},
    ],
    ids=["rows", "dtype", "nothing", "too much"],
)
def test_a_hydrator_that_breaks_its_contract_is_left_out(answer: dict) -> None:  # type: ignore[type-arg]
    result = execute(a_pipeline(hydrators=[FakeHydrator((AUTHOR_ID,), lambda _: answer)]), a_query())
    assert result.slate[AUTHOR_ID].tolist() == [0, 0, 0]
    assert fates(result) == {"fake": Fate.FAILED}


@pytest.mark.parametrize("mask", [np.ones(2, dtype=bool), np.ones(3), [True] * 3], ids=["rows", "dtype", "list"])
def test_a_filter_that_returns_no_mask_has_failed(mask: object) -> None:
    result = execute(a_pipeline(filters=[FakeFilter(lambda _: mask, on_error=OnError.DROP_ALL)]), a_query())
    assert ids(result) == []


def test_a_failed_ranker_leaves_the_fill_or_the_earlier_score() -> None:
    result = execute(
        a_pipeline(
            rankers=[FakeRanker(lambda b: b[POST_ID], name="good"), FakeRanker(boom, name="bad")],
            selector=TopSelector(SCORE),
        ),
        a_query(),
    )
    assert ids(result) == [3, 2, 1]
    assert fates(result) == {"bad": Fate.FAILED}


def test_a_selector_that_breaks_its_contract_is_replaced_by_the_order_of_the_sources() -> None:
    class Twice(TopSelector):
        def select(self, query: object, batch: object, n_wanted: int) -> np.ndarray:
            return np.zeros(2, dtype=np.intp)

    result = execute(a_pipeline(selector=Twice()), a_query(limit=2))
    assert ids(result) == [1, 2]
    assert fates(result) == {"top": Fate.FAILED}


def test_a_failed_late_safety_filter_empties_the_page_without_using_up_the_reserve() -> None:
    hydrator = FakeHydrator((HAS_CONTENT,), boom)
    result = execute(
        a_pipeline(
            sources=[FakeSource({POST_ID: list(range(1, 200))})],
            late_hydrators=[hydrator],
            late_filters=[
                FakeFilter(lambda b: b[HAS_CONTENT], on_error=OnError.DROP_ALL, reads=(HAS_CONTENT,), name="content")
            ],
        ),
        a_query(limit=10),
    )
    assert ids(result) == []
    assert hydrator.n_rows == [10]
    assert result.report.is_degraded


def test_a_stage_that_cannot_say_whether_it_takes_part_does() -> None:
    class Unsure(FakeFilter):
        def is_enabled(self, query: object) -> bool:
            raise RuntimeError("who knows")

    result = execute(a_pipeline(filters=[Unsure(lambda batch: batch[POST_ID] != 2)]), a_query())
    assert ids(result) == [1, 3]
    assert fates(result) == {"fake": Fate.FAILED}


def test_a_failing_observer_does_not_cost_the_page(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(NullObserver):
        def observe(self, report: object) -> None:
            raise RuntimeError("no metrics today")

    stages = Stages(selector=TopSelector(), sources=[FakeSource({POST_ID: [1]})])
    assert ids(execute(Pipeline("test", stages, key=POST_ID, observer=Broken()), a_query())) == [1]
    assert "the observer of pipeline test failed" in caplog.text


def test_strict_pipelines_raise_what_stages_raise() -> None:
    stages = Stages(selector=TopSelector(), sources=[FakeSource({POST_ID: [1]})], filters=[FakeFilter(boom)])
    with pytest.raises(RuntimeError, match="boom"):
        execute(Pipeline("test", stages, key=POST_ID, is_strict=True), a_query())
