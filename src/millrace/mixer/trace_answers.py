"""Answers about a request: `RequestTrace` (how the page was made) and `PostWhy` (why this post, or why not)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from millrace.base.params import ParamValue
from millrace.mixer.feed import OutcomeInfo
from millrace.mixer.value_model.steps import Operation

Verdict = Literal["shown", "ranked_below", "dropped", "not_retrieved"]

GONE = "(gone)"
"""Stands for the id of a post that was deleted or erased since."""


class SourceInfo(Struct, frozen=True, kw_only=True):
    """What one source did: ``n_unique`` posts were found by no other."""

    name: str
    n_found: int
    n_unique: int
    took_ms: float
    fate: str


class FilterInfo(Struct, frozen=True, kw_only=True):
    """What one filter did, all its turns together."""

    name: str
    n_in: int
    n_dropped: int
    took_ms: float
    fate: str


class ComponentInfo(Struct, frozen=True, kw_only=True):
    """One component's turn; ``start_ms`` counts from the beginning of the request."""

    stage: str
    component: str
    fate: str
    start_ms: float
    took_ms: float
    n_in: int
    n_out: int


class ScoredPost(Struct, frozen=True, kw_only=True):
    """A post at one stage; no score where the stage gives none."""

    post_id: str
    score: float | None


class StagePosts(Struct, frozen=True, kw_only=True):
    """The posts after one stage: ``retrieved`` in the order of sources, ``ranked`` and ``page`` best first."""

    stage: Literal["retrieved", "ranked", "page"]
    posts: tuple[ScoredPost, ...]


class ModelPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who did what a learned model does.

    Attributes
    ----------
    role
        ``towers`` look for posts, the ``pre_ranker`` leaves the best of them, the ``ranker`` predicts each action.
    by
        ``model``, or ``counters`` in its place, or ``nobody``: nothing was cut.
    version
        Of the model; where the config names a folder, that.
    reason
        Why no model did it; empty where one did.
    """

    role: Literal["towers", "pre_ranker", "ranker"]
    by: Literal["model", "counters", "nobody"]
    version: str = ""
    reason: str = ""


class RequestTrace(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a page was made.

    Attributes
    ----------
    params, param_levels
        Every param with the value that held; who decided, where that was not the default.
    sources, filters
        The funnel, in the order of the pipeline.
    components
        Every turn, for a waterfall.
    posts
        The page, best first.
    models
        Who looked for posts, cut and ranked them.
    stages
        Ids and scores after every stage; only where an admin asked for them.
    """

    request_id: str
    viewer_id: str
    generated_at: str
    pipeline: str
    limit: int
    state_offset: tuple[int, ...]
    params: dict[str, ParamValue]
    param_levels: dict[str, str]
    total_ms: float
    n_candidates: int
    n_ranked: int
    n_slate: int
    degraded: bool
    sources: tuple[SourceInfo, ...]
    filters: tuple[FilterInfo, ...]
    components: tuple[ComponentInfo, ...]
    outcomes: tuple[OutcomeInfo, ...]
    posts: tuple[str, ...]
    models: tuple[ModelPart, ...] = ()
    stages: tuple[StagePosts, ...] | None = None


class ActionPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One head's part in the value: ``probability`` x ``weight``. ``dwell_time`` is in seconds, not a probability.

    Attributes
    ----------
    calibration_shift, fast_shift
        What near-line calibration and the fast layer added to the log-odds of the learned ranker's own prediction; left
        out where they are 0, and where predictions are approximate.
    """

    name: str
    probability: float
    weight: float
    contribution: float
    calibration_shift: float = 0.0
    fast_shift: float = 0.0


class StepInfo(Struct, frozen=True, kw_only=True):
    """One step from the offset value to the score: what it did, and the score after it."""

    name: str
    kind: Operation
    amount: float
    score_after: float


class SourceReason(Struct, frozen=True, kw_only=True):
    """Why one source did not return the post."""

    source: str
    reason: str


class PostWhy(Struct, frozen=True, kw_only=True):
    """Why a post is on a page, or why not.

    Attributes
    ----------
    verdict
        ``shown``; ``ranked_below``: it passed everything and others came first; ``dropped`` by a filter;
        ``not_retrieved``: no source returned it.
    position, rank
        Its place on the page, and among all ranked posts by score; 1 is the top.
    summary
        The answer in a sentence or two.
    dropped_by, dropped_because
        The filter (or pre-ranker), and its reason.
    models
        Who predicted, cut and, if by learned vectors, found it: models with their versions, or who stood in.
    actions
        Every head that weighs something, the largest part first; they add up to ``value``.
    approximate
        Whether the predictions were kept in sixteen bits (to 2.4e-4): neither shown nor among the best ranked.
    steps
        From ``offset_value`` to ``score``, in order.
    reranking
        What the re-rankers decided; empty if nothing.
    page_score
        What the page was chosen by.
    not_retrieved
        What each source says, as things stand now; only where none returned the post.
    """

    request_id: str
    post_id: str
    verdict: Verdict
    position: int | None = None
    rank: int | None = None
    summary: str
    sources: tuple[str, ...] = ()
    dropped_by: str | None = None
    dropped_because: str | None = None
    models: tuple[ModelPart, ...] = ()
    actions: tuple[ActionPart, ...] = ()
    approximate: bool = False
    value: float | None = None
    offset_value: float | None = None
    steps: tuple[StepInfo, ...] = ()
    score: float | None = None
    reranking: str = ""
    page_score: float | None = None
    not_retrieved: tuple[SourceReason, ...] = ()
