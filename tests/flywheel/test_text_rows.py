"""Rows of tokens from texts alone: what occurs together lies together."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'millrace[train]'")

from millrace.flywheel.text_rows import text_rows


def some_texts() -> np.ndarray:
    """Return 40 texts of three of the words 1 to 6, and as many of the words 11 to 16."""
    rng = np.random.default_rng(3)
    tokens = np.zeros((80, 64), dtype=np.uint16)
    for i in range(80):
        tokens[i, :3] = rng.choice(np.arange(1, 7), 3, replace=False) + (10 if i >= 40 else 0)
    tokens[0, 3] = 20  # a word that nobody else uses
    return tokens


def test_words_of_one_kind_of_text_lie_together_and_those_of_another_across() -> None:
    rows = text_rows(some_texts(), 32, 2)
    assert rows.shape == (32, 2)
    assert rows.dtype == np.float32
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    alike = unit[1:7] @ unit[1:7].T
    across = unit[1:7] @ unit[11:17].T
    assert alike.min() > 0.9
    assert np.abs(across).max() < 0.3


def test_padding_and_words_that_hardly_occur_are_zeros() -> None:
    rows = text_rows(some_texts(), 32, 2)
    assert (rows[[0, 20, 30]] == 0.0).all()
    means = rows[some_texts().astype(np.int64)].sum(axis=1) / 3
    assert np.sqrt(np.square(means).sum(axis=1).mean()) == pytest.approx(8.0, rel=0.05)


def test_the_same_texts_give_the_same_rows_and_few_texts_leave_room() -> None:
    assert np.array_equal(text_rows(some_texts(), 32, 2), text_rows(some_texts(), 32, 2))
    few = text_rows(some_texts()[40:44], 32, 8)
    assert np.isfinite(few).all()
    assert (text_rows(some_texts()[:0], 32, 4) == 0.0).all()
