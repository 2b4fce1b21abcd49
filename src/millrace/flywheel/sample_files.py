"""`SampleFiles`: the Parquet files of samples, named by the epoch that wrote them.

::

    samples/
      state/epoch-0000000012.join            commits epoch 12 (`millrace.flywheel.join_checkpoint`)
      labels/dt=2027-01-15/hour=08/epoch-0000000012.parquet
      pages/dt=2027-01-15/hour=08/epoch-0000000012.parquet
      pages/dt=2027-01-14/hour=08/epoch-0000000003-0000000009.parquet      merged (`sample_compaction`)

Partitions are by the time at which the page was made, so a page and all revisions of its labels lie in one hour.
Files are written before their epoch is committed. Those of an epoch that never was are removed at the next start, and
readers pass over them: whatever kills the process, an epoch is there whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.events.envelope import MAX_TIME_MS
from millrace.flywheel.sample_names import PREFIX, SUFFIX, epoch_of, files_in, is_merged, name_of

if TYPE_CHECKING:
    import pyarrow as pa

HOUR_MS: Final = 3_600_000
STATE: Final = "state"
LABELS: Final = "labels"
PAGES: Final = "pages"
_LOCK_FILE: Final = ".lock"
_UNFINISHED: Final = ".unfinished"
_MAX_TRIES: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SampleFiles:
    """The files in one folder. One process writes epochs; others may rewrite and merge files, each under the lock.

    Parameters
    ----------
    folder
        Made when it is first written to.
    at_point
        Told of every step of a write by name, before it is taken; for tests that die there.
    """

    def __init__(self, folder: Path, at_point: Callable[[str], None] = lambda _name: None) -> None:
        self.folder = folder
        self.at_point = at_point

    @property
    def state_folder(self) -> Path:
        """Where the checkpoints are."""
        return self.folder / STATE

    def write(self, kind: str, table: pa.Table, times_ms: Int64Array, epoch: int) -> list[Path]:
        """Write an epoch's rows, an hour a file, durably; not committed yet.

        Parameters
        ----------
        kind
            `LABELS` or `PAGES`.
        table
            n rows.
        times_ms
            Shape (n,): when the page of each was made.
        """
        hours = np.clip(times_ms, 0, MAX_TIME_MS) // HOUR_MS
        order = np.argsort(hours, kind="stable")
        edges = np.flatnonzero(np.diff(hours[order], prepend=-1))
        paths = []
        if len(edges) > 1 or (len(order) and not (order == np.arange(len(order))).all()):
            table = table.take(order)
        for start, stop in zip(edges.tolist(), [*edges[1:].tolist(), len(order)], strict=True):
            path = self._partition(kind, int(hours[order[start]])) / name_of(epoch, epoch)
            self.replace(path, table.slice(start, stop - start))
            paths.append(path)
        return paths

    def replace(self, path: Path, table: pa.Table) -> None:
        """Write one file whole, or not at all; without rows it is removed."""
        import pyarrow.parquet as pq

        if not table.num_rows:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + _UNFINISHED)
        self.at_point("write file")
        # What was logged is compressed already, ids and times gain little: lz4 costs next to nothing.
        is_page = "arrays" in table.column_names
        coded: Any = [name for name in table.column_names if name == "schema" or name.startswith("label_")]
        pq.write_table(
            table,
            unfinished,
            compression={name: "none" if name == "arrays" else "lz4" for name in table.column_names},
            use_dictionary=coded,
            write_statistics=False if is_page else ["page_ms", "request"],
        )
        self.at_point("sync file")
        _sync(unfinished)
        self.at_point("name file")
        unfinished.rename(path)
        _sync(path.parent)

    def paths(self, kind: str, *, up_to: int, hours: tuple[int, int] | None = None) -> list[Path]:
        """Return the files of committed epochs that count, in the order of their hours, then epochs.

        Parameters
        ----------
        kind
            `LABELS` or `PAGES`.
        up_to
            The newest committed epoch.
        hours
            First hour and the one after the last, counted from 1970; None for all.
        """
        return [path for folder in self.partitions(kind, hours) for path in _committed(folder, up_to)]

    def read(self, kind: str, *, up_to: int, hours: tuple[int, int] | None = None) -> Iterator[pa.Table]:
        """Yield the tables of the files that `paths` names, though they are merged or removed while one reads.

        Raises
        ------
        StoreError
            If one cannot be read.
        """
        for folder in self.partitions(kind, hours):
            # Whole or anew: where a file that was listed is gone, another holds its rows by now, or nothing does.
            for _ in range(_MAX_TRIES):
                paths = _committed(folder, up_to)
                tables = read_tables(paths)
                if len(tables) == len(paths):
                    break
            else:
                raise StoreError(
                    "sample files",
                    value=str(folder),
                    problem="are named and not there, however often one looks",
                    remedy="restore the folder from a backup",
                )
            for _, table in tables:
                yield table

    def remove_after(self, epoch: int) -> int:
        """Remove what belongs to epochs that were not committed, and what was left half written; return how many.

        What is merged was committed.
        """
        n_removed = 0
        for kind in (LABELS, PAGES):
            for path in (self.folder / kind).glob(f"dt=*/hour=*/{PREFIX}*"):
                if path.name.endswith(_UNFINISHED) or (epoch_of(path) > epoch and not is_merged(path)):
                    path.unlink()
                    n_removed += 1
        return n_removed

    def remove_before(self, time_ms: int) -> int:
        """Remove the hours that ended before a moment (retention); return how many folders went."""
        last, n_removed = time_ms // HOUR_MS, 0
        for kind in (LABELS, PAGES):
            for folder in self.partitions(kind):
                if self.hour_of(folder) < last:
                    shutil.rmtree(folder, ignore_errors=True)
                    n_removed += 1
        return n_removed

    def remove_parts(self, folder: Path) -> int:
        """Remove the files of an hour that are merged into others, and so do not count; return how many."""
        parts = files_in(folder)[1]
        for path in parts:
            self.at_point("remove part")
            path.unlink()
        return len(parts)

    def newest_epoch_on_disk(self) -> int:
        """Return the largest epoch that any file names, committed or not; 0 if there are none."""
        names = (p for kind in (LABELS, PAGES) for p in (self.folder / kind).glob(f"dt=*/hour=*/{PREFIX}*{SUFFIX}"))
        return max((epoch_of(path) for path in names), default=0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have the files to oneself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK_FILE).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def partitions(self, kind: str, hours: tuple[int, int] | None = None) -> list[Path]:
        """Return the folders of hours, in order; ``hours`` as for `paths`."""
        folders = sorted((self.folder / kind).glob("dt=*/hour=*"))
        return [path for path in folders if hours is None or hours[0] <= self.hour_of(path) < hours[1]]

    @staticmethod
    def hour_of(folder: Path) -> int:
        """Return the hour of a folder, counted from 1970."""
        day = datetime.fromisoformat(folder.parent.name.removeprefix("dt=")).replace(tzinfo=UTC)
        return int((day - _EPOCH).total_seconds()) // 3_600 + int(folder.name.removeprefix("hour="))

    def _partition(self, kind: str, hour: int) -> Path:
        moment = _EPOCH + timedelta(hours=hour)
        return self.folder / kind / f"dt={moment.date().isoformat()}" / f"hour={moment.hour:02d}"


def read_tables(paths: Sequence[Path], columns: list[str] | None = None) -> list[tuple[int, Any]]:
    """Return the tables of files with their epochs; one that was removed meanwhile (erasure) is left out.

    Raises
    ------
    StoreError
        If one cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        try:
            tables.append((epoch_of(path), pq.read_table(path, columns=columns, partitioning=None)))
        except FileNotFoundError:
            continue
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                "sample file",
                value=str(path),
                problem=f"cannot be read ({error})",
                remedy="restore it from a backup, or remove it (its samples are then missing)",
            ) from error
    return tables


def _committed(folder: Path, up_to: int) -> list[Path]:
    return [path for path in files_in(folder)[0] if is_merged(path) or epoch_of(path) <= up_to]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
