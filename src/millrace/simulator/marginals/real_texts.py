"""Real texts: posts of communities, tweets, sentences of many languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from millrace.simulator.marginals.attention import popularity
from millrace.simulator.marginals.collected import Codes
from millrace.simulator.marginals.real_files import lines, records
from millrace.simulator.marginals.statistics import Marginals, Statistics, day_profile, rhythm
from millrace.simulator.marginals.texts import lengths_of

_ADDRESSEES: Final = re.compile(r"^(@user\s*)+")
_TWEET_TASKS: Final = ("emotion", "hate", "irony", "offensive", "sentiment")
_XLM_T: Final = {
    "arabic": "ar",
    "english": "en",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "italian": "it",
    "portuguese": "pt",
    "spanish": "es",
}
_LANGID: Final = {
    "Arabic": "ar",
    "Danish": "da",
    "Dutch": "nl",
    "English": "en",
    "French": "fr",
    "German": "de",
    "Greek": "el",
    "Hindi": "hi",
    "Italian": "it",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Portugeese": "pt",
    "Russian": "ru",
    "Spanish": "es",
    "Sweedish": "sv",
    "Tamil": "ta",
    "Turkish": "tr",
}


def reddit_posts(folder: Path, window_ms: int | None = None) -> Marginals:
    """Return posts of 93 communities: title and body as one text, votes as likes, comments as replies.

    The set holds the 600 most voted posts of each community, bodies cut at 400 characters. So nobody's post has few
    votes, and gaps (communities stand for authors, as in the importer) are those of posts that did well.
    """
    communities = Codes()
    community, time_ms, votes, comments, texts = [], [], [], [], []
    rows = records(folder, "posts.csv")
    at = {name: index for index, name in enumerate(next(rows))}
    for row in rows:
        community.append(communities[row[at["community"]]])
        time_ms.append(int(float(row[at["created_utc"]])) * 1000)
        votes.append(int(row[at["ups"]] or 0))
        comments.append(int(row[at["n_comments"]] or 0))
        texts.append(f"{row[at['title']]} {row[at['body']]}".strip())
    author, moment = np.array(community, dtype=np.int64), np.array(time_ms, dtype=np.int64)
    return {
        "likes per post": _chosen(popularity(np.array(votes, dtype=np.int64))),
        "replies per post": _chosen(popularity(np.array(comments, dtype=np.int64))),
        **lengths_of("original", texts),
        **lengths_of("original", texts, "en"),
        "gaps between posts of an author": rhythm(author, moment, window_ms),
        "hours of the day, posted": day_profile(moment),
    }


def _parted(tweets: list[str]) -> tuple[list[str], list[str]]:
    """Return tweets that answer nobody, and those that do, without the names that they begin with."""
    answers = [_ADDRESSEES.sub("", text) for text in tweets if text.startswith("@user")]
    return [text for text in tweets if not text.startswith("@user")], answers


def _chosen(found: Statistics) -> Statistics:
    """Return what can be said of posts that were chosen for doing well: not how many got nothing."""
    return {name: value for name, value in found.items() if name != "none at all"}


def tweeteval(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return English tweets of five tasks, most from the time of 140 characters."""
    texts = [text for task in _TWEET_TASKS for text in lines(folder / task, "test_text.txt")]
    own, answers = _parted(texts)
    return {**lengths_of("original", own), **lengths_of("original", own, "en"), **lengths_of("reply", answers)}


def xlm_t(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return tweets in eight languages."""
    found: Marginals = {}
    everybodys: list[str] = []
    for name, tag in _XLM_T.items():
        if (folder / name).is_dir():
            texts = [text for part in ("train", "val", "test") for text in lines(folder / name, f"{part}_text.txt")]
            own, answers = _parted(texts)
            found |= lengths_of("original", own, tag)
            everybodys += answers
    return lengths_of("reply", everybodys) | found


def langid17(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return sentences of encyclopaedias in seventeen languages, longer and more even than posts."""
    by_language: dict[str, list[str]] = {}
    for row in records(folder, "language_detection.csv"):
        if row and (tag := _LANGID.get(row[-1])):
            by_language.setdefault(tag, []).append(row[0].strip())
    found: Marginals = {}
    for tag, texts in by_language.items():
        found |= lengths_of("original", texts, tag)
    return found
