"""Files of the public sets, plain or gzipped, as lines and as columns of whole numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from millrace.events.importers.rows import find_file, open_stream
from millrace.simulator.marginals.statistics import Int64Array


def lines(folder: Path, name: str) -> Iterator[str]:
    """Yield the lines of ``name`` or ``name.gz`` without their ends; bytes that are no text are replaced."""
    with open_stream(find_file(folder, name)) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="\n"):
            yield line.rstrip("\r\n")


def records(folder: Path, name: str) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, its header included; quoted fields may hold line ends."""
    with open_stream(find_file(folder, name)) as stream:
        yield from csv.reader(io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline=""))


def numbers(
    folder: Path, name: str, columns: tuple[int, ...], *, separator: str | None, n_header: int
) -> list[Int64Array]:
    """Return whole-number columns of a delimited file, shape (n,) each.

    Parameters
    ----------
    columns
        Which, from 0.
    separator
        Between fields; None: blanks.
    n_header
        Lines to pass over.
    """
    with open_stream(find_file(folder, name)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
        table = np.loadtxt(text, dtype=np.float64, delimiter=separator, skiprows=n_header, usecols=columns, ndmin=2)
    return [table[:, at].astype(np.int64) for at in range(len(columns))]
