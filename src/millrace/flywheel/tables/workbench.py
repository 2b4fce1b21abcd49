"""`Workbench`: a DuckDB connection over the tables' files, and new files for their partitions, until they count.

What is made here exists for nobody else before `commit`: new files have names of their own, and the manifest that names
them is replaced last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from millrace.flywheel.tables.manifest import Manifest, TableFile, read_manifest, write_manifest
from millrace.flywheel.tables.schema import TABLES, Table

if TYPE_CHECKING:
    import duckdb

_STAGING: Final = ".staging"
_SPILL: Final = ".spill"

HOUR_MS: Final = 3_600_000
DAY: Final = "strftime(make_timestamp({} * 1000), '%Y-%m-%d')"
HOUR: Final = "strftime(make_timestamp({} * 1000), '%H')"


class Workbench:
    """One change of the tables.

    Parameters
    ----------
    root
        The tables' folder; who works here holds its lock.
    memory_mb
        Most memory that DuckDB takes before it uses the disk.
    """

    def __init__(self, root: Path, memory_mb: int) -> None:
        import duckdb

        self.root = root
        self.manifest = read_manifest(root)
        self._before = self.manifest
        self._n_writes = 0
        self.n_rows: dict[str, int] = {}
        root.mkdir(parents=True, exist_ok=True)
        self._remove_unnamed()
        self.db: duckdb.DuckDBPyConnection = duckdb.connect(
            config={
                "memory_limit": f"{memory_mb}MB",
                "temp_directory": str(root / _SPILL),
                "preserve_insertion_order": "false",
            }
        )
        self.db.execute("SET enable_progress_bar = false")

    def close(self) -> None:
        """Let go of the connection and of what was not committed."""
        self.db.close()
        shutil.rmtree(self.root / _SPILL, ignore_errors=True)
        if self._n_writes:
            self._remove_unnamed()

    def start_anew(self) -> None:
        """Forget all tables: with the next commit they are made from the first event on."""
        self.manifest = Manifest(generation=self.manifest.generation)

    def view(self, table: Table, is_wanted: Callable[[TableFile], bool] = lambda _file: True) -> str:
        """Make a table's files, or those that are wanted, a view of the table's name; return the name."""
        files = [self.root / table.name / file.path for file in self.manifest.of(table.name) if is_wanted(file)]
        self.db.execute(f"CREATE OR REPLACE TEMP VIEW {table.name} AS {reading(table, files)}")
        return table.name

    def append(self, table: Table, query: str, time: str = "time_ms") -> int:
        """Add a query's rows to a table; return how many. ``time`` is the column that says which partition."""
        floor = self.manifest.floors.get(table.name)
        where = f" WHERE dt >= '{floor}'" if floor else ""
        files = self._write(table, f"FROM ({_partitioned(table, query, time)}){where}")
        self.manifest = self.manifest.with_partitions(table.name, (), files)
        return sum(file.n_rows for file in files)

    def replace(self, table: Table, partitions: Collection[str], query: str, time: str | None = None) -> int:
        """Let partitions consist of a query's rows; return how many there are.

        Parameters
        ----------
        table, partitions
            Which: ``dt=2027-01-15/hour=08``.
        query
            Its rows fall into no other partition.
        time
            The column that says which one; None: the query has ``dt`` (and ``hour``) as text.
        """
        files = self._write(table, query if time is None else _partitioned(table, query, time))
        self.manifest = self.manifest.with_partitions(table.name, partitions, files)
        return sum(file.n_rows for file in files)

    def drop(self, table: Table, partitions: Collection[str]) -> None:
        """Remove partitions."""
        self.manifest = self.manifest.with_partitions(table.name, partitions, ())

    def commit(self, position: int | None = None) -> None:
        """Make what was done count, and remove the files that do not any more.

        Parameters
        ----------
        position
            Log offset up to which raw events are in the tables now; None: as before.
        """
        position = self.manifest.position if position is None else position
        self.manifest = msgspec.structs.replace(
            self.manifest, position=position, generation=self._before.generation + 1
        )
        write_manifest(self.root, self.manifest)
        self._before = self.manifest
        self._n_writes = 0
        self._remove_unnamed()

    def _write(self, table: Table, query: str) -> list[TableFile]:
        keys = ("dt", "hour") if table.is_hourly else ("dt",)
        columns = ", ".join([f'CAST("{n}" AS {kind}) AS "{n}"' for n, (kind, _) in table.columns.items()] + list(keys))
        staging = self.root / _STAGING / table.name
        staging.mkdir(parents=True, exist_ok=True)
        name = f"g{self._before.generation + 1}-{self._n_writes}-{{i}}"
        self._n_writes += 1
        written = self.db.execute(
            f"COPY (SELECT {columns} FROM ({query})) TO '{_quoted(staging)}' (FORMAT parquet, COMPRESSION zstd, "  # noqa: S608
            f"PARTITION_BY ({', '.join(keys)}), FILENAME_PATTERN '{name}', OVERWRITE_OR_IGNORE, RETURN_STATS)"
        ).fetchall()
        self.n_rows[table.name] = self.n_rows.get(table.name, 0) + sum(row[1] for row in written)
        return [self._in_place(table, Path(row[0]), staging, row[1]) for row in written]

    def _in_place(self, table: Table, staged: Path, staging: Path, n_rows: int) -> TableFile:
        relative = staged.relative_to(staging)
        path = self.root / table.name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.rename(path)
        return TableFile(str(relative), n_rows, path.stat().st_size)

    def _remove_unnamed(self) -> None:
        shutil.rmtree(self.root / _STAGING, ignore_errors=True)
        named = self._before.paths(self.root)
        for name in TABLES:
            folder = self.root / name
            for path in folder.rglob("*.parquet"):
                if path not in named:
                    path.unlink()
            for empty in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                if not any(empty.iterdir()):
                    empty.rmdir()


@contextmanager
def workbench(root: Path, memory_mb: int) -> Iterator[Workbench]:
    """Have a workbench for a block."""
    with closing(Workbench(root, memory_mb)) as bench:
        yield bench


def reading(table: Table, files: Iterable[Path]) -> str:
    """Return the query that reads files of a table, its partition's columns last; no rows where there are no files."""
    names = ", ".join(f"'{_quoted(path)}'" for path in files)
    keys = {"dt": "DATE", "hour": "INTEGER"} if table.is_hourly else {"dt": "DATE"}
    if not names:
        kinds = {**{name: kind for name, (kind, _) in table.columns.items()}, **keys}
        columns = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in kinds.items())
        return f"SELECT {columns} WHERE false"
    types = ", ".join(f"'{name}': {kind}" for name, kind in keys.items())
    return f"SELECT * FROM read_parquet([{names}], hive_partitioning = true, hive_types = {{{types}}})"  # noqa: S608


def partition_of(hour: int) -> str:
    """Return the folder of an hour since 1970: ``dt=2027-01-15/hour=08``."""
    return f"dt={day_of(hour)}/hour={hour % 24:02d}"


def day_of(hour: int) -> str:
    """Return the day of an hour since 1970: ``2027-01-15``."""
    from datetime import date, timedelta

    return (date(1970, 1, 1) + timedelta(days=hour // 24)).isoformat()


def _partitioned(table: Table, query: str, time: str) -> str:
    hour = f", {HOUR.format(time)} AS hour" if table.is_hourly else ""
    return f"SELECT *, {DAY.format(time)} AS dt{hour} FROM ({query})"  # noqa: S608 - our own names


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
