"""Lessons: pages and logged candidates in one, asked about all; what was not seen has no labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from millrace.app.distilling import distil
from millrace.app.lessons import counted, lesson_of
from millrace.base.actions import Action
from millrace.flywheel.logged_samples import LoggedCandidates
from millrace.flywheel.train_pre_ranker import PreRankerTraining
from millrace.flywheel.train_ranker import RankerTraining, load_ranker, predicted, train_ranker
from millrace.models.config import TableConfig, TrunkConfig
from millrace.testing.progress import in_silence
from millrace.testing.sample_builders import HOUR_MS, planted_samples

TRUNK = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
N_ROWS = 6


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranker")
    train_ranker(planted_samples(60), RankerTraining(trunk=TRUNK, n_epochs=1, n_slates=20), folder=folder)
    return folder


def logged(n: int, first_request: int) -> LoggedCandidates:
    """Return candidates of ``n`` requests: of each the first three rows were seen, the last was cut."""
    samples = planted_samples(n, n_rows=N_ROWS)
    place = np.arange(samples.n_rows) % N_ROWS
    is_cut = place == N_ROWS - 1
    baseline = np.array(samples.baseline)
    baseline[:, Action.LIKE] = np.linspace(0.1, 0.3, len(baseline))
    baseline[is_cut] = np.nan
    return LoggedCandidates(
        samples=replace(samples, baseline=baseline, requests=first_request + np.arange(n)),
        teacher=np.full(baseline.shape, np.nan, dtype=np.float32),
        scores=np.zeros(samples.n_rows, dtype=np.float32),
        has_labels=place < 3,
        is_served=place < 3,
        is_cut=is_cut,
    )


def test_pages_and_candidates_are_asked_about_and_a_page_that_is_among_them_counts_once(ranker: Path) -> None:
    pages = planted_samples(4, n_rows=N_ROWS)
    pages = replace(pages, requests=np.array([7, 8, 9, 10]))
    candidates = logged(2, first_request=9)
    teacher, _ = load_ranker(ranker)
    lesson = lesson_of(pages, candidates, teacher, in_silence)
    assert lesson.samples.requests.tolist() == [7, 8, 9, 10]
    assert lesson.has_labels.tolist() == [True] * 2 * N_ROWS + [True, True, True, False, False, False] * 2
    assert lesson.teacher.shape == (4 * N_ROWS, len(Action))
    assert np.isfinite(lesson.teacher).all()
    # Asked in other batches: nothing of a row hangs on the others, to the last bits of a float.
    expected = predicted(teacher, pages, np.array([0, 1]))
    np.testing.assert_allclose(lesson.teacher[: 2 * N_ROWS], expected, rtol=0.0, atol=1e-6)


def test_of_what_was_cut_counters_say_the_middle() -> None:
    candidates = logged(3, first_request=1)
    found = counted(candidates.samples)
    known = candidates.samples.baseline[~candidates.is_cut]
    assert found.baseline[candidates.is_cut, Action.LIKE] == pytest.approx(np.median(known[:, Action.LIKE]))
    np.testing.assert_array_equal(found.baseline[~candidates.is_cut], known)
    assert counted(found) is found


def test_a_student_learns_from_candidates_of_before_the_pages_that_it_is_measured_on(
    ranker: Path, tmp_path: Path
) -> None:
    pages = replace(planted_samples(100), requests=np.arange(100) + 1_000)
    training = PreRankerTraining(d=8, n_hidden=8, n_interests=2, n_epochs=1)
    late = logged(100, first_request=1)
    assert late.before(90 * HOUR_MS).samples.now_ms.max() == 89 * HOUR_MS  # type: ignore[union-attr]
    assert late.before(0) is None
    told = distil(pages, ranker, training, tmp_path, in_silence, late)
    n_test = 5
    n_before = 100 - n_test  # requests before the first page of the test, as many as pages
    n_chosen_by = int(2 * n_before * 5.5 / n_before)
    assert told.n_slates == 2 * n_before - n_chosen_by
    assert told.n_labelled < told.n_rows
    # What it keeps is measured on the requests that it was not taught by, cut candidates and all.
    assert (told.kept.n_pages, told.kept.n_candidates) == (n_test, N_ROWS)
    assert 0.0 <= told.kept.kept_50.low <= told.kept.kept_50.value <= told.kept.kept_50.high <= 1.0
