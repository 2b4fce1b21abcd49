"""Borrowed slates: whose they are, what is known of their rows, and what they weigh."""

import numpy as np
import torch

from millrace.base.actions import NEGATIVE, Action
from millrace.flywheel.ranker_batches import RankerBatch, ranker_batch
from millrace.flywheel.ranker_loss import borrowed
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig
from millrace.testing.sample_builders import planted_samples

N_ACTIONS = len(Action)
MASKED = sorted([*(NEGATIVE - {Action.NOT_DWELLED}), Action.DWELL_TIME])


def a_batch(viewers: list[int], posts: list[list[int]], history: list[list[int]] | None = None) -> RankerBatch:
    """Return what of a batch lending looks at; post 0 is padding."""
    post_ids = torch.tensor(posts)
    fields = dict.fromkeys(RankerBatch._fields, torch.empty(0))
    return RankerBatch(
        **fields
        | {
            "viewers": torch.tensor(viewers),
            "post_ids": post_ids,
            "weights": (post_ids > 0).float(),
            "labels": torch.ones(*post_ids.shape, N_ACTIONS),
            "history_ids": torch.tensor(history or [[0]] * len(viewers)),
        }
    )


def liked_weights(batch: RankerBatch, weight: float = 1.0) -> list[list[float]]:
    weights: list[list[float]] = borrowed(batch, weight)[2][..., Action.LIKE].tolist()
    return weights


def test_nobody_acted_on_a_borrowed_row_and_it_was_not_dwelled_on() -> None:
    _, labels, _ = borrowed(a_batch([1, 2], [[11, 12], [21, 22]]), 1.0)
    expected = torch.zeros(2, 2, N_ACTIONS)
    expected[..., Action.NOT_DWELLED] = 1.0
    assert torch.equal(labels, expected)


def test_what_it_would_have_been_disliked_for_and_how_long_it_was_looked_at_weigh_nothing() -> None:
    _, _, weights = borrowed(a_batch([1, 2], [[11], [21]]), 0.5)
    expected = torch.full((2, 1, N_ACTIONS), 0.5)
    expected[..., MASKED] = 0.0
    assert torch.equal(weights, expected)
    assert weights[0, 0, Action.NOT_DWELLED] == 0.5


def test_a_slate_borrows_from_the_nearest_before_it_that_is_another_viewers() -> None:
    donors, _, _ = borrowed(a_batch([1, 1, 2, 1], [[11], [12], [21], [13]]), 1.0)
    assert donors.tolist() == [2, 2, 1, 2]


def test_where_all_slates_are_one_viewers_nothing_is_borrowed() -> None:
    assert liked_weights(a_batch([1, 1, 1], [[11], [12], [13]])) == [[0.0], [0.0], [0.0]]


def test_a_post_counts_once_however_many_borrow_it() -> None:
    # Viewers 1 and 3 both borrow 21, of viewers 4 and 2.
    batch = a_batch([1, 2, 3, 4], [[11, 12], [21, 22], [31, 0], [21, 0]])
    assert liked_weights(batch, 0.5) == [[0.25, 0.0], [0.5, 0.5], [0.25, 0.5], [0.5, 0.0]]


def test_posts_of_the_viewers_own_page_or_history_are_no_borrowed_negatives() -> None:
    batch = a_batch([1, 2], [[11, 12, 13], [11, 22, 23]], [[0, 22], [0, 0]])
    assert liked_weights(batch) == [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]


def test_padding_is_not_lent() -> None:
    assert liked_weights(a_batch([1, 2], [[11, 0], [21, 22]])) == [[1.0, 1.0], [1.0, 0.0]]


def test_a_batch_knows_its_viewers_and_posts() -> None:
    samples = planted_samples(6)
    trunk = TrunkConfig(d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8))
    config = RankerConfig(
        trunk=trunk,
        actions=samples.meta.actions,
        n_dense=samples.dense.shape[1],
        n_profile_dense=samples.profile_dense.shape[1],
    )
    slates = np.array([4, 1])
    batch = ranker_batch(samples, slates, config)
    assert batch.viewers.tolist() == samples.viewers[slates].tolist()
    assert batch.post_ids[batch.weights > 0].tolist() == samples.post_ids[samples.rows_of(slates)].tolist()
    newest = [samples.history_posts[samples.history_starts[slate + 1] - 1] for slate in slates]
    assert batch.history_ids[:, -1].tolist() == newest
