"""A small warehouse with tables, for tests: events in by the door, rows out by SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.base.clock import ManualClock
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry
from millrace.flywheel.tables.reader import TablesReader
from millrace.flywheel.tables.schema import DERIVED
from millrace.flywheel.tables.tables import Tables
from millrace.flywheel.warehouse import Warehouse
from millrace.flywheel.warehouse_config import WarehouseConfig
from millrace.stores.engagement_config import DwellThresholds
from millrace.stream.collector import Collector
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import NOW_MS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CODEC = EventCodec(EventRegistry())


class SmallTables:
    """A log, its warehouse and the tables.

    Parameters
    ----------
    folder
        Holds warehouse and tables.
    config
        Of the tables; the default one with less memory if not given.
    """

    def __init__(self, folder: Path, config: WarehouseConfig | None = None) -> None:
        self.folder = folder
        self.config = config or WarehouseConfig(memory_mb=256)
        self.clock = ManualClock(NOW_MS)
        self.log = MemoryLog(self.clock)
        self.warehouse = Warehouse(folder / "warehouse", CODEC)
        self.tables = self.tables_in(folder / "tables")

    def tables_in(self, folder: Path) -> Tables:
        """Return tables of the same raw events in another folder."""
        return Tables(folder, self.warehouse, CODEC, DwellThresholds(), self.config)

    def put(self, *events: AnyEvent) -> None:
        """Log events and export them: the raw warehouse holds them."""
        Collector(self.log, CODEC, self.clock).submit(events)
        self.warehouse.export(self.log)

    def reader(self) -> TablesReader:
        """Return a reader of all of it as it is now."""
        return TablesReader(self.warehouse, self.tables, self.folder / "samples", 256)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.reader() as reader:
            return reader.rows(sql)[1]

    def all_rows(self, tables: Tables | None = None) -> dict[str, list[str]]:
        """Return every table made of facts, as sorted text."""
        with TablesReader(self.warehouse, tables or self.tables, self.folder / "samples", 256) as reader:
            return {t.name: sorted(map(str, reader.rows(f"FROM {t.name}")[1])) for t in DERIVED}
