"""Text vectors: the kernel against plain Python, and what likeness they give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.content.vectors import N_DIMS, SCALE, quantised, text_vector_reference, text_vectors

texts = st.text(st.characters() | st.sampled_from("aab eéé 東京タワแมว👍❤️.!?"), max_size=80)


def cosine(one: str, other: str) -> float:
    a, b = text_vectors([one, other]).astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=3))
def test_the_kernel_gives_what_plain_python_gives(many: list[str]) -> None:
    vectors = text_vectors(many)
    assert vectors.dtype == np.int8
    assert vectors.shape == (len(many), N_DIMS)
    for text, vector in zip(many, vectors, strict=True):
        assert vector.tolist() == text_vector_reference(text).tolist()


def test_long_texts_and_many_repeats_are_counted_right() -> None:
    long = " ".join(f"word{i % 700}" for i in range(3_000)) + " mill" * 400
    assert text_vectors(["a", long, "b"])[1].tolist() == text_vector_reference(long).tolist()


@pytest.mark.parametrize(
    ("text", "like", "unlike"),
    [
        (
            "the water wheel of the old mill",
            "an old mill with a wheel in the water",
            "election results from the capital",
        ),
        ("水車は川の水を引いて小麦を挽く", "川の水車が小麦を挽いている", "東京で選挙の結果が発表された"),
        ("ฉันรักแมวมาก", "แมวที่ฉันรัก", "ผลการเลือกตั้งวันนี้"),
        ("mills", "mill", "election"),
    ],
)
def test_texts_about_one_thing_are_more_alike(text: str, like: str, unlike: str) -> None:
    assert cosine(text, like) > cosine(text, unlike) + 0.15


def test_case_width_and_punctuation_make_no_difference() -> None:
    vectors = text_vectors(["Old MILL, on a stream!", "ｏｌｄ mill on a stream"])
    assert vectors[0].tolist() == vectors[1].tolist()


def test_texts_that_say_nothing_have_no_direction_and_others_have_one_length() -> None:
    assert not text_vectors(["", "...", " \u200b"]).any()
    lengths = np.linalg.norm(text_vectors(["a mill", "東京", "🔥", "x" * 500]).astype(np.float64), axis=1)
    assert np.abs(lengths - SCALE).max() < 4


def test_given_vectors_are_scaled_to_one_length() -> None:
    axis = np.zeros(N_DIMS)
    axis[3] = 1.0
    nan = np.full(N_DIMS, np.nan)
    made = quantised(np.stack([axis, axis * 1e300, axis * -1e-300, 0 * axis, nan, nan * 0 + np.inf]))
    assert made[:3, 3].tolist() == [127, 127, -127]
    assert not made[3:].any()
    assert quantised(np.empty((0, N_DIMS))).shape == (0, N_DIMS)


def test_vectors_are_fixed_for_they_are_in_checkpoints() -> None:
    vector = text_vectors(["An old mill. 東京 🔥"])[0]
    assert {dim: int(vector[dim]) for dim in np.flatnonzero(vector)} == {
        7: -37,
        8: -12,
        12: -37,
        19: 37,
        21: -37,
        24: -12,
        26: 37,
        28: 37,
        32: 37,
        33: 25,
        39: 12,
        43: 37,
        50: 37,
        55: 37,
        62: -37,
        63: 3,
    }
