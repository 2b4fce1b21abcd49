"""The list of stages as people and operators see it."""

from collections.abc import Callable

from millrace.mixer.value_model.steps import value_steps
from millrace.pipeline.describe import describe, render_mermaid, render_text
from millrace.pipeline.stages import OnError
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]


def test_the_home_pipeline_describes_itself(a_world: World) -> None:
    description = describe(a_world().service.pipeline)
    components = [component for group in description.groups for component in group.components]
    assert description.name == "home"
    assert all(component.doc for component in components)
    assert all(param.doc and param.type for component in components for param in component.params)
    assert "value.weight_report = -234.0 in [-10000, 0]" in render_text(description)
    assert "second_degree" in render_mermaid(description)


def test_filters_run_in_the_documented_order(a_world: World) -> None:
    filters = a_world().service.pipeline.stages.filters
    assert [stage.name for stage in filters] == [
        "hydration",
        "age",
        "own_posts",
        "deleted",
        "deleted_parent",
        "blocked_author",
        "blocked_by_author",
        "muted_author",
        "blocked_parent",
        "muted_parent",
        "seen",
        "served",
        "claimed",
        "floor",
        "out_of_network_reply",
        "language",
        "sensitive",
        "unsafe",
        "reputation",
        "same_content",
    ]


def test_what_protects_people_fails_closed(a_world: World) -> None:
    pipeline = a_world().service.pipeline
    filters = (*pipeline.stages.filters, *pipeline.stages.late_filters)
    closed = {stage.name for stage in filters if stage.on_error is OnError.DROP_ALL}
    assert closed == {
        "hydration",
        "deleted",
        "deleted_parent",
        "blocked_author",
        "blocked_by_author",
        "muted_author",
        "blocked_parent",
        "muted_parent",
        "sensitive",
        "unsafe",
        "content",
        "carried",
        "muted_keyword",
        "claims",
    }


def test_every_param_has_bounds_and_keeps_its_default_within(a_world: World) -> None:
    params = a_world().service.declared_params
    assert len(params) > 30
    for param in params.values():
        param.check(param.default)
        assert isinstance(param.default, bool) or param.low > float("-inf")


def test_the_value_model_goes_from_predictions_to_score_in_the_documented_order(a_world: World) -> None:
    rankers = a_world().service.pipeline.stages.rankers
    assert [stage.name for stage in rankers] == [
        "counters",
        "model",  # where one serves
        "near_line",  # where it has learned something
        "ranked_inputs",  # for the log; gives no scores
        "weighted_sum",
        "recency",
        "social",
        "new_author_lift",
        "author_decay",
        "out_of_network",
    ]
    assert [(step.name, step.operation) for step in value_steps(rankers)] == [
        ("recency", "multiply"),
        ("social", "add"),
        ("new_author_lift", "multiply"),
        ("author_decay", "multiply"),
        ("out_of_network", "multiply"),
    ]
