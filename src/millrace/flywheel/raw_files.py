"""The names of the warehouse's raw files: what they say, and which of them count.

A raw file's name is the range of log offsets that it was made from. In one folder ranges do not overlap, except for a
moment while files are merged: the merged file has its name before its parts lose theirs. A file whose range lies within
another one's therefore does not count. Files that begin at or beyond the exported position are of an export that
has not ended, and do not count either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class RawFile:
    """One file and what its name says.

    Attributes
    ----------
    folder
        ``topic=…/dt=…``.
    first, end
        Log offsets: the first, and one behind the last.
    """

    folder: Path
    first: int
    end: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / f"{self.first:012d}-{self.end:012d}.parquet"

    @property
    def day(self) -> str:
        """The day of its events: ``2027-01-15``."""
        return self.folder.name.removeprefix("dt=")

    @property
    def topic(self) -> str:
        """The topic of its events."""
        return self.folder.parent.name.removeprefix("topic=")


def raw_files(root: Path) -> list[RawFile]:
    """Return all raw files, those that do not count among them, by folder and offset."""
    return sorted(_named(root))


def counting(files: list[RawFile], position: int) -> Iterator[RawFile]:
    """Yield the files that count, given all of them in order and the exported position."""
    for _, of_folder in groupby(files, key=lambda file: file.folder):
        end = -1
        # A merged file comes before those of its parts that begin where it begins.
        for file in sorted(of_folder, key=lambda file: (file.first, -file.end)):
            if file.first < position and file.end > end:
                end = file.end
                yield file


def _named(root: Path) -> Iterator[RawFile]:
    for path in root.glob("topic=*/dt=*/*.parquet"):
        first, dash, end = path.stem.partition("-")
        if dash and first.isdigit() and end.isdigit():
            yield RawFile(path.parent, int(first), int(end))
