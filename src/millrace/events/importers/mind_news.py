"""The articles of ``mind``: those that the file describes, and those of which the log knows only the id."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table, find_file
from millrace.events.user_events import ProfileUpdated

N_UNLISTED_DESKS: Final = 1_000
"""Articles without a row are spread over so many made authors; a post store keeps only so many posts of each."""

_COLUMNS: Final = (
    "news_id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
_MAX_TEXT_CHARS: Final = 40_000
_MAX_NAME_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Article:
    """One article, as far as the file describes it."""

    category: str
    subcategory: str
    title: str
    abstract: str
    url: str


class Newsroom:
    """All articles by id, and the desks that stand as their authors.

    Parameters
    ----------
    folder
        Holds ``news.tsv``, plain or gzipped.
    source
        Producer of the annotations.
    report
        Takes the rows.
    """

    def __init__(self, folder: Path, source: str, report: ImportReport) -> None:
        self._source = source
        self._articles: dict[str, Article] = {}
        table = Table(find_file(folder, "news.tsv"), _COLUMNS, delimiter="\t", has_header=False)
        for line, values in table.rows(report):
            reason = self._take(values)
            if reason:
                report.leave_out(table.file.name, line, reason, "\t".join(values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._articles)

    def desk_id(self, news_id: str) -> str:
        """Return the author of an article: its category and subcategory; of an unlisted one, a made desk."""
        article = self._articles.get(news_id)
        if article is None:
            return f"unlisted/{zlib.crc32(news_id.encode()) % N_UNLISTED_DESKS}"
        return f"{article.category}/{article.subcategory}"

    def desks(self) -> Iterator[ProfileUpdated]:
        """Yield the profile of every desk."""
        names = sorted({(article.category, article.subcategory) for article in self._articles.values()})
        for category, subcategory in names:
            yield ProfileUpdated(
                user_id=f"{category}/{subcategory}",
                name=subcategory,
                bio=f"Articles on {subcategory} ({category}), as one author (composite; real articles).",
                interests=_topics(category, subcategory),
                languages=("en",),
            )
        for number in range(N_UNLISTED_DESKS):
            yield ProfileUpdated(
                user_id=f"unlisted/{number}",
                name=f"Unlisted desk {number}",
                bio="Articles of which the data set gives nothing but the id, as one author (composite).",
                languages=("en",),
            )

    def posts(self, news_id: str) -> tuple[PostCreated, PostAnnotated]:
        """Return an article as a post, and what its row says of it."""
        article = self._articles.get(news_id)
        if article is None:
            text, link, topics = f"Article {news_id} (the data set does not give its title)", "", None
        else:
            text = article.title + ("\n\n" + article.abstract if article.abstract else "")
            link, topics = article.url, _topics(article.category, article.subcategory)
        post = PostCreated(post_id=news_id, author_id=self.desk_id(news_id), text=text[:_MAX_TEXT_CHARS], link=link)
        annotation = PostAnnotated(
            post_id=news_id, producer=self._source, producer_version="1", language="en", topics=topics
        )
        return post, annotation

    def _take(self, values: list[str]) -> str:
        """Keep a row's article; return why not, where it cannot be used."""
        news_id, category, subcategory, title, abstract, url = (value.strip() for value in values[:6])
        if not is_id(news_id):
            return "the article's id is not letters and digits"
        if news_id in self._articles:
            return "the article was given before"
        if not title:
            return "the title is empty"
        if not (_is_name(category) and _is_name(subcategory)):
            return "the category or subcategory is not a printable name"
        self._articles[news_id] = Article(category, subcategory, title, abstract, url if len(url) <= 2048 else "")
        return ""


def is_id(text: str) -> bool:
    """Whether a text is an id as this data set writes them."""
    return text.isascii() and text.isalnum() and len(text) <= 32


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MAX_NAME_CHARS and text.isascii() and text.isprintable()


def _topics(category: str, subcategory: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((category, subcategory)))
