"""`topic_tokens`: words that the same authors use begin alike, without anything that anybody did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.topic_tokens import MIN_AUTHORS, begin_with_topics, topic_tokens
from millrace.flywheel.train_retrieval import begin_with_texts
from millrace.models.config import TableConfig, TrunkConfig
from millrace.models.retrieval import LearnedRetrieval
from millrace.models.retrieval_config import RetrievalConfig
from millrace.testing.sample_builders import planted_samples

N_TOPICS, N_WORDS, PER_POST, PER_AUTHOR, WIDTH = 4, 12, 3, 8, 4


def written(n_authors: int = 100, *, posts_of_nobody: int = 0) -> SampleSet:
    """Return slates whose posts are by authors of one topic each; a post has 3 of its topic's 12 words."""
    rng = np.random.default_rng(5)
    n_posts = n_authors * PER_AUTHOR
    author = np.arange(n_posts) // PER_AUTHOR
    words = np.stack([rng.choice(N_WORDS, PER_POST, replace=False) for _ in range(n_posts)])
    tokens = np.zeros((n_posts, 64), dtype=np.uint16)
    tokens[:, :PER_POST] = 1 + (author % N_TOPICS)[:, None] * N_WORDS + words
    samples = planted_samples(n_posts // 4, n_rows=4)
    authors = author + 1
    authors[:posts_of_nobody] = 0
    return replace(
        samples,
        post_ids=np.arange(1, n_posts + 1),
        author_ids=authors,
        text_posts=np.arange(1, n_posts + 1),
        text_tokens=tokens,
        text_vectors=np.zeros((n_posts, 64), dtype=np.int8),
    )


def table_of(samples: SampleSet) -> torch.nn.Embedding:
    table = torch.nn.Embedding(N_TOPICS * N_WORDS + 10, WIDTH, padding_idx=0)
    torch.nn.init.constant_(table.weight, 0.125)
    begin_with_topics(table, samples)
    return table


def test_words_of_a_topic_are_alike_also_those_that_no_post_has_together() -> None:
    found = topic_tokens(written(), WIDTH)
    assert found is not None
    assert found.rows.tolist() == list(range(1, 1 + N_TOPICS * N_WORDS))
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    topic = np.arange(len(unit)) // N_WORDS
    is_same = topic[:, None] == topic
    likeness = unit @ unit.T
    assert likeness[is_same].min() > 0.8
    assert likeness[~is_same].max() < 0.3


def test_a_text_is_about_as_long_as_its_table_is_wide() -> None:
    samples = written()
    means = table_of(samples).weight.detach().numpy()[samples.text_tokens[:, :PER_POST]].mean(axis=1)
    assert np.square(means).mean() == pytest.approx(1.0, abs=1e-3)


def test_rows_of_no_token_stay_and_the_same_samples_give_the_same_rows() -> None:
    table = table_of(written())
    assert (table.weight[0] == 0.125).all()
    assert (table.weight[-1] == 0.125).all()
    assert torch.equal(table.weight, table_of(written()).weight)


def test_labels_are_not_looked_at_and_posts_of_unknown_authors_neither() -> None:
    samples = written(posts_of_nobody=PER_AUTHOR)
    silent = replace(samples, labels=np.zeros_like(samples.labels))
    assert torch.equal(table_of(samples).weight, table_of(silent).weight)
    others = samples.text_tokens.copy()
    others[:PER_AUTHOR] = 7
    assert torch.equal(table_of(samples).weight, table_of(replace(samples, text_tokens=others)).weight)


def test_of_too_few_authors_nothing_is_said() -> None:
    assert topic_tokens(written(MIN_AUTHORS - 1), WIDTH) is None
    assert topic_tokens(written(), 200) is None
    assert (table_of(written(MIN_AUTHORS - 1)).weight == 0.125).all()


def towers(width: int = WIDTH) -> LearnedRetrieval:
    tables = TableConfig(width=width, n_token_rows=N_TOPICS * N_WORDS + 10, n_post_rows=4, n_author_rows=4)
    torch.manual_seed(1)
    return LearnedRetrieval(RetrievalConfig(trunk=TrunkConfig(d=8, n_layers=1, n_heads=2, tables=tables)))


def test_towers_read_texts_by_rows_that_are_not_learned_and_other_words_not_at_all() -> None:
    model, found = towers(), topic_tokens(written(), WIDTH)
    assert found is not None
    begin_with_texts(model, written(), seed=0)
    rows = model.tables.tokens.weight.detach().numpy()
    assert np.array_equal(rows[found.rows], found.vectors)
    assert (np.delete(rows, found.rows, axis=0) == 0.0).all()
    learned = {name for name, value in model.tables.named_parameters() if value.requires_grad}
    assert learned == {"authors.weight", "languages.weight", "sids.weight"}


def test_towers_of_a_place_of_few_authors_learn_their_words_themselves() -> None:
    model, before = towers(), towers()
    begin_with_texts(model, written(MIN_AUTHORS - 1), seed=0)
    assert torch.equal(model.tables.tokens.weight, before.tables.tokens.weight)
    assert model.tables.tokens.weight.requires_grad
