"""The names of sample files: what they say, and which of them count.

A file's name is the epoch that wrote it, ``epoch-0000000012.parquet``; of a merged one it is the first and the last of
those that are in it, ``epoch-0000000003-0000000012.parquet``. A file whose epochs lie within another one's does not
count: so the moment at which a merged file gets its name is the moment at which its parts stop counting, and whatever
kills the process before or after it, each row counts once. As for the warehouse's raw files (`raw_files`).

Only committed epochs are merged, and of these none that a kept checkpoint could be asked to redo: a merged file counts
whatever epoch a reader goes by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PREFIX: Final = "epoch-"
SUFFIX: Final = ".parquet"


def name_of(first: int, last: int) -> str:
    """Return the name of the file of some epochs."""
    return f"{PREFIX}{first:010d}{SUFFIX}" if first == last else f"{PREFIX}{first:010d}-{last:010d}{SUFFIX}"


def epochs_of(path: Path) -> tuple[int, int]:
    """Return the first and the last epoch that a file names."""
    first, _, last = path.name.removeprefix(PREFIX).split(".", 1)[0].partition("-")
    return int(first), int(last or first)


def epoch_of(path: Path) -> int:
    """Return the last epoch that a file names."""
    return epochs_of(path)[1]


def is_merged(path: Path) -> bool:
    """Whether a file holds more than one epoch."""
    first, last = epochs_of(path)
    return first != last


def files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's files that count, in the order of their epochs, and those that lie within others.

    A folder is not read at one moment: while files are merged a listing may miss the merged file, which was not there
    yet, and a part that was gone when its turn came. Two listings that say the same have missed nothing.
    """
    names = _names(folder)
    while (again := _names(folder)) != names:
        names = again
    counting: list[Path] = []
    within: list[Path] = []
    last_counted = -1
    for path in sorted((folder / name for name in names), key=lambda path: (epochs_of(path)[0], -epochs_of(path)[1])):
        last = epoch_of(path)
        (counting if last > last_counted else within).append(path)
        last_counted = max(last, last_counted)
    return counting, within


def _names(folder: Path) -> frozenset[str]:
    try:
        names = frozenset(path.name for path in folder.iterdir())
    except FileNotFoundError:  # retention
        return frozenset()
    return frozenset(name for name in names if name.startswith(PREFIX) and name.endswith(SUFFIX))
