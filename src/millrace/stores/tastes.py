"""`Tastes`: who likes what a viewer likes, and what else is liked by those who like a post.

Both read the two-way engagement index, from the newest records backwards and with bounds everywhere: the cost of a
read depends on the bounds, never on the size of the world.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.order import top_k
from millrace.stores.decayed_rows import Float64Array
from millrace.stores.engagement_state import EngagementState
from millrace.stores.taste_kernels import TasteArrays, count_engagers, post_degrees, sum_co_engaged, sum_engaged


class LikeMinded(NamedTuple):
    """Users who engaged with some posts, the most similar first; every array has shape (n,).

    Attributes
    ----------
    user_ids
        int64.
    similarity
        float64: posts in common over the root of how many actions of the user are kept; ties by id.
    n_common
        int32: how many of the posts they engaged with.
    """

    user_ids: Int64Array
    similarity: Float64Array
    n_common: Int32Array


class EngagedBy(NamedTuple):
    """Posts that some users engaged with, in no order; every array has shape (n,): int64, float64, int32."""

    post_ids: Int64Array
    weights: Float64Array
    n_users: Int32Array


class CoEngaged(NamedTuple):
    """Posts that engagers of seed posts engaged with, in no order; every array has shape (n,).

    Attributes
    ----------
    post_ids
        int64.
    scores
        float64: summed log-cosine with the seeds.
    best_seed
        int32: the place of the seed with the largest part in it.
    n_common
        int32: users that the post has in common with that seed, of its sample.
    """

    post_ids: Int64Array
    scores: Float64Array
    best_seed: Int32Array
    n_common: Int32Array


class Tastes:
    """Reads the engagement index for what people have in common.

    Parameters
    ----------
    state
        The store's arrays.
    """

    def __init__(self, state: EngagementState) -> None:
        self._state = state

    def like_minded(
        self,
        post_ids: Int64Array,
        *,
        max_per_post: int,
        exclude_user: int,
        max_users: int,
        max_engaged: int,
        damping: float,
    ) -> LikeMinded:
        """Return the users whose engagements are most like these posts.

        Users who engaged with nothing else are left out: they lead nowhere.

        Parameters
        ----------
        post_ids
            Shape (n,), int64: posts that a viewer liked, without repeats.
        max_per_post
            How many of each post's newest engagements are looked at.
        exclude_user
            The viewer; 0 for nobody.
        max_users
            How many at most.
        max_engaged, damping
            Users of whom at least ``max_engaged`` actions are kept engage with nearly everything: their similarity is
            multiplied by ``damping``.
        """
        users, n_common, n_kept = count_engagers(self._arrays, _readable(post_ids), max_per_post, exclude_user)
        similarity = n_common / np.sqrt(np.maximum(n_kept, 1))
        similarity[n_kept >= max_engaged] *= damping
        leads_on = np.flatnonzero(n_kept > n_common)
        rows = leads_on[top_k(similarity[leads_on], users[leads_on], max_users)]
        return LikeMinded(users[rows], similarity[rows], n_common[rows])

    def engaged_by(self, user_ids: Int64Array, weights: Float64Array, max_per_user: int) -> EngagedBy:
        """Return the newest posts that users engaged with, each with the summed weight of its users."""
        return EngagedBy(*sum_engaged(self._arrays, _readable(user_ids), weights, max_per_user))

    def co_engaged(
        self,
        seed_ids: Int64Array,
        *,
        max_sample: int,
        max_edges: int,
        max_per_user: int,
        min_common: int,
        exclude_user: int,
    ) -> CoEngaged:
        """Return the posts that those who engaged with the seeds engaged with, too.

        Log-cosine of a seed q and a post c that share ``common`` of q's sampled engagers, with deg the number of
        engagements: ``deg(q) / ln(1 + deg(q)) / sample * common / ln(1 + deg(c))``; over several seeds the sum. The 1
        keeps small degrees from dividing by 0. Source: the related posts of Twitter's user-tweet graph, 2023. A seed
        that nobody engaged with, or that is not known (any more), adds nothing and takes nothing from the others.

        Parameters
        ----------
        seed_ids
            Shape (n,), int64: posts that a viewer liked, without repeats.
        max_sample
            How many of each seed's newest engagers are looked at.
        max_edges
            Users of whom at least so many actions are kept are left out.
        max_per_user
            How many of each user's newest actions are looked at.
        min_common
            Users that a seed and a post must have in common.
        exclude_user
            The viewer, who has everything in common with the seeds; 0 for nobody.
        """
        arrays, seeds = self._arrays, _readable(seed_ids)
        degrees = self._degrees(arrays, seeds)
        prefactors = np.where(degrees > 0, degrees / np.log1p(np.maximum(degrees, 1)), 0.0)
        posts, sums, best_seed, n_common = sum_co_engaged(
            arrays, seeds, prefactors, max_sample, max_edges, max_per_user, max(min_common, 1), exclude_user
        )
        scores = sums / np.log1p(np.maximum(self._degrees(arrays, posts), 1))
        return CoEngaged(posts, scores, best_seed, n_common)

    def degrees(self, post_ids: Int64Array) -> Int64Array:
        """Return how often each post was engaged with (indexed actions), shape (n,), int64."""
        return self._degrees(self._arrays, _readable(post_ids))

    def _degrees(self, arrays: TasteArrays, post_ids: Int64Array) -> Int64Array:
        counts = self._state.post_counts.arrays_for_kernels
        for_ever = np.flatnonzero(counts.rate_per_ms == 0.0)
        half_life = int(for_ever[0]) if len(for_ever) else -1
        return post_degrees(arrays, post_ids, counts.values, half_life, self._state.settings.is_indexed)

    @property
    def _arrays(self) -> TasteArrays:
        state = self._state
        posts, users = state.posts, state.users.table
        return TasteArrays(
            posts.keys,
            posts.values,
            state.post_columns["stat"],
            users.keys,
            users.values,
            state.engagers.slab,
            state.engaged.slab,
        )


def _readable(ids: Int64Array) -> Int64Array:
    """Return ids as kernels were compiled for them: contiguous, writeable (read-only ones cost a compilation)."""
    plain = np.ascontiguousarray(ids, dtype=np.int64)
    return plain if plain.flags.writeable else plain.copy()
