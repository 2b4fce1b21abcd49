"""Traces: what is packed comes back, exact where it was shown and for all scores."""

import numpy as np
import pytest

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import GoneError
from millrace.features.columns import ACTION_PROBS, CREATED_MS, OFFSET_VALUE, RECENCY_FACTOR, SCORE, VALUE
from millrace.mixer import trace as trace_module
from millrace.mixer.trace import Trace, TracePacker, viewer_mark
from millrace.mixer.trace_codes import PRECISION
from millrace.mixer.value_model.weights import X_WEIGHTS
from millrace.pipeline.column import PROVENANCE
from millrace.pipeline.result import PipelineResult
from millrace.testing.builders import NOW_MS, a_follow, a_mute, a_post_created, an_engagement, an_impression
from millrace.testing.pipeline_world import FeedWorld

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineResult, Trace]:
    """One request over 600 posts of 300 authors, with every kind of fate."""
    posts = [
        a_post_created(author * 10 + n, author, at_ms=NOW_MS - (author % 60) * HOUR_MS - n)
        for author in range(100, 400)
        for n in range(2)
    ]
    likes = [
        an_engagement(v, a * 10, "like", at_ms=NOW_MS - v) for v in range(500, 510) for a in range(100, 300, v % 7 + 1)
    ]
    follows = [a_follow(20, author) for author in range(100, 250)]
    others = [a_mute(20, 361), a_mute(20, 362), an_impression(20, 2000), an_impression(20, 2010)]
    world = FeedWorld(tmp_path_factory.mktemp("world"), [*posts, *follows, *likes, *others])
    _, result = world.page_with_result(limit=30)
    record = TracePacker(world.service.pipeline, ActionSpace().names).pack(result)
    assert viewer_mark("20") in record
    assert viewer_mark("2") not in record
    trace = Trace(record)
    world.close()
    return result, trace


def test_the_head_tells_how_the_page_was_made(packed: tuple[PipelineResult, Trace]) -> None:
    result, trace = packed
    head = trace.head
    assert (head.request_id, head.viewer_id, head.now_ms, head.pipeline, head.limit) == ("r1", "20", NOW_MS, "home", 30)
    assert head.state_offset == result.query.state_offset
    assert head.components == result.report.components
    assert head.sources == result.source_names
    assert head.drops == result.drop_names
    assert head.n_found == tuple((name, len(keys)) for name, keys in result.retrieved)
    assert dict(head.heads) == pytest.approx(
        {action.label: weight for action, weight in X_WEIGHTS.items() if weight != 0}, rel=1e-6
    )
    assert head.steps == (
        ("recency", "multiply"),
        ("social", "add"),
        ("new_author_lift", "multiply"),
        ("author_decay", "multiply"),
        ("out_of_network", "multiply"),
    )


def test_every_candidate_comes_back_with_its_fate(packed: tuple[PipelineResult, Trace]) -> None:
    result, trace = packed
    np.testing.assert_array_equal(trace.keys, result.candidates[result.key])
    np.testing.assert_array_equal(trace.provenance, result.candidates[PROVENANCE])
    np.testing.assert_array_equal(trace.dropped_by, result.dropped_by)
    np.testing.assert_array_equal(trace.ranked_rows, result.ranked_rows)
    np.testing.assert_array_equal(trace.page_rows, result.slate_rows)
    assert {"age", "muted_author", "seen"} <= result.n_dropped_by_name().keys()
    for row, key in enumerate(trace.keys.tolist()):
        assert trace.row_of(key) == row
        expected = [(name, keys.tolist().index(key) + 1) for name, keys in result.retrieved if key in keys.tolist()]
        assert trace.found_by(row) == expected
    assert trace.row_of(12345) == -1


def test_values_steps_and_scores_are_exact_for_all(packed: tuple[PipelineResult, Trace]) -> None:
    result, trace = packed
    for column in (VALUE, OFFSET_VALUE, SCORE):
        np.testing.assert_array_equal(trace[column.name], result.ranked[column])
    factors = result.ranked[RECENCY_FACTOR].tolist()
    assert [trace.amount(0, row) for row in range(result.ranked.n)] == factors


def test_predictions_are_exact_for_the_page_and_the_best_and_close_for_the_rest(
    packed: tuple[PipelineResult, Trace],
) -> None:
    result, trace = packed
    heads = [Action[name.upper()] for name, _ in trace.head.heads]
    probs = result.ranked[ACTION_PROBS][:, heads]
    page = {trace.ranked_row(row) for row in trace.page_rows.tolist()}
    best = set(np.argsort(-result.ranked[SCORE])[: trace_module.N_EXACT].tolist())
    n_exact = 0
    for row in range(result.ranked.n):
        found, is_exact = trace.predictions(row)
        n_exact += is_exact
        if is_exact:
            np.testing.assert_array_equal(found, probs[row])
        else:
            np.testing.assert_allclose(found, probs[row], rtol=PRECISION)
        assert is_exact or row not in page | best
    assert trace_module.N_EXACT <= n_exact < result.ranked.n


def test_a_dropped_candidate_keeps_what_its_filter_needs_to_explain(packed: tuple[PipelineResult, Trace]) -> None:
    result, trace = packed
    dropped = np.flatnonzero(result.dropped_by == result.drop_names.index("age")).tolist()
    assert len(dropped) > 1
    created = result.candidates[CREATED_MS]
    for row in dropped:
        kept = trace.judged(row)
        assert sorted(kept) == ["created_ms", "has_post"]
        assert kept["created_ms"].tolist() == [created[row]]
    muted = int(np.flatnonzero(result.dropped_by == result.drop_names.index("muted_author"))[0])
    assert trace.judged(muted) == {}


def test_a_trace_is_small(packed: tuple[PipelineResult, Trace]) -> None:
    result, trace = packed
    n_bytes = sum(array.nbytes for array in trace._arrays.values())
    assert n_bytes < 60 * result.candidates.n + 60 * result.ranked.n


def test_an_empty_page_leaves_a_trace(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = FeedWorld(tmp_path_factory.mktemp("empty"))
    _, result = world.page_with_result()
    trace = world.service.traces.of(result)
    assert (len(trace.keys), len(trace.ranked_rows), len(trace.page_rows)) == (0, 0, 0)
    assert trace.row_of(1) == -1
    world.close()


@pytest.mark.parametrize("record", [b"", b"\0\0\0\0", b"\x02\0\0\0\xc0\xc0", b"\xff" * 40])
def test_what_is_no_trace_of_this_version_is_refused(record: bytes) -> None:
    with pytest.raises(GoneError, match="cannot be read"):
        Trace(record)
