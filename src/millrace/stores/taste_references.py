"""What `millrace.stores.tastes` must answer, in plain Python over the index's own reads; for tests."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np

from millrace.base.ids import Int64Array
from millrace.stores.engagement_index import EngagementIndex
from millrace.stores.tastes import CoEngaged, EngagedBy, LikeMinded, Tastes


def like_minded_reference(
    index: EngagementIndex,
    post_ids: Int64Array,
    *,
    max_per_post: int,
    exclude_user: int,
    max_users: int,
    max_engaged: int,
    damping: float,
) -> LikeMinded:
    """Return the same as `Tastes.like_minded`."""
    n_common: Counter[int] = Counter()
    for post in post_ids.tolist():
        n_common.update(set(_newest(index.engagers(post).user_ids, max_per_post)) - {exclude_user})
    similarity = {}
    for user, n in n_common.items():
        n_kept = len(index.engaged(user).post_ids)
        if n_kept > n:
            similarity[user] = n / math.sqrt(n_kept) * (damping if n_kept >= max_engaged else 1.0)
    best = sorted(similarity, key=lambda user: (-similarity[user], user))[:max_users]
    return LikeMinded(
        np.array(best, dtype=np.int64),
        np.array([similarity[user] for user in best], dtype=np.float64),
        np.array([n_common[user] for user in best], dtype=np.int32),
    )


def engaged_by_reference(
    index: EngagementIndex, user_ids: Int64Array, weights: list[float], max_per_user: int
) -> EngagedBy:
    """Return the same as `Tastes.engaged_by`, posts by id."""
    sums: dict[int, float] = defaultdict(float)
    n_users: Counter[int] = Counter()
    for user, weight in zip(user_ids.tolist(), weights, strict=True):
        posts = set(_newest(index.engaged(user).post_ids, max_per_user))
        n_users.update(posts)
        for post in posts:
            sums[post] += weight
    ids = sorted(sums)
    return EngagedBy(
        np.array(ids, dtype=np.int64),
        np.array([sums[post] for post in ids], dtype=np.float64),
        np.array([n_users[post] for post in ids], dtype=np.int32),
    )


def co_engaged_reference(
    tastes: Tastes,
    index: EngagementIndex,
    seed_ids: Int64Array,
    *,
    max_sample: int,
    max_edges: int,
    max_per_user: int,
    min_common: int,
    exclude_user: int,
) -> CoEngaged:
    """Return the same as `Tastes.co_engaged`, posts by id."""
    parts: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for number, seed in enumerate(seed_ids.tolist()):
        engagers = dict.fromkeys(reversed(index.engagers(seed).user_ids.tolist()))
        sample = [user for user in engagers if user != exclude_user and len(index.engaged(user).post_ids) < max_edges]
        sample = sample[:max_sample]
        n_common: Counter[int] = Counter()
        for user in sample:
            n_common.update(set(_newest(index.engaged(user).post_ids, max_per_user)) - {seed})
        for post, n in n_common.items():
            if n >= min_common:
                degree = _degree(tastes, seed)
                score = degree / math.log1p(degree) / len(sample) * n / math.log1p(_degree(tastes, post))
                parts[post].append((score, -number, n))
    ids = sorted(parts)
    best = [max(parts[post]) for post in ids]
    return CoEngaged(
        np.array(ids, dtype=np.int64),
        np.array([sum(score for score, _, _ in parts[post]) for post in ids], dtype=np.float64),
        np.array([-number for _, number, _ in best], dtype=np.int32),
        np.array([n for _, _, n in best], dtype=np.int32),
    )


def _newest(ids: Int64Array, n: int) -> list[int]:
    return ids[max(len(ids) - n, 0) :].tolist()  # type: ignore[no-any-return]


def _degree(tastes: Tastes, post_id: int) -> int:
    return int(tastes.degrees(np.array([post_id]))[0])
