"""Tokens of many scripts, and the kernel against plain Python."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.tokens import character_classes, fold_text, tokenise, tokenise_reference

# All of Unicode, and often enough what decides: marks, what is not seen, unspaced scripts, emoji, edges of the table.
TRICKY = (
    "aZ09é \t\n.,!'-_#$+東京タワーかがแมวน้ำກาខ្មែរမြန်မာ한국어שָׁלוֹםعَرَبِيّक्षि👍🏽👨‍👩‍👧❤️🇩🇪①ﬁſİßΣς"
    "\u0301\u200b\u200d\u00ad\ufe0f\u3099\U0001f3fb\U0001ffff\U00020000\U0003ffff\U000e0041\U000e1000\U0010ffff\0"
)
texts = st.text(st.characters(exclude_categories=()) | st.sampled_from(TRICKY), max_size=60)


def tokens_of(text: str) -> list[str]:
    return [characters for _, _, characters in tokenise_reference(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("New  York!", ["new", "york", "!"]),
        ("Ｃａｔｓ ＆ 1²", ["cats", "&", "12"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("iPhoneは高い", ["iphone", "は", "高", "い"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ພາສາ", ["ພ", "າ", "ສ", "າ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("السَّلام عليكم", ["السَّلام", "عليكم"]),
        ("naïve nai\u0308ve", ["naïve", "naïve"]),
        ("Straße ΣΊΣΥΦΟΣ", ["strasse", "σίσυφοσ"]),
        ("don't", ["don", "'", "t"]),
        ("👍🏽👨‍👩‍👧 ❤️", ["👍", "👨", "👩", "👧", "❤"]),
        ("می‌خواهم soft\u00adware", ["میخواهم", "software"]),
        ("c++ $tsla", ["c", "+", "+", "$", "tsla"]),
        ("\u0301a", ["\u0301a"]),
        (" \u200b\t", []),
        ("", []),
    ],
)
def test_what_is_one_token(text: str, expected: list[str]) -> None:
    assert tokens_of(text) == [unicodedata.normalize("NFKC", token) for token in expected]


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=4))
def test_the_kernel_finds_what_plain_python_finds(many: list[str]) -> None:
    tokens = tokenise(many)
    assert len(tokens.offsets) == len(many) + 1
    for i, text in enumerate(many):
        rows = range(tokens.offsets[i], tokens.offsets[i + 1])
        found = [
            (
                int(tokens.hashes[row]),
                int(tokens.kinds[row]),
                "".join(map(chr, tokens.points[tokens.starts[row] : tokens.ends[row]])),
            )
            for row in rows
        ]
        assert found == tokenise_reference(text)


@given(texts)
def test_folding_twice_changes_nothing_and_forms_of_one_text_are_one(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)
    assert fold_text(unicodedata.normalize("NFD", text)) == fold_text(text)


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from millrace.base.tokens import tokenise; print(tokenise(['Mill 東']).hashes.tolist())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == str(tokenise(["Mill 東"]).hashes.tolist()) == "[13126333477100202529, 13404986974666879048]"


def test_classes_cover_the_tabled_planes() -> None:
    classes = character_classes()
    assert classes.shape == (0x20000,)
    assert classes.dtype == np.uint8
    assert set(classes.tolist()) == set(range(7))
