"""What is in a raw file of the warehouse: rows of events, written whole, read, merged, shown to SQL.

A file is named once it is on the disk, and has `UNFINISHED` behind its name until then: whatever kills its writer, a
file of that name is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from millrace.base.errors import StoreError
from millrace.flywheel.raw_files import RawFile

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

UNFINISHED: Final = ".unfinished"
_TEXT_COLUMNS: Final = ("event_id", "source", "type", "payload")
_INT_COLUMNS: Final = ("log_offset", "event_time_ms", "appended_ms", "schema_version")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a file, or another one in its place."""
    import pyarrow.parquet as pq

    unfinished = path.with_name(path.name + UNFINISHED)
    pq.write_table(_table(rows), unfinished, compression="zstd")
    sync(unfinished)
    unfinished.rename(path)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path, partitioning=None).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            "warehouse file",
            value=str(path),
            problem=f"cannot be read ({error})",
            remedy="restore it from a backup, or remove it (its events are then missing from the warehouse)",
        ) from error
    return rows


def events_view(paths: list[Path], name: str = "events") -> str:
    """Return the SQL that makes raw files a view in DuckDB: a row an event, ``topic`` and ``dt`` from their folders."""
    if not paths:
        columns = ", ".join([f"{c} BIGINT" for c in _INT_COLUMNS] + [f"{c} VARCHAR" for c in _TEXT_COLUMNS])
        return f"CREATE TABLE {name} ({columns}, topic VARCHAR, dt DATE)"
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    types = "hive_partitioning = true, hive_types = {'topic': VARCHAR, 'dt': DATE}"
    return f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{names}], {types})"  # noqa: S608 - our own folder


def groups_to_merge(files: list[RawFile], max_bytes: int) -> Iterator[list[RawFile]]:
    """Yield runs of neighbours that are to become one file each."""
    group: list[RawFile] = []
    n_bytes = 0
    for file in files:
        size = file.path.stat().st_size
        if group and n_bytes + size > max_bytes:
            yield group
            group, n_bytes = [], 0
        group.append(file)
        n_bytes += size
    yield group


def merge_files(group: list[RawFile]) -> int:
    """Make one file of neighbours; return how many files are gone."""
    import pyarrow.parquet as pq

    if len(group) < 2:
        return 0
    whole = RawFile(group[0].folder, group[0].first, group[-1].end).path
    unfinished = whole.with_name(whole.name + UNFINISHED)
    with pq.ParquetWriter(unfinished, _schema(), compression="zstd") as writer:
        for file in group:
            writer.write_table(pq.read_table(file.path, partitioning=None))
    sync(unfinished)
    unfinished.rename(whole)
    for file in group:
        file.path.unlink()
    return len(group) - 1


def sync(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.int64()) for name in _INT_COLUMNS] + [(n, pa.string()) for n in _TEXT_COLUMNS])


def _table(rows: list[Row]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())
