"""Catalogue and batches: what is a negative of whom, and how often a post is expected."""

from dataclasses import replace

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.content.semantic_ids import table_rows
from millrace.features.encoding.vector_inputs import text_floats
from millrace.flywheel.catalogue import ages_of, catalogue_of, is_content_row
from millrace.flywheel.retrieval_batches import BatchMaker
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors
from millrace.testing.sample_builders import HOUR_MS, planted_samples
from millrace.testing.small_towers import small_sources, small_towers_config

FOR_EVER = 10**15


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(30)


def likes(samples: SampleSet) -> np.ndarray:
    return np.asarray(samples.labels[:, Action.LIKE] > 0)


def a_maker(samples: SampleSet, *, n_random: int = 5, max_age_ms: int = FOR_EVER, n_ahead: int = 0) -> BatchMaker:
    config, vectors = small_towers_config(), SampleVectors(samples, small_sources())
    catalogue = catalogue_of(samples)
    return BatchMaker(
        samples,
        catalogue,
        likes(samples),
        config,
        vectors,
        n_random=n_random,
        max_age_ms=max_age_ms,
        n_ahead=n_ahead,
    )


def with_like(samples: SampleSet) -> np.ndarray:
    return np.unique(samples.slate_of[likes(samples)])


def whole(slates: np.ndarray) -> np.ndarray:
    return np.full(len(slates), 8)


def test_the_catalogue_has_each_post_once_as_its_first_look_found_it(samples: SampleSet) -> None:
    catalogue = catalogue_of(samples)
    assert (np.diff(catalogue.posts.post_ids) > 0).all()
    assert set(catalogue.posts.post_ids.tolist()) == set(samples.post_ids.tolist())
    assert catalogue.n_shown.sum() == samples.n_rows
    rows = np.arange(samples.n_rows)
    said_ms = samples.now_ms[samples.slate_of] - ages_of(samples, rows)
    youngest = {post: (int(age), int(said)) for post, age, said in sorted(
        zip(samples.post_ids.tolist(), ages_of(samples, rows).tolist(), said_ms.tolist(), strict=True),
        key=lambda row: (row[0], -row[1]),
    )}  # fmt: skip
    at = catalogue.find(np.array(list(youngest)))
    assert catalogue.created_ms[at].tolist() == [said for _, said in youngest.values()]
    assert catalogue.find(np.array([5])).tolist() == [-1]


def test_a_repost_is_no_look_at_the_reposters_own_post(samples: SampleSet) -> None:
    dense = samples.dense.copy()
    dense[::2, samples.meta.dense.index("repost")] = 32
    changed = replace(samples, dense=dense)
    assert is_content_row(changed).sum() == samples.n_rows // 2
    assert catalogue_of(changed).n_shown.sum() == samples.n_rows // 2


def test_every_like_is_a_row_whose_target_is_its_post(samples: SampleSet) -> None:
    slates = with_like(samples)[:8]
    batch = a_maker(samples).make(slates, whole(slates), np.random.default_rng(1))
    rows = samples.rows_of(slates)
    liked = likes(samples)[rows]
    assert len(batch.targets) == liked.sum()
    tokens = batch.posts.tokens[batch.targets].numpy()
    texts = samples.texts_of(samples.post_ids[rows][liked])
    assert (tokens == samples.text_tokens[texts]).all()
    assert (batch.posts.text_vectors[batch.targets].numpy() == text_floats(samples.text_vectors[texts])).all()
    codebooks = small_sources().codebooks
    assert codebooks is not None
    codes = codebooks.encode(samples.text_vectors[texts])
    assert (batch.posts.sids[batch.targets].numpy() == table_rows(codes, codebooks.settings.n_codes)).all()
    weights = np.bincount(batch.slate_of.numpy(), weights=batch.weights.numpy())
    assert np.allclose(weights, 1.0)  # a page weighs 1, however much of it was liked


def test_what_a_viewer_acted_on_is_no_negative_and_everything_else_is(samples: SampleSet) -> None:
    slates = with_like(samples)[:6]
    maker, catalogue = a_maker(samples, n_random=500), catalogue_of(samples)
    batch = maker.make(slates, whole(slates), np.random.default_rng(1))
    masked = batch.is_masked.numpy()
    is_there = catalogue.created_ms <= np.median(samples.now_ms[slates])
    is_there[catalogue.find(samples.post_ids[samples.rows_of(slates)])] = True
    assert masked.shape[1] == is_there.sum()  # so many were drawn that every live post is there
    is_mine = np.zeros((len(masked), len(catalogue)), dtype=np.bool_)
    for row, slate in enumerate(slates[batch.slate_of.numpy()].tolist()):
        rows = samples.rows_of(np.array([slate]))
        mine = samples.post_ids[rows][likes(samples)[rows]].tolist()
        mine += samples.history_posts[samples.history_starts[slate] : samples.history_starts[slate + 1]].tolist()
        is_mine[row] = np.isin(catalogue.posts.post_ids, mine)
    is_later = catalogue.created_ms[None, :] > samples.now_ms[slates][batch.slate_of.numpy()][:, None]
    assert (masked == (is_mine | is_later)[:, is_there]).all()
    assert 0 < masked.mean() < 1


def test_posts_that_were_not_there_are_no_negatives(samples: SampleSet) -> None:
    slates = with_like(samples)[-4:]
    maker = a_maker(samples, max_age_ms=2 * HOUR_MS)
    batch = maker.make(slates, whole(slates), np.random.default_rng(1))
    catalogue = catalogue_of(samples)
    on_pages = np.unique(catalogue.find(samples.post_ids[samples.rows_of(slates)]))
    is_old = catalogue.created_ms[on_pages] < samples.now_ms[slates].max() - 2 * HOUR_MS
    assert is_old.any()
    newest = int(np.argmax(samples.now_ms[slates][batch.slate_of.numpy()]))
    n_masked = int(batch.is_masked[newest].sum())
    assert n_masked >= is_old.sum()


def test_what_is_shown_often_is_expected_more_often(samples: SampleSet) -> None:
    maker, catalogue = a_maker(samples), catalogue_of(samples)
    columns = np.arange(len(catalogue))
    expected = np.exp(maker._log_q(columns, n_slates=4, n_live=len(catalogue)))
    assert (expected > 5 / len(catalogue) - 1e-6).all()
    n_pages = (samples.now_ms[None, :] >= catalogue.created_ms[:, None]).sum(axis=1)
    by_hand = catalogue.n_shown / np.maximum(n_pages, 1) * 4 + 5 / len(catalogue)
    assert np.allclose(expected, by_hand, rtol=1e-4)


def test_a_history_that_is_left_out_is_empty(samples: SampleSet) -> None:
    slates = with_like(samples)[:3]
    batch = a_maker(samples).make(slates, np.array([0, 3, 8]), np.random.default_rng(1))
    assert batch.viewers.is_history.sum(dim=1).tolist() == [0, 3, 8]


def test_what_a_viewer_wants_on_their_next_pages_is_told_as_well(samples: SampleSet) -> None:
    whose = samples.viewers.copy()
    whose[:] = 5  # all pages are one viewer's
    told = replace(samples, viewers=whose)
    slates = with_like(samples)
    first, later = slates[:1], slates[1:]
    batch = a_maker(told, n_ahead=2).make(first, whole(first), np.random.default_rng(1))
    next_rows = samples.rows_of(later)
    next_posts = samples.post_ids[next_rows[likes(samples)[next_rows]]][:2]
    n_own = int(likes(samples)[samples.rows_of(first)].sum())
    tokens = batch.posts.tokens[batch.targets[n_own:]].numpy()
    expected = samples.text_tokens[samples.texts_of(np.unique(next_posts))]
    assert (tokens == expected).all()
    assert len(a_maker(told).make(first, whole(first), np.random.default_rng(1)).targets) == n_own
    last = slates[-1:]
    assert len(a_maker(told, n_ahead=2).make(last, whole(last), np.random.default_rng(1)).targets) == int(
        likes(samples)[samples.rows_of(last)].sum()
    )
