from __future__ import annotations

from dataclasses import replace

import numpy as np

from millrace.base.actions import Action
from millrace.flywheel.baselines.interactions import LIKINGS, Interactions, liked_histories
from millrace.pipeline.ragged import Ragged
from millrace.testing.sample_builders import planted_samples


def test_dwelling_and_dislikes_are_no_likings() -> None:
    assert {Action.LIKE, Action.REPLY, Action.FOLLOW_AUTHOR} <= set(LIKINGS)
    assert not {Action.DWELL, Action.DWELL_TIME, Action.NOT_DWELLED, Action.REPORT} & set(LIKINGS)


def test_a_history_holds_only_what_was_liked() -> None:
    samples = planted_samples(3, n_history=4)
    actions = samples.history_actions.copy()
    actions[5] = 1 << Action.NOT_INTERESTED
    found = liked_histories(replace(samples, history_actions=actions), np.array([2, 1]))
    assert found.row(0).tolist() == samples.history_posts[8:12].tolist()
    assert found.row(1).tolist() == samples.history_posts[[4, 6, 7]].tolist()


def test_pairs_are_those_of_histories_and_pages_each_once() -> None:
    samples = planted_samples(30)
    viewers = np.arange(30) % 3
    samples = replace(samples, viewers=viewers)
    slates = np.arange(0, 30, 2)
    expected = set()
    for slate in slates.tolist():
        liked = samples.labels[samples.starts[slate] : samples.starts[slate + 1], Action.LIKE] > 0
        posts = samples.post_ids[samples.starts[slate] : samples.starts[slate + 1]][liked]
        history = samples.history_posts[samples.history_starts[slate] : samples.history_starts[slate + 1]]
        expected |= {(int(viewers[slate]), int(post)) for post in [*posts, *history]}
    found = Interactions.of(samples, slates)
    assert found.n_viewers == 3
    pairs = list(zip(found.viewers.tolist(), found.posts[found.columns].tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert found.matrix().sum() == len(pairs)


def test_without_slates_there_is_nothing_and_nothing_is_known() -> None:
    none = Interactions.of(planted_samples(3), np.empty(0, dtype=np.int64))
    assert len(none.posts) == none.n_viewers == 0
    assert none.columns_of(np.array([5, 6])).tolist() == [-1, -1]


def test_a_post_that_nobody_liked_is_no_column() -> None:
    likings = Interactions(np.array([10, 20]), np.array([0, 0]), np.array([0, 1]), 1)
    rows = likings.rows_of(Ragged.from_rows([[20, 15, 20], []], np.dtype(np.int64)))
    assert rows.toarray().tolist() == [[0.0, 1.0], [0.0, 0.0]]
