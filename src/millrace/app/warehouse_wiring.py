"""How the warehouse, its tables and their readers are built of a home's settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from millrace.app.settings import Settings
    from millrace.flywheel.postgres_interactions import PostgresInteractions
    from millrace.flywheel.tables.reader import TablesReader
    from millrace.flywheel.tables.tables import Tables
    from millrace.flywheel.warehouse import Warehouse


class Erases(Protocol):
    """What a user can be erased from."""

    def erase(self, user: str, posts: Collection[str] = (), *, before: int) -> int:
        """Remove what is about a user; return how many rows."""


class ErasesAll:
    """Raw events first, then what is made of them.

    Parameters
    ----------
    parts
        In this order.
    """

    def __init__(self, *parts: Erases) -> None:
        self._parts = parts

    def erase(self, user: str, posts: Collection[str] = (), *, before: int) -> int:
        """Remove what is about a user from all parts; return how many rows."""
        return sum(part.erase(user, posts, before=before) for part in self._parts)


def build_warehouse(settings: Settings) -> Warehouse:
    """Return the home's raw events."""
    from millrace.app.wiring import build_codec
    from millrace.flywheel.warehouse import Warehouse

    return Warehouse(settings.warehouse_dir, build_codec(settings))


def build_tables(settings: Settings) -> Tables:
    """Return the tables made of the home's raw events."""
    from millrace.app.wiring import build_codec
    from millrace.flywheel.tables.tables import Tables

    config = settings.config
    dwell = config.stores.engagements.dwell
    return Tables(settings.tables_dir, build_warehouse(settings), build_codec(settings), dwell, config.warehouse)


def build_tables_reader(settings: Settings) -> TablesReader:
    """Return what answers SQL over raw events, tables and samples."""
    from millrace.flywheel.tables.reader import TablesReader

    tables = build_tables(settings)
    memory_mb = settings.config.warehouse.memory_mb
    return TablesReader(build_warehouse(settings), tables, settings.data_dir / "samples", memory_mb)


def build_postgres_interactions(settings: Settings) -> PostgresInteractions:
    """Return the interactions in PostgreSQL.

    Raises
    ------
    ConfigError
        If no URL is set.
    """
    from millrace.app.wiring import build_codec, build_event_clock
    from millrace.base.errors import ConfigError
    from millrace.flywheel.postgres_interactions import PostgresInteractions

    config = settings.config.warehouse
    if not config.postgres_url:
        raise ConfigError(
            "config key warehouse.postgres_url",
            problem="is empty",
            remedy="set it to postgresql://user:password@host/database (docs/howto/postgres-interactions.md)",
        )
    return PostgresInteractions(
        config.postgres_url,
        build_warehouse(settings),
        build_codec(settings),
        build_event_clock(settings),
        kept_days=config.postgres_days,
        max_ms=settings.config.stores.engagements.dwell.max_ms,
    )


def build_erasable(settings: Settings) -> ErasesAll:
    """Return all of the warehouse that a user has to be erased from."""
    parts: list[Erases] = [build_warehouse(settings), build_tables(settings)]
    if settings.config.warehouse.postgres_url:
        parts.append(build_postgres_interactions(settings))
    return ErasesAll(*parts)
