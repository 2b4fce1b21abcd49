"""Delimited text, plain or gzipped, read row by row in constant memory; what cannot be read is reported, not hidden."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Literal

from millrace.base.errors import SourceDataError
from millrace.events.importers.report import ImportReport

_GZIP_MAGIC: Final = b"\x1f\x8b"
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error, OSError)
MAX_LINE_BYTES: Final = 4 << 20
"""A longer line is cut: no file makes us hold more than this."""


def find_file(path: Path, name: str) -> Path:
    """Return the file ``name`` or ``name.gz`` in a folder; a path to a file is taken as it is.

    Raises
    ------
    SourceDataError
        If there is no such file.
    """
    if path.is_file():
        return path
    for candidate in (path / name, path / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise SourceDataError(
        "import path",
        value=str(path),
        problem=f"holds no {name} or {name}.gz",
        remedy="give the data set's folder, or the file itself",
    )


class Table:
    """A delimited text file with a header line.

    Parameters
    ----------
    file
        Plain or gzipped (told by its first bytes).
    columns
        The header's names in the order in which values are wanted.
    delimiter
        ``","`` (quoted CSV, fields may hold newlines) or a tab (never quoted).
    fallback_encoding
        For files that are not UTF-8; None reports such rows as unreadable.
    """

    def __init__(
        self, file: Path, columns: Sequence[str], *, delimiter: str = ",", fallback_encoding: str | None = None
    ) -> None:
        self.file = file
        self.columns = tuple(columns)
        self._delimiter = delimiter
        self._fallback = fallback_encoding

    def rows(self, report: ImportReport) -> Iterator[tuple[int, list[str]]]:
        """Yield ``(line, values)`` per readable row; the others go to the report.

        Raises
        ------
        SourceDataError
            If the file cannot be opened or has not the header expected.
        """
        try:
            with self.file.open("rb") as raw:
                yield from self._rows(_uncompressed(raw), report)
        except FileNotFoundError as error:
            raise SourceDataError(
                "import file", value=str(self.file), problem="does not exist", remedy="check the path"
            ) from error

    def _rows(self, stream: BinaryIO, report: ImportReport) -> Iterator[tuple[int, list[str]]]:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._delimiter == "," else csv.QUOTE_NONE
        # Bytes that are not UTF-8 pass as lone surrogates, so that only the row that holds them is lost.
        lines = self._lines(stream)
        reader = csv.reader(lines, delimiter=self._delimiter, quoting=quoting)
        order: list[int] | None = None
        n_columns = 0
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except _DAMAGED as error:
                if order is None:
                    raise self._wrong_header([], f"cannot be read ({error})") from error
                report.n_rows += 1
                report.leave_out(self.file.name, reader.line_num, f"the file is damaged from here on: {error}", "")
                return
            except csv.Error as error:
                report.n_rows += 1
                report.leave_out(self.file.name, reader.line_num, f"not valid delimited text: {error}", "")
                continue
            if order is None:
                order, n_columns = self._order(row), len(row)
                continue
            if not row:
                continue
            report.n_rows += 1
            if len(row) != n_columns:
                reason = f"{n_columns} columns expected"
            elif not _is_text(row):
                reason = "not valid UTF-8"
            else:
                yield reader.line_num, [row[i] for i in order]
                continue
            report.leave_out(self.file.name, reader.line_num, reason, self._delimiter.join(row))
        if order is None:
            raise self._wrong_header([], "is empty")

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        while line := stream.readline(MAX_LINE_BYTES):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                if self._fallback is not None:
                    yield line.decode(self._fallback, "replace")
                else:
                    yield line.decode("utf-8", "surrogateescape")

    def _order(self, header: list[str]) -> list[int]:
        names = [name.strip().lstrip("\ufeff") for name in header]
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise self._wrong_header(header, f"has no column {', '.join(missing)}")
        return [names.index(name) for name in self.columns]

    def _wrong_header(self, header: list[str], problem: str) -> SourceDataError:
        return SourceDataError(
            f"import file {self.file.name}",
            value=self._delimiter.join(header),
            problem=problem,
            remedy=f"its first line must name {', '.join(self.columns)}",
        )


def _uncompressed(raw: BinaryIO) -> BinaryIO:
    magic = raw.read(2)
    raw.seek(0)
    if magic == _GZIP_MAGIC:
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), buffer_size=1 << 16)
    return raw


def _is_text(row: list[str]) -> bool:
    try:
        for value in row:
            if not value.isascii():
                value.encode()
    except UnicodeEncodeError:
        return False
    return True
