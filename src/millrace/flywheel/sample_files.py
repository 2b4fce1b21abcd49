"""`SampleFiles`: the Parquet files of samples, named by the epoch that wrote them.

::

    samples/
      state/epoch-0000000012.join            commits epoch 12 (`millrace.flywheel.join_checkpoint`)
      labels/dt=2027-01-15/hour=08/epoch-0000000012.parquet
      pages/dt=2027-01-15/hour=08/epoch-0000000012.parquet

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

if TYPE_CHECKING:
    import pyarrow as pa

HOUR_MS: Final = 3_600_000
STATE: Final = "state"
LABELS: Final = "labels"
PAGES: Final = "pages"
_LOCK_FILE: Final = ".lock"
_UNFINISHED: Final = ".unfinished"
_PREFIX: Final = "epoch-"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SampleFiles:
    """The files in one folder. One process writes epochs; another may rewrite files (erasure), each under the lock.

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
            path = self._partition(kind, int(hours[order[start]])) / f"{_PREFIX}{epoch:010d}.parquet"
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
        """Return the files of committed epochs in the order of their hours, then epochs.

        Parameters
        ----------
        kind
            `LABELS` or `PAGES`.
        up_to
            The newest committed epoch.
        hours
            First hour and the one after the last, counted from 1970; None for all.
        """
        found = []
        for folder in self._partitions(kind):
            if hours is None or hours[0] <= _hour_of(folder) < hours[1]:
                found += [path for path in sorted(folder.glob(f"{_PREFIX}*.parquet")) if epoch_of(path) <= up_to]
        return found

    def remove_after(self, epoch: int) -> int:
        """Remove what belongs to epochs that were not committed, and what was left half written; return how many."""
        n_removed = 0
        for kind in (LABELS, PAGES):
            for path in (self.folder / kind).glob(f"dt=*/hour=*/{_PREFIX}*"):
                if path.name.endswith(_UNFINISHED) or epoch_of(path) > epoch:
                    path.unlink()
                    n_removed += 1
        return n_removed

    def remove_before(self, time_ms: int) -> int:
        """Remove the hours that ended before a moment (retention); return how many folders went."""
        last, n_removed = time_ms // HOUR_MS, 0
        for kind in (LABELS, PAGES):
            for folder in self._partitions(kind):
                if _hour_of(folder) < last:
                    shutil.rmtree(folder, ignore_errors=True)
                    n_removed += 1
        return n_removed

    def newest_epoch_on_disk(self) -> int:
        """Return the largest epoch that any file names, committed or not; 0 if there are none."""
        names = (p for kind in (LABELS, PAGES) for p in (self.folder / kind).glob(f"dt=*/hour=*/{_PREFIX}*.parquet"))
        return max((epoch_of(path) for path in names), default=0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have the files to oneself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK_FILE).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _partition(self, kind: str, hour: int) -> Path:
        moment = _EPOCH + timedelta(hours=hour)
        return self.folder / kind / f"dt={moment.date().isoformat()}" / f"hour={moment.hour:02d}"

    def _partitions(self, kind: str) -> list[Path]:
        return sorted((self.folder / kind).glob("dt=*/hour=*"))


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


def epoch_of(path: Path) -> int:
    """Return the epoch that a file names."""
    return int(path.name.removeprefix(_PREFIX).split(".", 1)[0])


def _hour_of(folder: Path) -> int:
    day = datetime.fromisoformat(folder.parent.name.removeprefix("dt=")).replace(tzinfo=UTC)
    return int((day - _EPOCH).total_seconds()) // 3_600 + int(folder.name.removeprefix("hour="))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
