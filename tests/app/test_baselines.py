"""`millrace train baselines`: the same split as the ranker's, and a table of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from millrace.app import cli
from millrace.app.baselines import measure_baselines
from millrace.base.actions import Action
from millrace.base.errors import ConfigError, SourceDataError
from millrace.flywheel.baselines.fits import fit_baselines
from millrace.flywheel.metrics import auc
from millrace.testing.progress import in_silence
from millrace.testing.sample_builders import planted_samples


def test_baselines_are_measured_on_the_newest_slates_alone() -> None:
    samples = planted_samples(400)
    found = measure_baselines(samples, ["item_knn", "popularity", "counters_calibrated"], in_silence)
    learned, validated, newest = np.arange(342), np.arange(342, 380), np.arange(380, 400)
    rows = samples.rows_of(newest)
    likes = samples.labels[rows, Action.LIKE] > 0
    probs = fit_baselines(["item_knn"], samples, learned, validated)["item_knn"](samples, newest)
    (like,) = [head for head in found.held_out["item_knn"] if head.action == "like"]
    assert like.auc == auc(likes, probs[:, Action.LIKE]) > 0.8
    assert (like.n_held_out, like.counters_auc) == (int(likes.sum()), 0.5)
    assert like.n_learned == int(samples.labels[samples.rows_of(learned), Action.LIKE].sum())
    assert (found.n_slates, found.n_wanted, found.n_corpus) == (342, int(likes.sum()), 40)
    assert set(found.recall) == {"item_knn", "popularity"}
    assert found.recall["item_knn"]["recall@10"] > found.recall["popularity"]["recall@10"]
    assert found.recall["popularity"]["recall@100"] == 1.0


def test_too_few_slates_and_unknown_names_are_refused() -> None:
    with pytest.raises(SourceDataError, match="too few slates"):
        measure_baselines(planted_samples(2), [], in_silence)
    with pytest.raises(ConfigError, match="not known"):
        measure_baselines(planted_samples(40), ["forest"], in_silence)


def test_the_command_needs_a_home(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "baselines", "--home", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
