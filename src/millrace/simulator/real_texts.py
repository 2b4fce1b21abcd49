"""`RealTexts`: English posts with real texts (reddit-posts) instead of made ones.

The world stays composite: real texts, made people. A topic of the world stands for some communities, so that it can be
learned from the text as ever, and is never stated.
"""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path
from typing import Final

import polars as pl

from millrace.base.errors import ConfigError
from millrace.simulator.vocabulary import TOPICS, Vocabulary

_LANGUAGE: Final = "en"
_MAX_CHARS: Final = 600
_MIN_CHARS: Final = 12
_PER_STORY: Final = 8
_COMMUNITIES: Final[dict[str, str]] = {
    "cooking": "Cooking food",
    "football": "soccer nfl nba hockey",
    "astronomy": "space science askscience",
    "programming": "programming Python javascript webdev linux",
    "music": "Music",
    "travel": "travel japan canada india australia europe",
    "gardening": "gardening DIY",
    "news": "worldnews politics environment",
    "film": "movies television anime startrek StarWars",
    "cycling": "bicycling running motorcycles",
    "photography": "photography itookapicture Art",
    "books": "books writing history philosophy",
}


class RealTexts(Vocabulary):
    """Words of a world whose English posts are real.

    Parameters
    ----------
    languages
        Their tags, in the order of their codes in the world.
    folder
        The data set's folder, or its file.

    Raises
    ------
    ConfigError
        If the data set is not there, or has no texts of a topic.
    """

    def __init__(self, languages: tuple[str, ...], folder: Path) -> None:
        super().__init__(languages)
        self._texts = texts_by_topic(folder)

    def post(self, language: int, topic: int, key: int, story: int = -1) -> str:
        """Return the text of an original post; posts of one ``story`` share a handful of texts."""
        if self.languages[language] != _LANGUAGE:
            return super().post(language, topic, key, story)
        texts = self._texts[topic]
        if story >= 0:
            return texts[(story * _PER_STORY + key % _PER_STORY) % len(texts)]
        return texts[key % len(texts)]


@cache
def texts_by_topic(folder: Path) -> tuple[tuple[str, ...], ...]:
    """Return the data set's texts for each topic of `TOPICS`, in the order of the file; sensitive ones left out."""
    path = next((p for p in (folder / "posts.csv.gz", folder / "posts.csv", folder) if p.is_file()), None)
    if path is None:
        raise ConfigError(
            "config key world.posts_path",
            value=str(folder),
            problem="has no posts.csv",
            remedy="give the folder of the reddit-posts data set",
        )
    frame = pl.read_csv(path, infer_schema_length=0).filter(~pl.col("over_18").str.to_lowercase().is_in(["true", "1"]))
    text = pl.concat_str(pl.col("title").fill_null(""), pl.lit("\n"), pl.col("body").fill_null("")).str.strip_chars()
    frame = frame.select("community", text=text.str.slice(0, _MAX_CHARS)).filter(
        pl.col("text").str.len_chars() >= _MIN_CHARS
    )
    found = []
    for topic in TOPICS:
        names = _COMMUNITIES[topic].split()
        texts = tuple(html.unescape(t) for t in frame.filter(pl.col("community").is_in(names))["text"].to_list())
        if not texts:
            raise ConfigError(
                "config key world.posts_path",
                value=str(path),
                problem=f"has no posts of the communities {', '.join(names)}",
                remedy="give the folder of the reddit-posts data set",
            )
        found.append(texts)
    return tuple(found)
