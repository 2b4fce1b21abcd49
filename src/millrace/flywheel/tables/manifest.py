"""`Manifest`: which files the tables consist of, and how much of the raw events is in them.

One file says both, and is replaced as a whole: a build that was killed has changed nothing, and a reader sees the
tables before it or after it. Files that no manifest names are of a build that was killed, or of before the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from millrace.base.atomic_file import replacing
from millrace.base.errors import StoreError

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
"""Raised when tables must be made anew."""


class TableFile(msgspec.Struct, frozen=True, array_like=True):
    """One Parquet file of a table: ``dt=2027-01-15/hour=08/g3-0.parquet`` below the table's folder."""

    path: str
    n_rows: int
    n_bytes: int

    @property
    def partition(self) -> str:
        """The folder: ``dt=2027-01-15/hour=08``."""
        return self.path.rpartition("/")[0]

    @property
    def day(self) -> str:
        """The day: ``2027-01-15``."""
        return self.path[3:].partition("/")[0]

    @property
    def hour(self) -> int:
        """Hours since 1970 up to the partition's beginning; of a daily table, the day's."""
        from datetime import date

        hour = self.path.partition("hour=")[2][:2]
        return (date.fromisoformat(self.day) - date(1970, 1, 1)).days * 24 + int(hour or 0)


class Manifest(msgspec.Struct, frozen=True):
    """What the tables are.

    Attributes
    ----------
    position
        Log offset up to which raw events are in them.
    generation
        Counts builds; part of file names.
    files
        Files by table.
    floors
        By table, the day before which retention has removed partitions: nothing older is made again.
    """

    format: int = FORMAT
    position: int = 0
    generation: int = 0
    files: dict[str, list[TableFile]] = {}
    floors: dict[str, str] = {}

    def of(self, table: str) -> list[TableFile]:
        """Return a table's files."""
        return self.files.get(table, [])

    def paths(self, root: Path) -> set[Path]:
        """Return where all files are."""
        return {root / table / file.path for table, files in self.files.items() for file in files}

    def with_partitions(self, table: str, partitions: Iterable[str], files: Iterable[TableFile]) -> Manifest:
        """Return the manifest with some partitions of a table consisting of these files and no others."""
        gone = set(partitions)
        kept = [file for file in self.of(table) if file.partition not in gone]
        new = sorted([*kept, *files], key=lambda file: file.path)
        return msgspec.structs.replace(self, files={**self.files, table: new})


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of a folder; an empty one where there is none, or one of an older format.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    path = root / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Manifest()
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(
            "tables' manifest",
            value=str(path),
            problem=f"is damaged ({error})",
            remedy="remove the folder; `millrace warehouse build` makes the tables anew",
        ) from error
    return manifest if manifest.format == FORMAT else Manifest()


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Make a manifest the one that counts."""
    root.mkdir(parents=True, exist_ok=True)
    with replacing(root / MANIFEST) as file:
        file.write(msgspec.json.encode(manifest))
