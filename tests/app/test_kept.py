"""By which pages, and by what order, a student is judged for what it keeps of its ranker's best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from millrace.app.commands.init import make_home
from millrace.app.kept import action_worth, home_weights, kept_of_best, newest_pages
from millrace.app.settings import CONFIG_NAME, load_settings
from millrace.base.actions import Action, ActionSpace
from millrace.flywheel.logged_samples import LoggedCandidates
from millrace.testing.sample_builders import HOUR_MS, planted_samples

NAMES = ActionSpace().names


def logged(n: int) -> LoggedCandidates:
    """Candidates of a request an hour; counters have said nothing of the last of each."""
    samples = planted_samples(n, n_rows=12)
    is_cut = np.arange(samples.n_rows) % 12 == 11
    baseline = np.where(is_cut[:, None], np.float32(np.nan), samples.baseline)
    nothing = np.zeros(samples.n_rows, dtype=np.bool_)
    return LoggedCandidates(
        samples=replace(samples, baseline=baseline),
        teacher=np.full(baseline.shape, np.nan, dtype=np.float32),
        scores=np.zeros(samples.n_rows, dtype=np.float32),
        has_labels=nothing,
        is_served=nothing,
        is_cut=is_cut,
    )


def test_requests_since_the_held_out_pages_are_judged_by_where_their_candidates_were_logged() -> None:
    samples, newest = planted_samples(20), np.arange(15, 20)
    pages = newest_pages(samples, newest, logged(18))
    assert (pages.now_ms // HOUR_MS).tolist() == [15, 16, 17]
    assert pages.n_rows == 3 * 12
    assert np.isfinite(pages.baseline).all()


@pytest.mark.parametrize("candidates", [None, logged(10)])
def test_else_the_held_out_pages_are(candidates: LoggedCandidates | None) -> None:
    pages = newest_pages(planted_samples(20), np.arange(15, 20), candidates)
    assert (pages.now_ms // HOUR_MS).tolist() == [15, 16, 17, 18, 19]
    assert pages.n_rows == 5 * 6


def test_more_pages_than_are_needed_are_left_out_the_oldest_first() -> None:
    pages = newest_pages(planted_samples(400), np.arange(400), None)
    assert (pages.now_ms // HOUR_MS).tolist() == list(range(100, 400))


def test_candidates_are_put_in_order_by_value() -> None:
    pages = planted_samples(8)  # six candidates each: one is wanted of the best, and two are left
    rng = np.random.default_rng(1)
    teacher = np.zeros((pages.n_rows, len(NAMES)), dtype=np.float32)
    teacher[:, Action.LIKE] = rng.permutation(pages.n_rows)
    student = teacher.copy()
    student[:, Action.BOOKMARK] = 100.0 * rng.random(pages.n_rows)  # which is worth nothing by default
    kept = kept_of_best(pages, teacher, student, None)
    assert (kept.kept_50.value, kept.kept_500.value) == (1.0, 1.0)
    disliked = kept_of_best(pages, teacher, -student, None)
    assert disliked.kept_50.value == 0.0
    by_bookmarks = kept_of_best(pages, teacher, student, {"bookmark": 50.0})
    assert by_bookmarks.kept_500.value < 1.0


def test_actions_are_worth_what_the_config_says_and_else_what_the_value_model_does(tmp_path: Path) -> None:
    made, _ = make_home(tmp_path)
    assert home_weights(made) == {}
    (made.home / CONFIG_NAME).write_text("[params]\nvalue.weight_like = 2.0\n")
    weights = home_weights(load_settings(made.home))
    assert weights == {"like": 2.0}
    worth = action_worth((*NAMES, "buy"), weights)
    assert worth[[Action.LIKE, Action.REPLY, len(NAMES)]].tolist() == [2.0, 5.0, 0.0]


def test_a_profiles_weights_count(tmp_path: Path) -> None:
    made, _ = make_home(tmp_path)
    settings = load_settings(made.home, {}, [("home.value_profile", "classic")])
    assert home_weights(settings)["click"] == 0.3
