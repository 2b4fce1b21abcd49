"""What is refused when a pipeline is built."""

import numpy as np
import pytest

from millrace.base.errors import PipelineError
from millrace.base.params import Param
from millrace.features.columns import AUTHOR_ID, HAS_CONTENT, HEAT, POST_ID, SCORE
from millrace.features.query_fields import BLOCKED, FOLLOWING
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.column import Attachment, Column
from millrace.pipeline.describe import describe, render_mermaid, render_text
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.stages import Filter, QueryHydrator
from millrace.testing.pipeline_fakes import (
    FakeFilter,
    FakeHydrator,
    FakeQueryHydrator,
    FakeRanker,
    FakeSource,
    SlowSource,
    TopSelector,
)

SOURCE = FakeSource({POST_ID: [1]})


def build(**stages: object) -> Pipeline:
    stages.setdefault("selector", TopSelector())
    stages.setdefault("sources", [SOURCE])
    return Pipeline("test", Stages(**stages), key=POST_ID)  # type: ignore[arg-type]


def test_reading_what_nobody_writes_is_refused_by_name() -> None:
    with pytest.raises(PipelineError, match=r"filter fake .*author_id.*reads what nobody writes"):
        build(filters=[FakeFilter(lambda _: None, reads=(AUTHOR_ID,))])


def test_reading_what_only_a_later_stage_writes_is_refused() -> None:
    with pytest.raises(PipelineError, match="reads what nobody writes before it"):
        build(
            hydrators=[
                FakeHydrator((HEAT,), lambda _: {}, name="early", reads=(AUTHOR_ID,)),
                FakeHydrator((AUTHOR_ID,), lambda _: {}, name="late"),
            ]
        )


def test_sources_do_not_see_each_other() -> None:
    reader = FakeSource({POST_ID: [1]}, name="reader")
    reader.reads = (HEAT,)
    with pytest.raises(PipelineError, match="reads what nobody writes"):
        build(sources=[FakeSource({POST_ID: [1], HEAT: [1.0]}, name="writer"), reader])


def test_query_fields_are_checked_too() -> None:
    with pytest.raises(PipelineError, match="QueryField"):
        build(filters=[FakeFilter(lambda _: None, reads=(BLOCKED,))])


def test_two_declarations_of_one_name_are_refused() -> None:
    other = Column("author_id", np.dtype(np.int64), 0)
    with pytest.raises(PipelineError, match="declared twice"):
        build(
            hydrators=[
                FakeHydrator((AUTHOR_ID,), lambda _: {}, name="a"),
                FakeHydrator((other,), lambda _: {}, name="b"),
            ]
        )


def test_two_stages_of_one_name_are_refused() -> None:
    with pytest.raises(PipelineError, match="two have this name"):
        build(sources=[SOURCE, FakeSource({POST_ID: [2]})])


def test_two_declarations_of_one_param_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"param fake\.max"):
        build(
            sources=[
                FakeSource({POST_ID: [1]}, name="a", cap=Param("fake.max", 1)),
                FakeSource({POST_ID: [1]}, name="b", cap=Param("fake.max", 2)),
            ]
        )


def test_a_filter_must_say_what_its_failure_means() -> None:
    class Silent(Filter):
        name = "silent"

        def keep(self, query: object, batch: object) -> np.ndarray:
            return np.ones(1, dtype=bool)

    with pytest.raises(PipelineError, match="does not say what its failure means"):
        build(filters=[Silent()])


def test_filters_before_the_selection_may_not_wait() -> None:
    class Waiting(FakeFilter):
        async def keep(self, query: object, batch: object) -> np.ndarray:  # type: ignore[override]
            return np.ones(1, dtype=bool)

    waiting = Waiting(lambda _: None)
    with pytest.raises(PipelineError, match="async"):
        build(filters=[waiting])
    build(late_filters=[waiting])


def test_each_kind_writes_its_own_things_only() -> None:
    with pytest.raises(PipelineError, match="may not write"):
        build(hydrators=[FakeHydrator((Attachment("text"),), lambda _: {})])
    with pytest.raises(PipelineError, match="may not write"):
        build(query_hydrators=[_WritesColumn()])


class _WritesColumn(QueryHydrator):
    name = "wrong"
    writes = (SCORE,)

    def hydrate(self, query: object) -> dict:  # type: ignore[type-arg]
        return {}


def test_more_sources_than_provenance_bits_are_refused() -> None:
    with pytest.raises(PipelineError, match="32 bits"):
        build(sources=[FakeSource({POST_ID: [1]}, name=f"s{i}") for i in range(33)])


# ---------------------------------------------------------------------------------------------- describing


def a_described_pipeline() -> Pipeline:
    return build(
        query_hydrators=[FakeQueryHydrator({FOLLOWING: np.array([1])})],
        sources=[SlowSource([1], timeout_ms=20), FakeSource({POST_ID: [1]}, cap=Param("fake.max", 7, 1, 9, "most"))],
        hydrators=[
            FakeHydrator((AUTHOR_ID,), lambda _: {}, name="authors"),
            FakeHydrator((HAS_CONTENT,), lambda _: {}, name="content", reads=(AUTHOR_ID,)),
        ],
        filters=[FakeFilter(lambda _: None, reads=(AUTHOR_ID, FOLLOWING))],
        rankers=[FakeRanker(lambda _: None)],
    )


def test_a_description_tells_stages_reads_writes_and_params() -> None:
    description = describe(a_described_pipeline())
    by_name = {(c.kind, c.name): c for group in description.groups for c in group.components}
    assert [group.title for group in description.groups] == [
        "query hydrators",
        "sources",
        "hydrators",
        "filters",
        "rankers",
        "selector",
    ]
    assert by_name["filter", "fake"].reads == ("author_id", "following")
    assert by_name["filter", "fake"].on_error == "keep all"
    assert by_name["source", "slow"].timeout_ms == 20
    assert by_name["source", "fake"].timeout_ms == 20
    assert by_name["hydrator", "content"].wave == 1
    (param,) = by_name["source", "fake"].params
    assert (param.name, param.default, param.low, param.high, param.type) == ("fake.max", 7, 1, 9, "int")
    assert description.as_dict()["groups"][0]["components"][0]["writes"] == ("following",)


def test_descriptions_are_rendered_for_people() -> None:
    description = describe(a_described_pipeline())
    text = render_text(description)
    assert "param   fake.max = 7 in [1, 9]  most" in text
    assert "at most 20 ms" in text
    chart = render_mermaid(description)
    assert chart.startswith("flowchart TB\n")
    assert chart.count("subgraph") == 6
    assert "g0 --> g1" in chart
