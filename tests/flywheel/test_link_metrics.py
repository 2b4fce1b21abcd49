"""Held-out follows: the split, places among everybody, and baselines, on graphs small enough to count."""

import numpy as np
import pytest

from millrace.features.follow_edges import FollowEdges
from millrace.flywheel.link_baselines import LinkBaseline, baseline_scores
from millrace.flywheel.link_metrics import link_metrics
from millrace.flywheel.link_split import LinkSplitConfig, joined, split_edges

USERS = np.arange(6)


def edges(*pairs: tuple[int, int]) -> FollowEdges:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return FollowEdges.of_rows(USERS, array[:, 0], array[:, 1])


def test_places_are_among_those_who_are_not_followed_and_equals_share_one() -> None:
    scores = np.array([[9.0, 9.0, 3.0, 2.0, 2.0, 5.0]])
    found = link_metrics(lambda users: scores[: len(users)], edges((0, 1)), edges((0, 2), (0, 3)), max_users=10, seed=0)
    # Others of user 0: not 0, not 1 (known), not each other: 4 and 5 with scores 2 and 5.
    assert (found.n_edges, found.n_users) == (2, 1)
    assert found.auc == pytest.approx((0.5 + 0.25) / 2)
    assert found.mrr == pytest.approx((1 / 2 + 1 / 2.5) / 2)
    assert found.recall == {"@10": 1.0, "@100": 1.0}


def test_without_held_out_follows_there_is_nothing_to_tell() -> None:
    found = link_metrics(lambda users: np.zeros((len(users), 6)), edges((0, 1)), edges(), max_users=10, seed=0)
    assert (found.n_edges, found.auc, found.mrr) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("baseline", "wanted"),
    [
        (LinkBaseline.DEGREE, [1, 1, 1, 2, 0, 0]),
        # 0 follows 1 and 2, who both follow 3.
        (LinkBaseline.FRIENDS_OF_FRIENDS, [0, 0, 0, 2, 0, 0]),
        # Neighbours of 0 are 1, 2 and 4 (who follows 0).
        (LinkBaseline.COMMON_NEIGHBOURS, [3, 0, 0, 2, 0, 0]),
        (LinkBaseline.ADAMIC_ADAR, [3 / np.log(2), 0, 0, 2 / np.log(2), 0, 0]),
    ],
)
def test_baselines_count_what_they_say(baseline: LinkBaseline, wanted: list[float]) -> None:
    graph = edges((0, 1), (0, 2), (1, 3), (2, 3), (4, 0))
    assert baseline_scores(graph, baseline)(np.array([0]))[0] == pytest.approx(wanted)


def test_a_split_gives_every_follow_of_old_users_to_one_part_and_hides_newcomers() -> None:
    rng = np.random.default_rng(0)
    graph = FollowEdges.of(rng.integers(0, 200, size=4_000), rng.integers(0, 200, size=4_000))
    config = LinkSplitConfig(newcomer_frac=0.1, seed=3)
    split = split_edges(graph, config)
    newcomers = np.unique(np.concatenate([split.newcomers_known.followers, split.newcomers_test.followers]))
    assert len(newcomers) == 20
    old = joined(joined(split.learned, split.validation), split.test)
    assert old.n_edges == split.learned.n_edges + split.validation.n_edges + split.test.n_edges
    is_old = ~np.isin(graph.followers, newcomers) & ~np.isin(graph.followees, newcomers)
    assert old.n_edges == is_old.sum()
    assert abs(split.test.n_edges - 0.1 * old.n_edges) <= 1
    assert abs(split.validation.n_edges - 0.05 * old.n_edges) <= 1
    again = split_edges(graph, config)
    assert all(a.followees.tolist() == b.followees.tolist() for a, b in zip(split, again, strict=True))
