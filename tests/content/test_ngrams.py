"""Rows of the embedding bag: the same for the same text, words first, and as the reference says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.content.ngrams import MAX_TOKENS, N_TOKEN_ROWS, token_rows, token_rows_reference


@given(st.lists(st.text(max_size=120), max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_kernel_agrees_with_the_reference(texts: list[str]) -> None:
    rows = token_rows(texts)
    assert rows.shape == (len(texts), MAX_TOKENS)
    assert rows.dtype == np.uint16
    for text, found in zip(texts, rows, strict=True):
        assert found.tolist() == token_rows_reference(text).tolist()


def test_words_come_first_and_then_their_grams() -> None:
    both, one = token_rows(["cats purr", "cats"])
    assert np.count_nonzero(both) == 2 + 4 + 4
    assert both[0] == one[0]
    assert both[2:6].tolist() == one[1:5].tolist()


@pytest.mark.parametrize("text", ["", "   ", "...!?"])
def test_a_text_that_says_nothing_has_no_rows(text: str) -> None:
    assert not token_rows([text]).any()


def test_forms_of_a_word_share_rows_and_scripts_without_spaces_have_pairs() -> None:
    cat, cats, tokyo = token_rows(["running", "runners", "東京都"])
    assert len(set(cat[cat > 0].tolist()) & set(cats[cats > 0].tolist())) >= 2
    assert np.count_nonzero(tokyo) == 3 + 2


def test_a_long_text_is_cut() -> None:
    rows = token_rows([" ".join(f"word{i}" for i in range(200))])[0]
    assert np.count_nonzero(rows) == MAX_TOKENS
    assert rows.max() < N_TOKEN_ROWS
