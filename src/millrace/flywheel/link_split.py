"""Which follows are learned from, which select, which are reported on; and users who are kept out altogether."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from millrace.features.follow_edges import FollowEdges

_MIN_FOLLOWEES: Final = 4


class LinkSplitConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the edges, and of the users who are newcomers."""

    validation_frac: Annotated[float, Meta(ge=0, lt=0.5)] = 0.05
    test_frac: Annotated[float, Meta(ge=0, lt=0.5)] = 0.10
    newcomer_frac: Annotated[float, Meta(ge=0, lt=0.5)] = 0.05
    seed: int = 0


class LinkSplit(NamedTuple):
    """Edges over the same users.

    Attributes
    ----------
    learned, validation, test
        Edges of those who are no newcomers, each in one of them.
    newcomers_known, newcomers_test
        Of each newcomer's follows of others one half that is shown after learning, and the half that is to be found.
        Who follows newcomers is left out, as if they had just come.
    """

    learned: FollowEdges
    validation: FollowEdges
    test: FollowEdges
    newcomers_known: FollowEdges
    newcomers_test: FollowEdges


def split_edges(edges: FollowEdges, config: LinkSplitConfig) -> LinkSplit:
    """Return a seeded split; newcomers are drawn among those who follow at least four."""
    rng = np.random.default_rng(config.seed)
    able = np.flatnonzero(edges.n_following >= _MIN_FOLLOWEES)
    newcomers = rng.permutation(able)[: int(len(able) * config.newcomer_frac)]
    is_newcomer = np.zeros(edges.n_users, dtype=np.bool_)
    is_newcomer[newcomers] = True
    by_newcomer, of_newcomer = is_newcomer[edges.followers], is_newcomer[edges.followees]
    theirs, others = by_newcomer & ~of_newcomer, ~by_newcomer & ~of_newcomer
    order = rng.permutation(np.flatnonzero(others))
    n_test, n_validation = int(len(order) * config.test_frac), int(len(order) * config.validation_frac)
    is_test = np.zeros(edges.n_edges, dtype=np.bool_)
    is_test[order[:n_test]] = True
    is_validation = np.zeros(edges.n_edges, dtype=np.bool_)
    is_validation[order[n_test : n_test + n_validation]] = True
    is_half = rng.random(edges.n_edges) < 0.5
    return LinkSplit(
        learned=edges.only(others & ~is_test & ~is_validation),
        validation=edges.only(is_validation),
        test=edges.only(is_test),
        newcomers_known=edges.only(theirs & is_half),
        newcomers_test=edges.only(theirs & ~is_half),
    )


def joined(first: FollowEdges, second: FollowEdges) -> FollowEdges:
    """Return the edges of two over the same users."""
    return FollowEdges.of_rows(
        first.user_ids,
        np.concatenate([first.followers, second.followers]),
        np.concatenate([first.followees, second.followees]),
    )
