"""Importers: foreign data sets read as events. Streaming, deterministic by seed, nothing hidden that is unreadable.

``IMPORTERS`` maps the names that ``millrace import`` takes to functions
``read(path, options, report) -> Iterator[AnyEvent]``. Each of them makes a *composite*: it adds, by seed, what the data
set does not have (viewers, authors, times), and says so in `ImportReport.composition`. Any other file is read by a
mapping of the operator's, and nothing is added: `millrace.events.importers.mapped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from millrace.events.envelope import AnyEvent
from millrace.events.importers import lastfm_2k, mind, ml_100k, reddit_posts, yelp_social
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.report import ImportReport, UnreadableRow

Importer = Callable[[Path, ImportOptions, ImportReport | None], Iterator[AnyEvent]]

IMPORTERS: Final[Mapping[str, Importer]] = MappingProxyType(
    {
        "reddit-posts": reddit_posts.read,
        "lastfm-2k": lastfm_2k.read,
        "mind": mind.read,
        "ml-100k": ml_100k.read,
        "yelp-social": yelp_social.read,
    }
)

__all__ = ["IMPORTERS", "ImportOptions", "ImportReport", "Importer", "UnreadableRow"]
