"""Muted keywords: in which texts they are, and that hashes say what tokens say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.keywords import (
    MAX_TOKENS,
    NO_KEYWORD,
    find_keywords,
    has_keyword_reference,
    keyword_hash,
    keyword_hash_reference,
)


def found_in(text: str, *keywords: str) -> int:
    hashes = np.array([keyword_hash(keyword) for keyword in keywords], dtype=np.int64)
    return int(find_keywords([text], hashes)[0])


@pytest.mark.parametrize(
    ("keyword", "text", "is_in"),
    [
        ("東京", "今日は東京タワーへ", True),
        ("東京", "東の京都", False),
        ("cat", "category, concatenate", False),
        ("cat", "The Cat!", True),
        ("new york", "New  York!", True),
        ("new york", "new-york", True),
        ("new york", "new old york", False),
        ("Ｎｅｗ york", "NEW YORK", True),
        ("café", "CAFE\u0301", True),
        ("café", "cafe", False),
        ("عليكم", "السلام عليكم", True),
        ("عليك", "السلام عليكم", False),
        ("แมว", "ฉันรักแมวมาก", True),
        ("แม", "แม่", False),
        ("🔥", "so 🔥🔥 hot", True),
        ("🔥🔥", "🔥 x 🔥", False),
        ("❤️", "I ❤ mills", True),
        ("👍", "👍🏿 yes", True),
        (":-)", "hello :-)", True),
        (":-)", "hello :)", False),
        ("???", "what???!", True),
        ("#cats", "cats", True),
        ("cats", "#cats", True),
        ("c++", "c and c++", True),
        ("c++", "vitamin c", False),
        ("$tsla", "tsla", False),
        ("spoiler", "sp\u200boiler", True),
        ("كتاب", "هذا كِتَاب جديد", True),
        ("كِتَاب", "هذا كتاب جديد", True),
        ("كتاب", "كتـــاب", True),
        ("كتاب", "كتابة", False),
        ("שלום", "שָׁלוֹם לך", True),
        ("서울", "서울에서 만나요", True),
        ("서울", "서울", True),
        ("울에", "서울에서", False),
        ("서울에서", "서울", False),
        ("서울 타워", "서울 타워에서", True),
        ("서울 타워", "서울의 타워", False),
        ("bts", "bts는 좋아", True),
        ("케이팝", "요즘 케이팝이", True),
        ("k팝", "K팝을 듣다", True),
        ("팝", "k팝", False),
        ("İstanbul", "istanbul", True),
        ("istanbul", "İSTANBUL'da", True),
        ("İstanbul", "stanbul", False),
    ],
)
def test_which_texts_have_a_keyword(keyword: str, text: str, is_in: bool) -> None:
    assert (found_in(text, keyword) == 0) is is_in
    assert has_keyword_reference(text, keyword) is is_in


@pytest.mark.parametrize("blank", ["", "  ", "\u200b\ufe0f"])
def test_blanks_are_no_keyword_and_are_in_nothing(blank: str) -> None:
    assert keyword_hash(blank) == NO_KEYWORD
    assert found_in("a  b", blank) == -1
    assert found_in("", blank) == -1
    assert not has_keyword_reference("a", blank)


def test_it_says_which_keyword_and_may_look_for_many_of_many_lengths() -> None:
    assert found_in("wheel of the old mill", "dam", "old mill", "of") in (1, 2)
    assert found_in("the old mill", "dam", "old mill", "of") == 1
    assert found_in("a stream", "dam", "old mill", "of") == -1


def test_without_keywords_or_texts_nothing_is_found() -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert find_keywords(["a"], nothing).tolist() == [-1]
    assert find_keywords([], np.array([keyword_hash("a")])).tolist() == []


def test_very_long_keywords_are_compared_by_their_beginning() -> None:
    beginning = [f"w{i}" for i in range(MAX_TOKENS)]
    keyword = " ".join([*beginning, "end"])
    assert found_in(" ".join(["x", *beginning, "y"]), keyword) == 0
    assert found_in(" ".join(["x", *beginning[:-1], "y"]), keyword) == -1


ALPHABET = "abi 東京🔥.!\u0301\u0307\u200d서울ㅋ\u302eكـ\u0650"
short = st.text(ALPHABET, max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(ALPHABET, max_size=24), max_size=4), st.lists(short, max_size=4))
def test_hashes_find_what_comparing_tokens_finds(texts: list[str], keywords: list[str]) -> None:
    hashes = np.array([keyword_hash(keyword) for keyword in keywords], dtype=np.int64)
    for text, place in zip(texts, find_keywords(texts, hashes).tolist(), strict=True):
        wanted = [i for i, keyword in enumerate(keywords) if has_keyword_reference(text, keyword)]
        assert (place in {i for i in range(len(keywords)) if hashes[i] in hashes[wanted]}) if wanted else place == -1


@given(st.text(max_size=30))
def test_the_kernel_hashes_as_plain_python_does(text: str) -> None:
    assert keyword_hash(text) == keyword_hash_reference(text)


def test_hashes_are_fixed_for_they_are_in_checkpoints() -> None:
    known = [4865094864290198530, 6308167555521460226, -3236431682692254207]
    assert [keyword_hash(text) for text in ("Old mill", "東京", "🔥")] == known
