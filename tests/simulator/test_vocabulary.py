from __future__ import annotations

from itertools import product

import pytest

from millrace.base.errors import ConfigError
from millrace.simulator.config import DEFAULT_LANGUAGE_SHARES
from millrace.simulator.vocabulary import TOPICS, Vocabulary, load_language

LANGUAGES = tuple(DEFAULT_LANGUAGE_SHARES)
VOCABULARY = Vocabulary(LANGUAGES)
PAIRS = tuple(product(range(len(LANGUAGES)), range(len(TOPICS))))


def test_there_are_six_languages_in_four_scripts() -> None:
    assert set(LANGUAGES) == {"en", "es", "zh", "ja", "ar", "de"}


@pytest.mark.parametrize(("language", "topic"), PAIRS)
def test_texts_are_filled_in_and_start_with_a_capital(language: int, topic: int) -> None:
    for key in range(1, 150):
        texts = [VOCABULARY.post(language, topic, key), VOCABULARY.reply(language, topic, key)]
        for text in texts:
            assert text
            assert "{" not in text
            assert "}" not in text
            assert text == text.strip()
            assert "  " not in text
            assert not text[0].islower()


def test_a_text_is_a_function_of_its_key() -> None:
    assert VOCABULARY.post(0, 0, 42) == VOCABULARY.post(0, 0, 42)
    assert len({VOCABULARY.post(0, 0, key) for key in range(500)}) > 450  # nine in ten


def test_topics_differ_in_their_words() -> None:
    cooking = {word for key in range(300) for word in VOCABULARY.post(0, 0, key).split()}
    astronomy = {word for key in range(300) for word in VOCABULARY.post(0, 2, key).split()}
    assert {"kitchen", "oven"} <= cooking - astronomy


def test_an_image_shows_the_thing_that_its_post_is_about() -> None:
    for key in range(100):
        thing = VOCABULARY.thing(0, 0, key)
        assert thing.lower() in VOCABULARY.post(0, 0, key).lower()


def test_the_topic_is_not_stated() -> None:
    for topic, name in enumerate(TOPICS):
        texts = [VOCABULARY.post(0, topic, key).lower() for key in range(200)]
        assert not any(f"#{name}" in text for text in texts)


def test_names_follow_the_custom_of_the_language() -> None:
    assert " " in VOCABULARY.name(LANGUAGES.index("en"), 5)
    assert " " not in VOCABULARY.name(LANGUAGES.index("zh"), 5)


def test_a_profile_text_carries_interests() -> None:
    assert "film" in VOCABULARY.bio(0, TOPICS.index("film"), TOPICS.index("books"), 3).lower()


@pytest.mark.parametrize("tag", ["tlh", "../en", ""])
def test_an_unknown_language_is_refused_with_the_known_ones(tag: str) -> None:
    with pytest.raises(ConfigError, match="ar, de, en, es, ja, zh"):
        load_language(tag)
