"""Who predicted: the learned models with their versions, or counters with the reason why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import TokensOf
from millrace.inference.tables import Float32Array
from millrace.mixer.config import HomeConfig
from millrace.mixer.home_models import IS_ON
from millrace.mixer.trace import Trace, TraceHead
from millrace.mixer.trace_answers import ModelPart, PostWhy
from millrace.mixer.trace_models import model_parts
from millrace.pipeline.outcome import ComponentReport, Fate, Outcome
from millrace.pipeline.stages import PreRanker, Ranker, Source
from millrace.testing.builders import a_follow
from millrace.testing.pipeline_world import FeedWorld, posts_by

VERSIONS = {"ranker": "r7", "pre_ranker": "p7", "retrieval": "t7"}
LIKE = 0.25


class LikesAll:
    """Predicts the same for everything, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    def predict(
        self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING
    ) -> Float32Array:
        if self._fails:
            raise RuntimeError("no model today")
        probs = np.zeros((candidates.n, len(Action)), dtype=np.float32)
        probs[:, Action.LIKE] = LIKE
        return probs


def a_head(fates: dict[str, Fate], **more: Any) -> TraceHead:
    stages = {"vector": Source.kind, "pre_ranker": PreRanker.kind, "model": Ranker.kind}
    fields: dict[str, Any] = {
        "version": 1,
        "request_id": "r1",
        "viewer_id": "20",
        "now_ms": 1,
        "pipeline": "home",
        "limit": 30,
        "state_offset": (0,),
        "params": {},
        "param_levels": {},
        "total_ms": 1.0,
        "n_refills": 0,
        "outcomes": (),
        "sources": ("vector",),
        "drops": ("",),
        "n_found": (),
        "heads": (),
        "steps": (),
        "models": VERSIONS,
    }
    components = tuple(ComponentReport(stages[name], name, fate, 0.0, 1.0, 1_200, 500) for name, fate in fates.items())
    return TraceHead(**{**fields, "components": components, **more})


ALL_OK = dict.fromkeys(("vector", "pre_ranker", "model"), Fate.OK)


def test_models_that_answered_are_named_with_their_versions() -> None:
    assert model_parts(a_head(ALL_OK)) == (
        ModelPart(role="towers", by="model", version="t7"),
        ModelPart(role="pre_ranker", by="model", version="p7"),
        ModelPart(role="ranker", by="model", version="r7"),
    )


def test_towers_are_told_of_where_their_source_found_the_post() -> None:
    found = {sources: [part.role for part in model_parts(a_head(ALL_OK), sources)] for sources in (("vector",), ())}
    assert found == {("vector",): ["towers", "pre_ranker", "ranker"], (): ["pre_ranker", "ranker"]}


def test_without_models_counters_predict_and_nothing_is_cut() -> None:
    head = a_head(dict.fromkeys(ALL_OK, Fate.DISABLED), models={})
    assert model_parts(head) == (
        ModelPart(role="pre_ranker", by="nobody", reason="no learned pre-ranker serves"),
        ModelPart(role="ranker", by="counters", reason="no learned ranker serves"),
    )


def test_few_candidates_are_not_pre_ranked() -> None:
    (part,) = model_parts(a_head({"pre_ranker": Fate.DISABLED}))
    assert (part.by, part.reason) == ("nobody", "1,200 candidates are few enough to rank them all")


def test_counters_cut_where_no_pre_ranker_serves_and_they_may() -> None:
    (part,) = model_parts(a_head({"pre_ranker": Fate.OK}, models={"ranker": "r7"}))
    assert (part.by, part.reason) == ("counters", "no learned pre-ranker serves")


def test_a_param_that_keeps_the_ranker_out_is_named_with_who_set_it() -> None:
    head = a_head({"model": Fate.DISABLED}, params={IS_ON.name: False}, param_levels={IS_ON.name: "experiment"})
    (part,) = model_parts(head)
    assert (part.by, part.version) == ("counters", "")
    assert part.reason == "the param model.is_on keeps the learned ranker out (set by experiment)"


@pytest.mark.parametrize(
    ("fate", "words"), [(Fate.LATE, "was late"), (Fate.SKIPPED, "was left out: the deadline had passed")]
)
def test_a_model_that_did_not_answer_is_named(fate: Fate, words: str) -> None:
    outcomes = (Outcome("ranker", "model", fate, "the deadline had passed" if fate is Fate.SKIPPED else ""),)
    (part,) = model_parts(a_head({"model": fate}, outcomes=outcomes))
    assert (part.by, part.reason) == ("counters", f"the learned ranker r7 {words}")


def test_what_went_wrong_and_where_models_lie_is_for_operators() -> None:
    outcomes = (Outcome("ranker", "model", Fate.FAILED, "OSError: /srv/x"),)
    head = a_head(
        {"vector": Fate.OK, "model": Fate.FAILED},
        outcomes=outcomes,
        models={
            "ranker": "/srv/models/big",
            "retrieval": "/srv/models/towers",
        },
    )
    towers, ranker = model_parts(head)
    assert towers.version == "/srv/models/towers"
    assert ranker.reason == "the learned ranker /srv/models/big failed (OSError: /srv/x)"
    towers, ranker = model_parts(head, with_errors=False)
    assert towers.version == "towers"
    assert ranker.reason == "the learned ranker big failed"


def test_a_page_of_no_ranker_has_no_models() -> None:
    assert model_parts(a_head({})) == ()


# ------------------------------------------------------------------------------------------- whole pages


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Any]:
    made: list[FeedWorld] = []

    def of(model: LikesAll | None, **more: Any) -> tuple[PostWhy, Trace]:
        config = HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000)
        events = [a_follow(20, 10), *posts_by(10, 1, 2)]
        world = FeedWorld(tmp_path, events, model=model, config=config, **more)
        made.append(world)
        trace = world.service.traces.of(world.page_with_result()[1])
        return asyncio.run(world.service.explainer.why(trace, "1")), trace

    yield of
    for world in made:
        world.close()


def test_the_learned_rankers_probabilities_are_explained_under_its_name(ask: Any) -> None:
    why, trace = ask(LikesAll(), versions={"ranker": "r7"})
    assert why.models[-1] == ModelPart(role="ranker", by="model", version="r7")
    (like,) = (part for part in why.actions if part.name == "like")
    assert like.probability == LIKE
    assert like.contribution == pytest.approx(LIKE * like.weight)
    assert trace.head.models == {"ranker": "r7"}


def test_counters_that_stand_in_for_a_failed_ranker_are_named_with_its_error(ask: Any) -> None:
    why, _ = ask(LikesAll(fails=True), versions={"ranker": "r7"})
    assert why.models[-1].by == "counters"
    assert why.models[-1].reason == "the learned ranker r7 failed (RuntimeError: no model today)"


def test_records_of_before_versions_were_kept_can_be_read(ask: Any) -> None:
    _, trace = ask(None)
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(trace.head))
    older = msgspec.msgpack.encode(fields[:-1])
    assert Trace(len(older).to_bytes(4, "little") + older + _arrays(trace)).head.models == {}


def _arrays(trace: Trace) -> bytes:
    return b"".join(trace[place.name].tobytes() for place in trace.head.arrays)
