"""Importers: foreign data sets read as events. Streaming, deterministic by seed, nothing hidden that is unreadable.

``IMPORTERS`` maps the names that ``millrace import`` takes to functions
``read(path, options, report) -> Iterator[AnyEvent]``. Every importer here makes a *composite*: it adds, by seed,
what the data set does not have (viewers, times), and says so in `ImportReport.composition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from millrace.events.envelope import AnyEvent
from millrace.events.importers import lastfm_2k, reddit_posts
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.report import ImportReport, UnreadableRow

Importer = Callable[[Path, ImportOptions, ImportReport | None], Iterator[AnyEvent]]

IMPORTERS: Final[Mapping[str, Importer]] = MappingProxyType(
    {"reddit-posts": reddit_posts.read, "lastfm-2k": lastfm_2k.read}
)

__all__ = ["IMPORTERS", "ImportOptions", "ImportReport", "Importer", "UnreadableRow"]
