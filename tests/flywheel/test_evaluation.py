"""The tables: slices, intervals, and saying so where there is too little."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.flywheel import metrics
from millrace.flywheel.evaluation import EvaluationOptions, EvaluationRow, evaluate
from millrace.flywheel.retrieval import Retrievals, recall_table, sample_positives
from millrace.flywheel.samples import Head, SampleFacts

NAMES = {1: "en", 2: "ja"}
N = 6_000


@pytest.fixture(scope="module")
def facts() -> SampleFacts:
    rng = np.random.default_rng(3)
    viewers = rng.integers(200, size=N)
    return SampleFacts(
        viewers, np.arange(N) // 10, rng.choice([0, 1, 1, 1, 2], N), rng.random(N) < 0.4, viewers % 10 == 0
    )


@pytest.fixture(scope="module")
def head() -> Head:
    rng = np.random.default_rng(4)
    truth = rng.beta(1, 6, N)
    return Head("like", (rng.random(N) < truth).astype(np.float32), truth.astype(np.float32))


def by_slice(table: list[EvaluationRow]) -> dict[str, EvaluationRow]:
    return {row.slice: row for row in table}


def test_every_slice_has_its_own_numbers_with_intervals(facts: SampleFacts, head: Head) -> None:
    table = by_slice(evaluate([head], facts, NAMES))
    assert list(table) == [
        "all", "new users", "known users", "in-network", "out-of-network", "language en", "language ja",
        "language unknown",
    ]  # fmt: skip
    for row in table.values():
        assert list(row.metrics) == [
            "auc", "pr_auc", "normalised_entropy", "calibration", "calibration_error", "ndcg@10",
        ]  # fmt: skip
        for name, found in row.metrics.items():
            assert found.low is not None
            assert found.high is not None
            assert found.value is not None
            if name != "calibration_error":  # biased upwards under resampling
                assert found.low <= found.value <= found.high
    rows = np.flatnonzero(facts.is_in_network)
    labels, scores = head.labels[rows] > 0, head.scores[rows].astype(np.float64)
    assert table["in-network"].metrics["auc"].value == metrics.auc(labels, scores)
    assert table["in-network"].n == len(rows)
    assert table["in-network"].n_positive == int(labels.sum())


def test_true_probabilities_are_calibrated_and_better_than_the_base_rate(facts: SampleFacts, head: Head) -> None:
    found = by_slice(evaluate([head], facts, NAMES))["all"].metrics
    low, high = found["calibration"].low, found["calibration"].high
    assert low is not None
    assert high is not None
    assert low < 1 < high
    assert (found["normalised_entropy"].high or 9) < 1


def test_too_few_positives_get_words_and_no_number(facts: SampleFacts) -> None:
    labels = np.zeros(N, dtype=np.float32)
    labels[:30] = 1
    (row, *_) = evaluate([Head("report", labels, np.full(N, 0.1))], facts, NAMES)
    assert (row.metrics, row.note) == ({}, "too few positives: 30 of at least 50")
    (row, *_) = evaluate([Head("seen", 1 - labels, np.full(N, 0.1))], facts, NAMES)
    assert row.note == "too few negatives: 30 of at least 50"


def test_a_score_is_not_taken_for_a_probability_and_an_amount_not_for_a_label(facts: SampleFacts, head: Head) -> None:
    score = Head("like", head.labels, head.scores * 7, is_probability=False)
    seconds = Head("dwell_time", head.labels * 5, head.labels * 10, is_continuous=True)
    found = [row for row in evaluate([score, seconds], facts, NAMES) if row.slice == "all"]
    assert list(found[0].metrics) == ["auc", "pr_auc", "ndcg@10"]
    assert list(found[1].metrics) == ["calibration"]
    assert found[1].metrics["calibration"].value == 2.0


def test_rows_without_a_score_are_left_out(facts: SampleFacts, head: Head) -> None:
    scores = head.scores.copy()
    scores[::2] = np.nan
    (row, *_) = evaluate([Head("like", head.labels, scores, is_probability=False)], facts, NAMES)
    assert row.n == N // 2


def test_the_same_seed_gives_the_same_table(facts: SampleFacts, head: Head) -> None:
    options = EvaluationOptions(n_resamples=30, seed=5)
    assert evaluate([head], facts, NAMES, options) == evaluate([head], facts, NAMES, options)


def test_nothing_at_all_is_no_table_and_no_mistake() -> None:
    none = np.empty(0, dtype=np.int64)
    flags = none.astype(np.bool_)
    assert evaluate([Head("like", none, none)], SampleFacts(none, none, none, flags, flags), {}) == []


def test_recall_is_told_by_action_and_slice(facts: SampleFacts) -> None:
    rows = np.arange(120)
    ranks = np.where(rows % 4 == 0, 5, 700)
    labels = np.stack([rows < 100, rows >= 100], axis=1)
    found = Retrievals(facts.take(rows), labels, ranks, np.full(120, 9_000), rows % 2 == 0)
    table = recall_table(found, {0: "like", 1: "reply"}, NAMES, EvaluationOptions())
    everybody = {row.action: row for row in table if row.slice == "all"}
    assert [everybody["any"].metrics[f"recall@{k}"].value for k in (10, 100, 1000)] == [0.25, 0.25, 1.0]
    assert everybody["any"].metrics["sources"].value == 0.5
    assert everybody["like"].n == 100
    assert everybody["reply"].note == "too few: 20 of at least 50"


def test_positives_are_sampled_by_seed() -> None:
    labels = np.random.default_rng(0).random((1_000, 3)) < 0.2
    chosen = sample_positives(labels, 40, 1)
    assert len(chosen) == 40
    assert labels[chosen].any(axis=1).all()
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == sample_positives(labels, 40, 1).tolist()
    assert len(sample_positives(labels, 10_000, 1)) == int(labels.any(axis=1).sum())
