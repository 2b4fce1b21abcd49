"""Words and sentence patterns by language and topic, and how a post's text is put together from them.

The words stand in ``vocabulary/<language>.toml``. A text is a function of its key alone. The topic is never
stated: it can only be learned from the words.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from millrace.base.errors import ConfigError

Phrases = Annotated[tuple[str, ...], Meta(min_length=1)]

TOPICS: Final = (
    "cooking",
    "football",
    "astronomy",
    "programming",
    "music",
    "travel",
    "gardening",
    "news",
    "film",
    "cycling",
    "photography",
    "books",
)
"""Topic names, in the order of their codes in the world."""

_OPENER_FRAC: Final = 0.12
_EXTRA_FRAC: Final = 0.62
_CLOSER_FRAC: Final = 0.3
_TOPIC_REPLY_FRAC: Final = 0.8
_LONG_REPLY_FRAC: Final = 0.25


class TopicWords(Struct, frozen=True, forbid_unknown_fields=True):
    """One topic in one language: things (x), circumstances (w), sentences, second sentences, answers."""

    label: str
    x: Phrases
    w: Phrases
    posts: Phrases
    extras: Phrases
    replies: Phrases


class LanguageWords(Struct, frozen=True, forbid_unknown_fields=True):
    """One language."""

    joiner: str
    name: str
    given: Phrases
    family: Phrases
    bios: Phrases
    openers: Phrases
    closers: Phrases
    quotes: Phrases
    replies: Phrases
    edited: str
    spam: Phrases
    topic: dict[str, TopicWords]


class _Dice:
    """Successive small choices from one 64-bit key."""

    def __init__(self, key: int) -> None:
        self._state = key & 0xFFFFFFFFFFFFFFFF

    def below(self, n: int) -> int:
        # SplitMix64 once a choice: cheap, and free of the correlations that plain remainders would have.
        self._state = (self._state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return int((z >> 32) * n >> 32)

    def pick(self, phrases: tuple[str, ...]) -> str:
        return phrases[self.below(len(phrases))]

    def chance(self, frac: float) -> bool:
        return self.below(1 << 20) < frac * (1 << 20)


class Texts(Protocol):
    """Where the words come from; see `Vocabulary`."""

    languages: tuple[str, ...]

    def post(self, language: int, topic: int, key: int, story: int = -1) -> str:
        """Return the text of an original post."""

    def reply(self, language: int, topic: int, key: int) -> str:
        """Return an answer."""

    def quote(self, language: int, key: int) -> str:
        """Return a comment over a quoted post."""

    def spam(self, language: int, key: int) -> str:
        """Return an advertisement."""

    def edited(self, language: int, text: str) -> str:
        """Return a text as its author corrected it."""

    def thing(self, language: int, topic: int, key: int) -> str:
        """Return the thing that a post is about."""

    def name(self, language: int, key: int) -> str:
        """Return a person's name."""

    def bio(self, language: int, first: int, second: int, key: int) -> str:
        """Return a profile text that carries two interests."""


class Vocabulary:
    """All languages of one world.

    Parameters
    ----------
    languages
        Their tags, in the order of their codes in the world.

    Raises
    ------
    ConfigError
        If a language has no vocabulary.
    """

    def __init__(self, languages: tuple[str, ...]) -> None:
        self.languages = languages
        self._words = tuple(load_language(tag) for tag in languages)
        self._topics = tuple(tuple(words.topic[name] for name in TOPICS) for words in self._words)

    def post(self, language: int, topic: int, key: int, story: int = -1) -> str:
        """Return the text of an original post; all posts of one ``story`` are about the same thing."""
        words, about = self._words[language], self._topics[language][topic]
        dice = _Dice(key)
        main = self._sentence(about, dice, story)
        parts = [main]
        if dice.chance(_EXTRA_FRAC):
            parts.append(dice.pick(about.extras))
        if dice.chance(_CLOSER_FRAC):
            parts.append(dice.pick(words.closers))
        text = words.joiner.join(parts)
        return dice.pick(words.openers) + text if dice.chance(_OPENER_FRAC) else text

    def reply(self, language: int, topic: int, key: int) -> str:
        """Return an answer to a post of this language and topic."""
        words, about = self._words[language], self._topics[language][topic]
        dice = _Dice(key)
        if not dice.chance(_TOPIC_REPLY_FRAC):
            return dice.pick(words.replies)
        answer = dice.pick(about.replies)
        return words.joiner.join((answer, dice.pick(words.replies))) if dice.chance(_LONG_REPLY_FRAC) else answer

    def quote(self, language: int, key: int) -> str:
        """Return a comment over a quoted post."""
        return _Dice(key).pick(self._words[language].quotes)

    def spam(self, language: int, key: int) -> str:
        """Return an advertisement."""
        dice = _Dice(key)
        return dice.pick(self._words[language].spam).format(n=10 * (2 + dice.below(70)))

    def edited(self, language: int, text: str) -> str:
        """Return a text as its author corrected it."""
        return f"{text} {self._words[language].edited}"

    def thing(self, language: int, topic: int, key: int) -> str:
        """Return the thing that the post of this key is about: an image's description, a search, a muted word."""
        return _Dice(key).pick(self._topics[language][topic].x)

    def name(self, language: int, key: int) -> str:
        """Return a person's name."""
        words = self._words[language]
        dice = _Dice(key)
        return words.name.format(given=dice.pick(words.given), family=dice.pick(words.family))

    def bio(self, language: int, first: int, second: int, key: int) -> str:
        """Return a profile text that carries two interests."""
        words, topics = self._words[language], self._topics[language]
        a, b = topics[first].label, topics[second].label
        return _upper_first(_Dice(key).pick(words.bios).format(a=a, b=b, A=_upper_first(a)))

    def _sentence(self, about: TopicWords, dice: _Dice, story: int) -> str:
        first = dice.below(len(about.x))  # the first draw, so that `thing` names what the sentence is about
        if story >= 0:
            first = story % len(about.x)
        pattern = dice.pick(about.posts)
        second = (first + 1 + dice.below(len(about.x) - 1)) % len(about.x)
        n = 3 + dice.below(37)
        slots = {"x": about.x[first], "y": about.x[second], "n": n, "w": dice.pick(about.w).format(n=n)}
        return _upper_first(pattern.format_map(slots))


@cache
def load_language(tag: str) -> LanguageWords:
    """Return the words of one language, checked for completeness.

    Raises
    ------
    ConfigError
        If there is no such vocabulary, or it lacks a topic.
    """
    folder = resources.files("millrace.simulator") / "vocabulary"
    file = folder / f"{tag}.toml"
    if not tag.isalnum() or not file.is_file():
        known = sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
        raise ConfigError(
            "config key world.language_shares",
            value=tag,
            problem="no vocabulary for this language",
            remedy=f"use some of {', '.join(known)}",
        )
    words = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), LanguageWords)
    missing = [name for name in TOPICS if name not in words.topic]
    if missing:
        raise ConfigError(f"vocabulary {tag}", value=missing, problem="topics are missing", remedy="write them")
    return words


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
