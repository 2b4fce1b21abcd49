"""`TablesReader`: a DuckDB connection over raw events, tables, samples and views; it can only read.

All of it is as it was when the reader was made, whatever is built, merged or erased meanwhile. Queries of people's own
reach nothing else: other files, settings and statements that change anything are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from millrace.base.errors import MillraceError, StoreError
from millrace.flywheel.file_snapshot import FileSnapshot, take
from millrace.flywheel.raw_rows import events_view
from millrace.flywheel.sample_files import LABELS, PAGES, SampleFiles
from millrace.flywheel.sample_names import epoch_of
from millrace.flywheel.tables.schema import SHOWN, TABLES
from millrace.flywheel.tables.tables import Tables
from millrace.flywheel.tables.views import VIEWS
from millrace.flywheel.tables.workbench import reading
from millrace.flywheel.warehouse import Warehouse

if TYPE_CHECKING:
    import duckdb

SAMPLES: Final = "samples"
RAW: Final = "events"
_NO_SAMPLES: Final = (
    "SELECT NULL::BIGINT AS request, NULL::BIGINT AS viewer, NULL::BIGINT AS post, NULL::BIGINT AS epoch, "
    "NULL::INTEGER AS revision, NULL::FLOAT AS share, "
    "NULL::DATE AS dt, NULL::INTEGER AS hour WHERE false"
)


class QueryError(MillraceError):
    """A query that cannot be carried out: not SQL, not known, or not for reading."""


class TablesReader:
    """Reads the warehouse by SQL.

    Parameters
    ----------
    warehouse
        Raw events: the view ``events``.
    tables
        The tables: a view each.
    samples_dir
        Where the join leaves samples, ``labels/dt=…/hour=…/epoch-….parquet``: the view ``samples``, of each the
        newest revision of the latest epoch, with the share of requests that its page stands for
        (``pages/dt=…/hour=…/epoch-….parquet``); there may be none.
    memory_mb
        Most memory of a query.
    """

    def __init__(self, warehouse: Warehouse, tables: Tables, samples_dir: Path, memory_mb: int = 1_024) -> None:
        import duckdb

        raw, raw_paths = warehouse.snapshot()
        derived, paths_by_table = tables.snapshot()
        self._snapshots: list[FileSnapshot] = [raw, derived]
        sample_paths = self._samples(samples_dir)
        label_paths = [path for path in sample_paths if path.parents[2].name == LABELS]
        page_paths = [path for path in sample_paths if path.parents[2].name == PAGES]
        self._db: duckdb.DuckDBPyConnection = duckdb.connect(config={"memory_limit": f"{memory_mb}MB"})
        self._db.execute("SET enable_progress_bar = false")
        self._db.execute(events_view(raw_paths, RAW))
        for name, table in TABLES.items():
            self._db.execute(f"CREATE VIEW {name} AS {reading(table, paths_by_table[name])}")
        self._db.execute(f"CREATE VIEW {SAMPLES} AS {_reading_samples(label_paths, page_paths)}")
        for view in VIEWS:
            self._db.execute(f"CREATE VIEW {view.name} AS {view.query}")
        self._lock([*raw_paths, *sample_paths, *(path for paths in paths_by_table.values() for path in paths)])

    def query(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Return the connection with the result of one query, to be fetched.

        Raises
        ------
        QueryError
            If it is not one query that only reads, or fails.
        """
        import duckdb

        try:
            statements = self._db.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise QueryError(
                    "query", value=sql, problem="is not one query that only reads", remedy="give one SELECT or DESCRIBE"
                )
            return self._db.execute(statements[0])
        except duckdb.Error as error:
            words = " ".join(str(error).split())
            raise QueryError(
                "query", problem=words, remedy="`millrace sql` without a query lists what there is"
            ) from error

    def rows(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return a query's column names and rows."""
        result = self.query(sql)
        names = [column[0] for column in result.description or ()]
        return names, result.fetchall()

    def close(self) -> None:
        """Let go of connection and files."""
        self._db.close()
        for snapshot in self._snapshots:
            snapshot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _samples(self, folder: Path) -> list[Path]:
        if not folder.is_dir():
            return []
        files = SampleFiles(folder)
        # An epoch that was not committed is not there yet, or never will be.
        committed = max((epoch_of(path) for path in files.state_folder.glob("epoch-*.join")), default=0)
        if not committed:
            return []

        def files_now() -> list[Path]:
            return [path for kind in (LABELS, PAGES) for path in files.paths(kind, up_to=committed)]

        snapshot, paths = take(folder, files_now)
        self._snapshots.append(snapshot)
        return paths

    def _lock(self, paths: list[Path]) -> None:
        self._db.execute("SET allowed_paths = $paths", {"paths": [str(path) for path in paths]})
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")


def contents() -> list[tuple[str, str, str]]:
    """Return what can be asked: (name, kind, what it is), tables first."""
    tables = [(table.name, "table", table.what) for table in SHOWN]
    raw = [
        (RAW, "raw", "every event as it was logged"),
        (
            SAMPLES,
            "samples",
            "posts of pages with their newest labels, as learners read them, if a join runs; inside ids",
        ),
    ]
    return [*tables, *raw, *((view.name, "view", view.what) for view in VIEWS)]


def missing(folder: Path) -> StoreError:
    """Return the error of a home that has no tables yet."""
    return StoreError(
        "tables", value=str(folder), problem="were never built", remedy="run `millrace warehouse build` first"
    )


def _reading_samples(labels: list[Path], pages: list[Path]) -> str:
    if not labels:
        return _NO_SAMPLES
    types = "hive_partitioning = true, hive_types = {'dt': DATE, 'hour': INTEGER}, union_by_name = true"
    # The rule of `millrace.flywheel.sample_tables.newest`: revisions begin anew where the log was heard anew.
    newest = (
        f"SELECT * FROM read_parquet([{_names(labels)}], {types}) "  # noqa: S608 - our own folder
        "QUALIFY row_number() OVER (PARTITION BY request, viewer, post ORDER BY epoch DESC, revision DESC) = 1"
    )
    if not pages:
        return f"SELECT *, NULL::FLOAT AS share FROM ({newest})"  # noqa: S608 - our own query
    shares = (
        "SELECT log_offset AS page_offset, any_value(share) AS share "  # noqa: S608 - our own folder
        f"FROM read_parquet([{_names(pages)}], hive_partitioning = false) GROUP BY ALL"
    )
    return f"FROM ({newest}) LEFT JOIN ({shares}) USING (page_offset)"


def _names(paths: list[Path]) -> str:
    return ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
