"""Recall of held-out positives: places by hand, what may take none, popularity as it was."""

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.flywheel.catalogue import catalogue_of
from millrace.flywheel.recall import held_out_ranks, popularity_scores, recall_of, shown_before
from millrace.flywheel.sample_set import SampleSet
from millrace.testing.sample_builders import planted_samples

FOR_EVER = 10**15


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(40)


def likes(samples: SampleSet) -> np.ndarray:
    return np.asarray(samples.labels[:, Action.LIKE] > 0)


def test_places_are_counted_among_what_the_viewer_may_be_shown(samples: SampleSet) -> None:
    catalogue = catalogue_of(samples)
    n = len(catalogue)
    slates = np.arange(20, 40)
    fixed = np.linspace(0.0, 1.0, n)
    rows, places, n_live = held_out_ranks(
        lambda some: np.tile(fixed, (len(some), 1)), samples, catalogue, likes(samples), slates, FOR_EVER
    )
    assert len(rows)
    for row, place, live in zip(rows.tolist(), places.tolist(), n_live.tolist(), strict=True):
        slate = int(samples.slate_of[row])
        known = samples.history_posts[samples.history_starts[slate] : samples.history_starts[slate + 1]]
        may = (catalogue.created_ms <= samples.now_ms[slate]) & ~np.isin(catalogue.posts.post_ids, known)
        own = fixed[catalogue.find(samples.post_ids[[row]])[0]]
        assert live == may.sum()
        assert place == (fixed[may] >= own).sum()


def test_ties_count_against_a_retriever(samples: SampleSet) -> None:
    catalogue = catalogue_of(samples)
    _, places, n_live = held_out_ranks(
        lambda some: np.zeros((len(some), len(catalogue))), samples, catalogue, likes(samples), np.arange(40), FOR_EVER
    )
    assert (places == n_live).all()


def test_recall_of_all_and_of_the_cold() -> None:
    places, n_live = np.array([1, 100, 101, 700]), np.array([900, 900, 900, 900])
    found = recall_of(places, n_live, np.array([0, 50, 9, 10]))
    assert found.at == {100: 0.5, 500: 0.75}
    assert (found.n, found.n_cold, found.n_live) == (4, 2, 900.0)
    assert found.cold_at == {100: 0.5, 500: 1.0}
    none = np.empty(0, dtype=np.int64)
    assert recall_of(none, none, none).at == {100: 0.0, 500: 0.0}


def test_only_earlier_looks_count_as_shown_before(samples: SampleSet) -> None:
    rows = np.arange(0, samples.n_rows, 7)
    times = samples.now_ms[samples.slate_of]
    by_hand = [int(((samples.post_ids == samples.post_ids[row]) & (times < times[row])).sum()) for row in rows.tolist()]
    assert shown_before(samples, rows).tolist() == by_hand


def test_popularity_knows_what_was_liked_before_and_no_more(samples: SampleSet) -> None:
    catalogue = catalogue_of(samples)
    scores = popularity_scores(samples, catalogue, likes(samples))(np.array([0, 25]))
    assert not scores[0].any()
    before = likes(samples) & (samples.now_ms[samples.slate_of] < samples.now_ms[25])
    assert scores[1].sum() == before.sum()
    post = samples.post_ids[np.flatnonzero(before)[0]]
    assert scores[1, catalogue.find(np.array([post]))[0]] == (samples.post_ids[before] == post).sum()
