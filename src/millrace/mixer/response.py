"""From a pipeline's result to the page that people get."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from millrace.features.attachments import POSTS, USERS
from millrace.features.columns import (
    AUTHOR_ID,
    IS_IN_NETWORK,
    KIND,
    LANGUAGE,
    N_PROOFS,
    PARENT_AUTHOR_ID,
    PARENT_ID,
    POST_ID,
    PROOF_ACTIONS,
    PROOF_IDS,
    SCORE,
)
from millrace.mixer.feed import (
    DebugInfo,
    FeedParent,
    FeedPost,
    FeedRequest,
    FeedResponse,
    FeedUser,
    OutcomeInfo,
    Why,
)
from millrace.mixer.home_models import MODELS
from millrace.mixer.kinds import KIND_NAMES
from millrace.mixer.reasons import reason
from millrace.mixer.why import WhyReader
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import Column
from millrace.pipeline.result import PipelineResult
from millrace.stores.content import PostContent, UserContent

MAX_ACTIONS: Final = 3
"""So many heads' parts are told with every post of a page; the trace has all of them."""


class ResponseBuilder:
    """Builds responses; everything it needs is in the result.

    Parameters
    ----------
    why
        Explains scores; None where nothing is ranked.
    language_name
        Code to primary language subtag.
    """

    def __init__(self, why: WhyReader | None, language_name: Callable[[int], str]) -> None:
        self._why = why
        self._language_name = language_name

    def build(
        self, request: FeedRequest, result: PipelineResult, *, end_of_feed: bool, cursor: str | None
    ) -> FeedResponse:
        """Return the response to a request."""
        query = result.query
        return FeedResponse(
            request_id=request.request_id,
            generated_at=iso_time(query.now_ms),
            viewer_id=request.viewer_id,
            posts=self._posts(result, has_why=request.why),
            degraded=result.report.is_degraded,
            end_of_feed=end_of_feed,
            cursor=cursor,
            debug_info=debug_info(result) if request.debug else None,
        )

    def _posts(self, result: PipelineResult, *, has_why: bool) -> tuple[FeedPost, ...]:
        slate = result.slate
        content, users = result.attached(POSTS), result.attached(USERS)
        columns = (
            POST_ID,
            AUTHOR_ID,
            KIND,
            LANGUAGE,
            PARENT_ID,
            PARENT_AUTHOR_ID,
            IS_IN_NETWORK,
            N_PROOFS,
            PROOF_IDS,
            PROOF_ACTIONS,
            SCORE,
        )
        rows = zip(*(_values(slate, column) for column in columns), strict=True)
        explained: Sequence[Why | None] = [None] * slate.n
        if self._why is not None and has_why:
            explained = self._why.explain(result.query, slate, max_actions=MAX_ACTIONS)
        posts = []
        for row, sources, why in zip(rows, result.slate_sources(), explained, strict=True):
            (
                post_id,
                author_id,
                kind,
                language,
                parent_id,
                parent_author_id,
                is_mine,
                n_proofs,
                proof_ids,
                did,
                score,
            ) = row
            post = content[post_id]
            author = _user(users, author_id, post.author_id)
            proofs = [
                (found.name or found.user_id, action)
                for user_id, action in zip(proof_ids, did, strict=True)
                if user_id and (found := users.get(user_id)) is not None
            ]
            posts.append(
                FeedPost(
                    post_id=post.post_id,
                    author=author,
                    text=post.text,
                    kind=KIND_NAMES[kind],
                    created_at_ms=post.created_at_ms,
                    language=self._language_name(language),
                    media=post.media,
                    parent_id=post.parent_id,
                    parent=_parent(content.get(parent_id), users, parent_author_id),
                    reason=reason(
                        sources,
                        kind=KIND_NAMES[kind],
                        author=author.name,
                        is_in_network=is_mine,
                        proofs=proofs,
                        n_proofs=n_proofs,
                    ),
                    sources=sources,
                    score=0.0 if self._why is None else score,
                    why=why,
                )
            )
        return tuple(posts)


def debug_info(result: PipelineResult) -> DebugInfo:
    """Return how the page was made."""
    report = result.report
    latency = {stage.replace(" ", "_").replace("-", "_"): ms for stage, ms in report.took_ms_by_stage().items()}
    return DebugInfo(
        candidate_count=report.n_candidates,
        after_filtering=report.n_ranked,
        after_ranking=report.n_slate,
        retrieved={name: len(keys) for name, keys in result.retrieved},
        dropped=result.n_dropped_by_name(),
        latency_breakdown={**latency, "total": report.total_ms},
        outcomes=tuple(
            OutcomeInfo(stage=o.stage, component=o.component, fate=o.fate.value, detail=o.detail)
            for o in report.outcomes
        ),
        state_offset=result.query.state_offset,
        n_refills=report.n_refills,
        models=dict(result.query[MODELS].versions),
    )


def _values(slate: CandidateBatch, column: Column[Any]) -> list[Any]:
    """Return a column's values; its fill where no stage of the pipeline writes it."""
    values: list[Any] = (slate[column] if column in slate else column.full(slate.n, {})).tolist()
    return values


def _user(users: Mapping[int, UserContent], user_id: int, text: str) -> FeedUser:
    found = users.get(user_id)
    return FeedUser(user_id=text, name=found.name if found is not None and found.name else text)


def _parent(parent: PostContent | None, users: Mapping[int, UserContent], parent_author_id: int) -> FeedParent | None:
    if parent is None:
        return None
    return FeedParent(
        post_id=parent.post_id,
        author=_user(users, parent_author_id, parent.author_id),
        text=parent.text,
        created_at_ms=parent.created_at_ms,
        media=parent.media,
    )


def iso_time(now_ms: int) -> str:
    """Return epoch milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(now_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
