"""What the feed service takes and gives: `FeedRequest` and `FeedResponse`, ready for JSON."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from millrace.base.params import ParamSet
from millrace.events.content_events import Media
from millrace.events.envelope import Context
from millrace.registry.pointer import DEFAULT_LANE


class FeedRequest(Struct, frozen=True, kw_only=True):
    """Who wants a page, and how.

    Attributes
    ----------
    viewer_id
        Outside id of the reader.
    request_id
        The server's own id of this request; seeds its randomness and owns its claims.
    limit
        Posts wanted; None for the configured page size.
    params
        Values that this request has instead of the service's; None for no others.
    debug
        Whether the response carries ``debug_info``.
    why
        Whether its posts carry how their scores came about.
    is_dry_run
        Whether the page is only looked at: nothing is claimed, logged or kept, and no post counts as sent.
    context
        Where and how the request was made, as far as the client says.
    cursor
        Of the page wanted, as an earlier page gave it; None for the first page.
    lane
        Which models it is made with: a lane of the registry.
    correlation_id
        The client's own id of the request (``X-Request-ID``): the same one gives the same first page for a while.
    """

    viewer_id: str
    request_id: str
    limit: int | None = None
    cursor: str | None = None
    correlation_id: str = ""
    params: ParamSet | None = None
    debug: bool = False
    why: bool = True
    is_dry_run: bool = False
    context: Context = Context()
    lane: str = DEFAULT_LANE


class FeedUser(Struct, frozen=True, kw_only=True, gc=False):
    """A user as a page names them; ``name`` is the id where there is no name."""

    user_id: str
    name: str


class FeedParent(Struct, frozen=True, kw_only=True):
    """The post that a post replies to, reposts or quotes."""

    post_id: str
    author: FeedUser
    text: str
    created_at_ms: int
    media: tuple[Media, ...] = ()


class WhyAction(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One head's part in the value: ``probability`` x ``weight``. ``dwell_time`` is in seconds, not a probability.

    Attributes
    ----------
    calibration_shift, fast_shift
        What near-line calibration and the fast layer added to the log-odds of the learned ranker's own prediction;
        both are in ``probability``, and left out where they are 0.
    """

    probability: float
    weight: float
    contribution: float
    calibration_shift: float = 0.0
    fast_shift: float = 0.0


class WhyStep(Struct, frozen=True, kw_only=True, gc=False):
    """One step from the offset value to the score.

    Attributes
    ----------
    name
        The stage.
    kind
        What is done with ``amount``.
    score_after
        The score that this step leaves.
    """

    name: str
    kind: Literal["multiply", "add"]
    amount: float
    score_after: float


class Why(Struct, frozen=True, kw_only=True, gc=False):
    """How a post's score came about.

    ``value`` is the sum of the contributions; ``offset_value`` taken through all steps in their order is ``score``.

    Attributes
    ----------
    actions
        The heads that weigh something; on a page the few that contribute most, the largest first.
    other_actions
        The summed contributions of the heads that are left out there.
    """

    actions: dict[str, WhyAction]
    other_actions: float = 0.0
    value: float
    offset_value: float
    steps: tuple[WhyStep, ...]
    score: float


class FeedPost(Struct, frozen=True, kw_only=True):
    """One post of a page.

    Attributes
    ----------
    kind
        original, reply, repost or quote.
    language
        Primary language subtag; empty where unknown.
    reason
        Why it is here, for people.
    sources
        Every source that found it.
    score, why
        What it was ranked by (0 where nothing is ranked), and how that came about, in short; None where nothing is
        ranked or it was not asked for. The whole is answered for the request's id: `millrace.mixer.explain`.
    """

    post_id: str
    author: FeedUser
    text: str
    kind: str
    created_at_ms: int
    language: str
    media: tuple[Media, ...]
    parent_id: str | None
    parent: FeedParent | None
    reason: str
    sources: tuple[str, ...]
    score: float
    why: Why | None = None


class OutcomeInfo(Struct, frozen=True, kw_only=True):
    """A component that failed, was late or was left out."""

    stage: str
    component: str
    fate: str
    detail: str


class DebugInfo(Struct, frozen=True, kw_only=True):
    """How a page was made.

    Attributes
    ----------
    candidate_count
        Posts after merging the sources.
    after_filtering, after_ranking
        Posts that passed the filters, and posts on the page.
    retrieved, dropped
        Posts per source, and per filter that dropped any.
    latency_breakdown
        Milliseconds per stage kind, and their ``total``.
    outcomes
        Components that did not do what they should.
    state_offset
        The log position that all stores were read at.
    n_refills
        How often the page was chosen again.
    models
        The learned models that it was made with: kind to version.
    """

    candidate_count: int
    after_filtering: int
    after_ranking: int
    retrieved: dict[str, int]
    dropped: dict[str, int]
    latency_breakdown: dict[str, float]
    outcomes: tuple[OutcomeInfo, ...]
    state_offset: tuple[int, ...]
    n_refills: int
    models: dict[str, str] = {}


class FeedResponse(Struct, frozen=True, kw_only=True):
    """A page.

    Attributes
    ----------
    generated_at
        The request's event time, ISO 8601 in UTC.
    degraded
        Whether a component failed, was late or was left out.
    end_of_feed
        Whether there is no further page: all there is has been looked at. A short page alone does not say so.
    cursor
        Where the next page begins; None at the end of the feed.
    debug_info
        Only where it was asked for. Nothing else in a response depends on how long anything took.
    """

    request_id: str
    generated_at: str
    viewer_id: str
    posts: tuple[FeedPost, ...]
    degraded: bool
    end_of_feed: bool
    cursor: str | None = None
    debug_info: DebugInfo | None = None
