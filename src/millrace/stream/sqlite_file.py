"""The file of a `SqliteLog`: its tables, its connections, and its errors in our words."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from millrace.base.errors import LogError, LogFullError

FORMAT_VERSION: Final = 1
_APPLICATION_ID: Final = 0x4D4C4F47  # "MLOG"
_PAGE_BYTES: Final = 8192
_WAL_CHECKPOINT_PAGES: Final = 2048
_OPEN_ATTEMPTS: Final = 100
_NEARLY_FULL_BYTES: Final = 1 << 20

# A row of `batches` is one append, or a part of a large one: its records stand side by side in five blobs. Rows
# are keyed by the offset after their last record, so that the row of any offset is one step in the index.
# `event_ids` has its own rows because the duplicate window outlives the trimming of records.
_TABLES: Final = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE topics (code INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE batches (
  end_offset INTEGER PRIMARY KEY,
  n INTEGER NOT NULL,
  appended_ms INTEGER NOT NULL,
  topics BLOB NOT NULL,      -- int16 each
  partitions BLOB NOT NULL,  -- uint16 each
  lengths BLOB NOT NULL,     -- uint32 each; 0 for a purged record
  data BLOB NOT NULL
);
CREATE TABLE event_ids (end_offset INTEGER PRIMARY KEY, digests BLOB NOT NULL);
CREATE TABLE commits (group_name TEXT PRIMARY KEY, offsets BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letters (
  letter_id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL,
  origin TEXT NOT NULL,
  reason TEXT NOT NULL,
  refused_at_ms INTEGER NOT NULL,
  data BLOB NOT NULL
);
CREATE TABLE dead_letter_totals (n INTEGER NOT NULL, n_bytes INTEGER NOT NULL, n_dropped INTEGER NOT NULL);
INSERT INTO dead_letter_totals VALUES (0, 0, 0);
CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letters BEGIN
  UPDATE dead_letter_totals SET n = n + 1, n_bytes = n_bytes + length(new.data);
END;
CREATE TRIGGER dead_letter_removed AFTER DELETE ON dead_letters BEGIN
  UPDATE dead_letter_totals SET n = n - 1, n_bytes = n_bytes - length(old.data);
END;
"""


class LogFile:
    """Opens connections to one log file, making the file first where it does not exist.

    Parameters
    ----------
    path
        The file; SQLite keeps ``-wal`` and ``-shm`` beside it.
    settings
        What belongs to the file; written into a new one, compared with an existing one.
    busy_timeout_ms
        How long to wait for another process's transaction.
    """

    def __init__(self, path: Path, settings: dict[str, int], busy_timeout_ms: int) -> None:
        self.path = path
        self._busy_timeout_ms = busy_timeout_ms
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.errors("opened"), contextlib.closing(self._connect()) as connection, transaction(connection):
            self._check_format(connection)
            self._check_settings(connection, settings)

    log_id: str
    """Drawn when the file was made: tells this log from any other."""

    def connect(self, *, erases: bool = False) -> sqlite3.Connection:
        """Return a new connection.

        Parameters
        ----------
        erases
            Overwrite what is deleted with zeros (trim and purge: what was erased must not stay in free pages).
        """
        with self.errors("opened"):
            connection = self._connect()
            connection.execute(f"PRAGMA secure_delete = {'ON' if erases else 'OFF'}")
            return connection

    def n_free_bytes(self) -> int:
        """Return the free room of the file's disk, in bytes.

        Raises
        ------
        LogError
            If the disk does not say.
        """
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise LogError(
                "log file",
                value=str(self.path),
                problem=f"the free room of its disk cannot be found out ({error.strerror or error})",
                remedy="check that its folder is there and its disk is mounted, then try again",
            ) from error

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log, in bytes."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def errors(self, done: str) -> Iterator[None]:
        """Turn SQLite's errors into ours: the log could not be ``done`` ("written", "read")."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._our_error(error, done) from error

    def _our_error(self, error: sqlite3.Error, done: str) -> LogError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # A disk that fills up while the shared index grows or a sync runs is reported as an I/O error.
        is_full = code == sqlite3.SQLITE_FULL
        if code == sqlite3.SQLITE_IOERR:
            with contextlib.suppress(LogError):
                is_full = self.n_free_bytes() < _NEARLY_FULL_BYTES
        if is_full:
            return LogFullError(
                "log file",
                value=str(self.path),
                problem=f"no room left ({error}); nothing was changed",
                remedy="free disk space or trim the log, then try again",
            )
        remedies = {
            sqlite3.SQLITE_BUSY: "look for a process that holds the log open in a long transaction, or raise "
            "log.busy_timeout_ms",
            sqlite3.SQLITE_CORRUPT: "restore the log from a backup (millrace restore)",
            sqlite3.SQLITE_NOTADB: "check the path: this is no log file",
            sqlite3.SQLITE_READONLY: "check the permissions of the file and its folder",
            sqlite3.SQLITE_CANTOPEN: "check that the folder exists and may be written to",
        }
        return LogError(
            "log file",
            value=str(self.path),
            problem=f"cannot be {done} ({error})",
            remedy=remedies.get(code, "check the disk, its quota and the file's permissions, then try again"),
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_ms / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_CHECKPOINT_PAGES}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _check_format(self, connection: sqlite3.Connection) -> None:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if (application_id, version) == (_APPLICATION_ID, FORMAT_VERSION):
            return
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LogError(
                "log file",
                value=str(self.path),
                problem="not a Millrace log"
                if application_id != _APPLICATION_ID
                else f"of format {version}, this version reads {FORMAT_VERSION}",
                remedy="give the path of a log, or of a file that does not exist yet",
            )
        for statement in _statements(_TABLES):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    def _check_settings(self, connection: sqlite3.Connection, settings: dict[str, int]) -> None:
        known = dict(connection.execute("SELECT name, value FROM settings"))
        for name, value in settings.items():
            if known.get(name, value) != value:
                raise LogError(
                    f"log setting {name}",
                    value=value,
                    problem=f"the log {self.path.name} was made with {known[name]}",
                    remedy=f"set log.{name} = {known[name]}, or begin a new log",
                )
        missing = [(name, value) for name, value in settings.items() if name not in known]
        if "log_id" not in known:
            missing.append(("log_id", secrets.randbits(62)))
        connection.executemany("INSERT INTO settings VALUES (?, ?)", missing)
        (log_id,) = connection.execute("SELECT value FROM settings WHERE name = 'log_id'").fetchone()
        self.log_id = f"{log_id:016x}"


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Run a block as one transaction; whatever interrupts it rolls it back."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself after some errors
            connection.execute("ROLLBACK")
        raise


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Put a database into WAL mode; other processes may be making the same file right now."""
    # The switch needs the file for itself for a moment and does not wait for it, whatever the timeout: two
    # processes that make the file at the same time meet here.
    for attempt in range(_OPEN_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == _OPEN_ATTEMPTS - 1:
                raise
            time.sleep(0.02)
        else:
            return


def _statements(script: str) -> Iterator[str]:
    # Not executescript: it would end the transaction that makes the tables all or none.
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
