"""`SampleCompaction`: the many small files of an hour of samples as one, or as few of bounded size.

The join writes an epoch about every 20 seconds, which is 180 files an hour and kind. An hour that lies further back
than anything belongs to it (the join's watermark, less what it remembers) is merged. Rows stay as they are, each with
its epoch; what comes to such an hour after all lies beside the merged file, and is merged the next time. Readers see
the merged file or its parts, never both (`sample_names`), and the join has its turn between two hours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from millrace.base.errors import StoreError
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.sample_files import HOUR_MS, LABELS, PAGES, SampleFiles, read_tables
from millrace.flywheel.sample_names import epoch_of, epochs_of, files_in, name_of

if TYPE_CHECKING:
    import pyarrow as pa

MERGED_BYTES: Final = 32 << 20
"""Files are merged to about this size: erasures and learners hold a file at a time."""

logger = logging.getLogger(__name__)


class SampleCompaction:
    """Merges the files of samples, in whatever process.

    Parameters
    ----------
    files
        All of them.
    late_ms
        How long the join remembers a page (``[flywheel.join] late_ms``).
    max_bytes
        Files are merged to about this size.
    """

    def __init__(self, files: SampleFiles, late_ms: int, *, max_bytes: int = MERGED_BYTES) -> None:
        self._files = files
        self._checkpoints = JoinCheckpoints(files.state_folder)
        self._late_ms = late_ms
        self._max_bytes = max_bytes

    def merge(self, *, min_files: int = 2) -> int:
        """Merge what is old enough; return how many files are gone. An hour that cannot be read is told of, and left.

        Parameters
        ----------
        min_files
            Hours of fewer files are left alone.

        Raises
        ------
        StoreError
            If a merged file cannot be written; its parts still count.
        """
        if self._checkpoints.oldest_head() is None:
            return 0
        folders = [folder for kind in (LABELS, PAGES) for folder in self._files.partitions(kind)]
        return sum(self._merge_hour(folder, min_files) for folder in folders)

    def _merge_hour(self, folder: Path, min_files: int) -> int:
        with self._files.locked():
            # The oldest: what the join may go back to, should the newest be damaged, it writes and publishes again.
            head = self._checkpoints.oldest_head()
            if head is None or (self._files.hour_of(folder) + 1) * HOUR_MS > head.watermark_ms - self._late_ms:
                return 0
            n_gone = self._files.remove_parts(folder)
            paths = [path for path in files_in(folder)[0] if epoch_of(path) < head.epoch]
            if len(paths) < max(min_files, 2):
                return n_gone
            for group in self._groups(paths):
                try:
                    runs = _alike(group)
                except StoreError as error:
                    logger.warning("is not merged: %s", error)
                    continue
                for merged, parts in runs:
                    self._write(folder, merged, parts)
                    n_gone += len(parts) - 1
        return n_gone

    def _groups(self, paths: list[Path]) -> Iterator[list[Path]]:
        group: list[Path] = []
        n_bytes = 0
        for path in paths:
            size = path.stat().st_size
            if group and n_bytes + size > self._max_bytes:
                yield group
                group, n_bytes = [], 0
            group.append(path)
            n_bytes += size
        yield group

    def _write(self, folder: Path, merged: pa.Table, parts: list[Path]) -> None:
        path = folder / name_of(epochs_of(parts[0])[0], epoch_of(parts[-1]))
        try:
            self._files.replace(path, merged)
        except OSError as error:
            raise StoreError(
                "sample files",
                value=str(path),
                problem=f"cannot be written ({error.strerror or error})",
                remedy="make room on the disk and check permissions; nothing is lost, the small files count",
            ) from error
        self._files.remove_parts(folder)


def _alike(paths: list[Path]) -> list[tuple[pa.Table, list[Path]]]:
    """Return tables of consecutive files that have the same columns, two files at least, and the files.

    Other columns are other actions: what a file did not know is not in it, and no zeros are put there.
    """
    import pyarrow as pa

    runs: list[tuple[list[pa.Table], list[Path]]] = []
    for path in paths:
        for _, table in read_tables([path]):
            if not runs or not runs[-1][0][0].schema.equals(table.schema):
                runs.append(([], []))
            runs[-1][0].append(table)
            runs[-1][1].append(path)
    return [(pa.concat_tables(tables).combine_chunks(), parts) for tables, parts in runs if len(parts) > 1]
