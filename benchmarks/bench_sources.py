"""`millrace bench sources`: CPU milliseconds per source of the home feed; 100k users, 1M posts, 2M engagements.

A world of communities: users follow, and engage with posts, mostly within their own, popular authors more often. Stores
are filled by their own folds; the viewers are active ones and have had 3,300 posts. Each viewer's query is hydrated and
every source asked in its order, as a page does, so that they share the processor's caches.

``plain_python`` is the same three walks over the graphs (friends of friends, viewers with a like taste, co-engagement)
by dictionaries over the stores' own reads; their answers must be equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from harness import emit, median_ms, note, percentile_ms, without_options
from millrace.base.actions import Action, ActionSpace
from millrace.base.clock import ManualClock
from millrace.features.query_fields import CLAIMED, FOLLOWING, LIKED_POSTS, SEEN, SERVED
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed_state import FeedState
from millrace.mixer.home_pipeline import HomeParts, home_stages
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.query import Query
from millrace.stores.claims import MemoryClaims
from millrace.stores.config import StoresConfig
from millrace.stores.engagement_arrays import N_OP_FIELDS, OP_ANNOTATE, OP_CREATE, OP_ENGAGE
from millrace.stores.follow_walks import friends_of_friends, friends_of_friends_reference
from millrace.stores.post_store import PostColumns
from millrace.stores.taste_references import co_engaged_reference, like_minded_reference

N_USERS: Final = 100_000
N_POSTS: Final = 1_000_000
N_ENGAGEMENTS: Final = 2_000_000
N_FOLLOWS: Final = 60
N_COMMUNITIES: Final = 200
N_VIEWERS: Final = 200
HOUR_MS: Final = 3_600_000
NOW_MS: Final = 1_800_000_000_000


def a_state(rng: np.random.Generator) -> tuple[FeedState, np.ndarray]:
    """Return the filled state and the viewers to ask for: the most active of some."""
    users = rng.permutation(np.unique(rng.integers(1, 2**62, 2 * N_USERS))[: 2 * N_USERS])[:N_USERS]
    home = rng.integers(0, N_COMMUNITIES, N_USERS)
    members = [np.flatnonzero(home == community) for community in range(N_COMMUNITIES)]
    share = rng.pareto(1.2, N_USERS) + 0.1
    state = FeedState(StoresConfig())

    note("posts")
    author = rng.choice(N_USERS, N_POSTS, p=share / share.sum())
    post_ids = rng.permutation(np.unique(rng.integers(1, 2**62, N_POSTS + 10_000)))[:N_POSTS]
    created_ms = np.sort(NOW_MS - rng.integers(1, 48 * HOUR_MS, N_POSTS))
    topics = np.zeros((N_POSTS, 3), dtype=np.int32)
    topics[:, 0] = home[author] + 1
    none = np.zeros(N_POSTS, dtype=np.int64)
    state.posts.ingest(
        PostColumns(
            post_id=post_ids,
            author_id=users[author],
            created_ms=created_ms,
            kind=np.zeros(N_POSTS, dtype=np.int8),
            parent_id=none,
            parent_author_id=none,
            conversation_id=none,
            has_video=none.astype(bool),
            duration_ms=none.astype(np.int32),
            is_sensitive=none.astype(bool),
            language=np.ones(N_POSTS, dtype=np.int32),
            topics=topics,
        )
    )

    note("follows")
    follower = np.repeat(np.arange(N_USERS), N_FOLLOWS)
    followee = near(rng, home[follower], members, share)
    state.follow_graph.ingest(users[follower], users[followee])

    note("engagements")
    viewer = rng.choice(N_USERS, N_ENGAGEMENTS, p=share / share.sum())
    row = posts_near(rng, home[viewer], home[author])
    at_ms = created_ms[row] + (rng.random(N_ENGAGEMENTS) ** 3 * (NOW_MS - created_ms[row])).astype(np.int64)
    order = np.argsort(at_ms)
    engaged = np.zeros((N_ENGAGEMENTS, N_OP_FIELDS), dtype=np.int64)
    engaged[:, 0], engaged[:, 1], engaged[:, 2] = OP_ENGAGE, post_ids[row], users[viewer]
    engaged[:, 3] = at_ms
    engaged[:, 4] = rng.choice([Action.LIKE, Action.REPLY, Action.REPOST], N_ENGAGEMENTS, p=[0.8, 0.1, 0.1])
    created = np.zeros((N_POSTS, N_OP_FIELDS), dtype=np.int64)
    created[:, 0], created[:, 1], created[:, 2], created[:, 3] = OP_CREATE, post_ids, users[author], created_ms
    annotated = created.copy()
    annotated[:, 0], annotated[:, 2], annotated[:, 4] = OP_ANNOTATE, 0, topics[:, 0]
    ops = np.concatenate([created, annotated, engaged[order]])
    state.engagements.apply_operations(ops)
    active = np.argsort(-np.bincount(viewer, minlength=N_USERS))[: 20 * N_VIEWERS]
    return state, users[rng.choice(active, N_VIEWERS, replace=False)]


def near(rng: np.random.Generator, community: np.ndarray, members: list[np.ndarray], share: np.ndarray) -> np.ndarray:
    """Return a user for each row: four fifths of the row's own community, the better known more often."""
    out = rng.choice(len(share), len(community), p=share / share.sum())
    is_near = rng.random(len(community)) < 0.8
    for number, users in enumerate(members):
        rows = np.flatnonzero(is_near & (community == number))
        out[rows] = rng.choice(users, len(rows), p=share[users] / share[users].sum())
    return out


def posts_near(rng: np.random.Generator, community: np.ndarray, home_of_post: np.ndarray) -> np.ndarray:
    """Return a post for each row, nine tenths of the row's own community, few posts getting most."""
    appeal = rng.pareto(1.0, len(home_of_post)) + 0.05
    order = np.argsort(home_of_post, kind="stable")
    ends = np.cumsum(appeal[order])
    starts = np.searchsorted(home_of_post[order], np.arange(N_COMMUNITIES + 1))
    edges = np.concatenate([[0.0], ends])[starts]
    low, high = edges[community], edges[community + 1]
    is_far = rng.random(len(community)) < 0.1
    low[is_far], high[is_far] = 0.0, ends[-1]
    return order[np.minimum(np.searchsorted(ends, low + rng.random(len(low)) * (high - low)), len(ends) - 1)]


def hydrated(stages: Stages, viewer: int, had: dict[Any, Any]) -> Query:
    query = Query("r1", viewer, NOW_MS, 35)
    for hydrator in stages.query_hydrators:
        fields: Any = hydrator.hydrate(query)
        query = query.with_fields(fields)
    return query.with_fields(had)


def walks(state: FeedState, query: Query) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return ours and plain Python's walk over each graph, both with the sources' default bounds."""
    engagements, me = state.engagements, query.viewer_id
    tastes, index, liked = engagements.tastes, engagements.index, query[LIKED_POSTS]
    friends = {"max_per_seed": 100, "left_out": query[FOLLOWING], "min_seeds": 1, "max_users": 100}
    similar = {"max_per_post": 64, "exclude_user": me, "max_users": 50, "max_engaged": 100, "damping": 0.5}
    co = {"max_sample": 64, "max_edges": 100, "max_per_user": 32, "min_common": 2, "exclude_user": me}
    graph, seeds = state.follow_graph, query[FOLLOWING][:100]
    return {
        "friends": (
            lambda: friends_of_friends(graph, seeds, **friends),
            lambda: friends_of_friends_reference(graph, seeds, **friends),
        ),
        "similar": (
            lambda: tastes.like_minded(liked[:32], **similar),
            lambda: like_minded_reference(index, liked[:32], **similar),
        ),
        "co": (
            lambda: tastes.co_engaged(liked[:16], **co),
            lambda: co_engaged_reference(tastes, index, liked[:16], **co),
        ),
    }


def is_equal(ours: Any, theirs: Any) -> bool:
    """Whether two answers name the same things with the same numbers, in whatever order."""
    left, right = (np.array([*answer[:2]], dtype=object).T for answer in (ours, theirs))
    by_id = [part[np.argsort(part[:, 0].astype(np.int64))] for part in (left, right)]
    return len(left) == len(right) and np.allclose(by_id[0].astype(float), by_id[1].astype(float))


def main() -> None:
    rng = np.random.default_rng(11)
    state, viewers = a_state(rng)
    content: Any = None  # no page leaves
    parts = HomeParts(
        state=state, content=content, claims=MemoryClaims(), actions=ActionSpace(), clock=ManualClock(NOW_MS)
    )
    stages = home_stages(parts, HomeConfig())
    had = {
        field: rng.choice(state.posts.post_ids(np.arange(state.posts.n_posts, dtype=np.int32)), n)
        for field, n in ((SEEN, 1_500), (SERVED, 300), (CLAIMED, 1_500))
    }
    took: dict[str, list[float]] = {}
    found: dict[str, list[int]] = {}
    for n_round in range(3):
        note(f"sources: round {n_round + 1}")
        for viewer in viewers.tolist():
            query = hydrated(stages, viewer, had)
            for source in stages.sources:
                start = time.thread_time()
                batch: Any = source.retrieve(query)
                if n_round:  # the first one compiles
                    took.setdefault(source.name, []).append(time.thread_time() - start)
                    found.setdefault(source.name, []).append(batch.n)
    note("sources: plain Python")
    equal, seconds = True, {"ours": 0.0, "plain_python": 0.0}
    for viewer in viewers[:20].tolist():
        for ours, theirs in walks(state, hydrated(stages, viewer, had)).values():
            times = [time.thread_time()]
            answers = []
            for walk in (ours, theirs):
                answers.append(walk())
                times.append(time.thread_time())
            equal = equal and is_equal(*answers)
            seconds["ours"] += times[1] - times[0]
            seconds["plain_python"] += times[2] - times[1]
    ordinary = [source.name for source in stages.sources if source.only_below is None]
    per_page = np.sum([took[name] for name in ordinary], axis=0).tolist()
    emit(
        "sources",
        equal=equal,
        ratio={"plain_python": seconds["plain_python"] / seconds["ours"]},
        ours_ms=median_ms(per_page),
        ours_p90_ms=percentile_ms(per_page, 90),
        source_ms={name: median_ms(values) for name, values in took.items()},
        n_found={name: float(np.median(values)) for name, values in found.items()},
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
