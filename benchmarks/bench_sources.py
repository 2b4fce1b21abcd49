"""Milliseconds per source of the home feed, run by hand: 100k users, 1M posts, 2M engagements, no other process.

    python benchmarks/bench_sources.py

A world of communities: users follow, and engage with posts, mostly within their own, popular authors more often. Stores
are filled by their own folds; viewers have had 3,300 posts. Printed: the median and the slowest tenth over active viewers, all in one process, the
processor's caches shared with the other sources, as in a page.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import numpy as np

from harness import note
from millrace.base.actions import Action, ActionSpace
from millrace.base.clock import ManualClock
from millrace.features.query_fields import CLAIMED, SEEN, SERVED
from millrace.mixer.config import HomeConfig
from millrace.mixer.home_pipeline import HomeParts, home_stages
from millrace.pipeline.query import Query
from millrace.stores.claims import MemoryClaims
from millrace.stores.config import StoresConfig
from millrace.stores.engagement_arrays import OP_ANNOTATE, OP_CREATE, OP_ENGAGE
from millrace.stores.engagement_kernels import fold_ops
from millrace.stores.post_store import PostColumns
from millrace.stores.state import State

N_USERS: Final = 100_000
N_POSTS: Final = 1_000_000
N_ENGAGEMENTS: Final = 2_000_000
N_FOLLOWS: Final = 60
N_COMMUNITIES: Final = 200
N_VIEWERS: Final = 200
HOUR_MS: Final = 3_600_000
NOW_MS: Final = 1_800_000_000_000


def a_state(rng: np.random.Generator) -> tuple[State, np.ndarray]:
    """Return the filled state and the viewers to ask for: the most active of some."""
    users = rng.permutation(np.unique(rng.integers(1, 2**62, 2 * N_USERS))[: 2 * N_USERS])[:N_USERS]
    home = rng.integers(0, N_COMMUNITIES, N_USERS)
    members = [np.flatnonzero(home == community) for community in range(N_COMMUNITIES)]
    share = rng.pareto(1.2, N_USERS) + 0.1
    state = State(StoresConfig())

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
    engaged = np.zeros((N_ENGAGEMENTS, 6), dtype=np.int64)
    engaged[:, 0], engaged[:, 1], engaged[:, 2] = OP_ENGAGE, post_ids[row], users[viewer]
    engaged[:, 3] = at_ms
    engaged[:, 4] = rng.choice([Action.LIKE, Action.REPLY, Action.REPOST], N_ENGAGEMENTS, p=[0.8, 0.1, 0.1])
    created = np.zeros((N_POSTS, 6), dtype=np.int64)
    created[:, 0], created[:, 1], created[:, 2], created[:, 3] = OP_CREATE, post_ids, users[author], created_ms
    annotated = created.copy()
    annotated[:, 0], annotated[:, 2], annotated[:, 4] = OP_ANNOTATE, 0, topics[:, 0]
    ops = np.concatenate([created, annotated, engaged[order]])
    kernel_state, done = state.engagements._state, 0
    while (done := fold_ops(kernel_state.kernel, ops, done)) < len(ops):
        kernel_state.make_room(N_COMMUNITIES + 2)
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


def main() -> None:
    rng = np.random.default_rng(11)
    state, viewers = a_state(rng)
    content: Any = None  # no page leaves
    parts = HomeParts(
        state=state, content=content, claims=MemoryClaims(), actions=ActionSpace(), clock=ManualClock(NOW_MS)
    )
    stages = home_stages(parts, HomeConfig())
    took: dict[str, list[float]] = {}
    found: dict[str, list[int]] = {}
    had = {
        field: rng.choice(state.posts.post_ids(np.arange(state.posts.n_posts, dtype=np.int32)), n)
        for field, n in ((SEEN, 1_500), (SERVED, 300), (CLAIMED, 1_500))
    }
    for n_round in range(3):
        note(f"round {n_round + 1}")
        for viewer in viewers.tolist():
            query = Query("r1", viewer, NOW_MS, 35)
            for hydrator in stages.query_hydrators:
                start = time.perf_counter()
                fields: Any = hydrator.hydrate(query)
                keep(took, f"({hydrator.name})", time.perf_counter() - start)
                query = query.with_fields(fields)
            query = query.with_fields(had)
            for source in stages.sources:
                start = time.perf_counter()
                batch: Any = source.retrieve(query)
                keep(took, source.name, time.perf_counter() - start)
                found.setdefault(source.name, []).append(batch.n)
    print(f"{'':22}{'median ms':>10}{'p90 ms':>10}{'posts':>8}")
    total = 0.0
    for name, seconds in took.items():
        warm = np.array(seconds[len(viewers) :]) * 1_000
        total += 0.0 if name.startswith("(") or name == "recent" else float(np.median(warm))
        n = f"{np.median(found[name]):8.0f}" if name in found else ""
        print(f"{name:22}{np.median(warm):10.3f}{np.percentile(warm, 90):10.3f}{n}")
    print(f"{'all but recent':22}{total:10.3f}")


def keep(took: dict[str, list[float]], name: str, seconds: float) -> None:
    took.setdefault(name, []).append(seconds)


if __name__ == "__main__":
    sys.exit(main())
