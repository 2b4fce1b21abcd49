"""Popularity, item-kNN and ALS on likings small enough to reckon, and on planted tastes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from millrace.base.errors import SourceDataError
from millrace.flywheel.baselines.als import Als, AlsConfig
from millrace.flywheel.baselines.contract import Scorer
from millrace.flywheel.baselines.interactions import Interactions
from millrace.flywheel.baselines.item_knn import ItemKnn
from millrace.flywheel.baselines.popularity import Popularity
from millrace.flywheel.baselines.recall import ranks_of, recall, wanted_posts
from millrace.pipeline.ragged import Ragged
from millrace.testing.sample_builders import planted_samples

SCORERS: dict[str, Callable[[Interactions], Scorer]] = {
    "popularity": Popularity,
    "item_knn": ItemKnn,
    "als": lambda likings: Als(likings, AlsConfig(n_factors=8, n_iterations=5)),
}
# Viewers 0 and 1 like posts 10 and 20, viewer 2 likes 20 and 30.
LIKINGS = Interactions(np.array([10, 20, 30]), np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 1, 2]), 3)


def histories(*rows: list[int]) -> Ragged:
    return Ragged.from_rows(rows, np.dtype(np.int64))


def test_popularity_counts_who_liked_a_post() -> None:
    scores = Popularity(LIKINGS).scores(histories([], [10]), np.array([30, 20, 99]))
    assert scores.tolist() == [pytest.approx([math.log(2), math.log(4), 0.0])] * 2


def test_item_knn_sums_the_similarities_to_what_was_liked() -> None:
    knn = ItemKnn(LIKINGS, shrinkage=0.0)
    posts = np.array([10, 20, 30, 99])
    both, one = 2 / math.sqrt(2 * 3), 1 / math.sqrt(3 * 1)
    scores = knn.scores(histories([20], [10, 30], [99], []), posts)
    assert scores[0] == pytest.approx([both, 0.0, one, 0.0])
    assert scores[1] == pytest.approx([0.0, both + one, 0.0, 0.0])
    assert not scores[2:].any()


def test_item_knn_keeps_the_nearest_and_draws_rare_ones_towards_nothing() -> None:
    nearest = ItemKnn(LIKINGS, n_neighbours=1, shrinkage=0.0)
    # Of 20 only the likeness to 10 is kept: 30 gives it nothing any more.
    assert nearest.scores(histories([30]), np.array([20]))[0, 0] == 0.0
    assert nearest.scores(histories([20]), np.array([30]))[0, 0] == pytest.approx(1 / math.sqrt(3))
    shrunk = ItemKnn(LIKINGS, shrinkage=1.0).scores(histories([20]), np.array([30]))
    assert shrunk[0, 0] == pytest.approx(1 / (math.sqrt(3) + 1))


def test_als_finds_two_camps_and_is_the_same_each_time() -> None:
    # Ten viewers a camp; each likes three of its camp's four posts.
    viewers = np.repeat(np.arange(20), 3)
    columns = np.concatenate([(np.arange(3) + i) % 4 + (0 if i < 10 else 4) for i in range(20)])
    likings = Interactions(np.arange(100, 108), viewers, columns, 20)
    config = AlsConfig(n_factors=2, n_iterations=10)
    first, again = Als(likings, config), Als(likings, config)
    posts = np.arange(100, 109)
    scores = first.scores(histories([100, 101], [104], []), posts)
    assert scores[0, 2:4].min() > scores[0, 4:8].max() + 0.1
    assert scores[1, 5:8].min() > scores[1, :4].max() + 0.1
    assert not scores[2].any()
    assert not scores[:, 8].any()
    np.testing.assert_array_equal(scores, again.scores(histories([100, 101], [104], []), posts))


@pytest.mark.parametrize("name", SCORERS)
def test_of_nothing_nothing_is_known(name: str) -> None:
    nothing = Interactions.of(planted_samples(2), np.empty(0, dtype=np.int64))
    scorer = SCORERS[name](nothing)
    assert not scorer.scores(histories([1], []), np.array([1, 2])).any()
    assert SCORERS[name](LIKINGS).scores(histories(), np.array([10])).shape == (0, 1)
    assert SCORERS[name](LIKINGS).scores(histories([10]), np.empty(0, dtype=np.int64)).shape == (1, 0)


def test_ranks_count_who_is_ahead_ties_by_id_without_what_was_liked() -> None:
    corpus = np.array([30, 20, 10, 5, 99])  # likings: 1, 3, 2, 0, 0
    ranks = ranks_of(Popularity(LIKINGS), histories([], [20], [20, 10], []), np.array([30, 30, 30, 99]), corpus)
    assert ranks.tolist() == [3, 2, 1, 5]
    with pytest.raises(SourceDataError, match="lacks a wanted post"):
        ranks_of(Popularity(LIKINGS), histories([]), np.array([7]), corpus)
    assert len(ranks_of(Popularity(LIKINGS), histories(), np.empty(0, dtype=np.int64), corpus)) == 0


def test_what_is_wanted_is_what_was_liked_on_the_page_after_the_history() -> None:
    samples = planted_samples(20)
    before, posts = wanted_posts(samples, np.array([4]))
    liked = samples.labels[samples.starts[4] : samples.starts[5], 0] > 0
    assert posts.tolist() == samples.post_ids[samples.starts[4] : samples.starts[5]][liked].tolist()
    assert all(before.row(i).tolist() == samples.history_posts[4 * 8 : 5 * 8].tolist() for i in range(len(before)))


def test_planted_tastes_are_retrieved_by_collaboration_and_not_by_popularity() -> None:
    samples = planted_samples(300)
    learned, newest = np.arange(250), np.arange(250, 300)
    likings = Interactions.of(samples, learned)
    found = {
        name: recall(make(likings), samples, newest, samples.text_posts, cutoffs=(10,))["recall@10"]
        for name, make in SCORERS.items()
    }
    assert found["item_knn"] > found["popularity"] + 0.3
    assert found["als"] > found["popularity"] + 0.3
