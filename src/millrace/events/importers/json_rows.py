"""Lines of JSON objects, plain or gzipped, read row by row in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import DAMAGED, lines_of, open_stream


class JsonLines:
    """A file with one JSON object a line; blank lines are passed over.

    Parameters
    ----------
    file
        Plain or gzipped (told by its first bytes).
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._decoder = msgspec.json.Decoder()

    def rows(self, report: ImportReport) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield ``(line, object)`` per readable row; the others go to the report.

        Raises
        ------
        SourceDataError
            If there is no such file.
        """
        with open_stream(self.file) as stream:
            lines = enumerate(lines_of(stream), start=1)
            number = 0
            while True:
                try:
                    number, line = next(lines)
                except StopIteration:
                    return
                except DAMAGED as error:
                    report.n_rows += 1
                    report.leave_out(self.file.name, number + 1, f"the file is damaged from here on: {error}", "")
                    return
                if not line.strip():
                    continue
                report.n_rows += 1
                row = self._object(line)
                if isinstance(row, str):
                    report.leave_out(self.file.name, number, row, line[:200].decode("utf-8", "replace"))
                else:
                    yield number, row

    def _object(self, line: bytes) -> dict[str, Any] | str:
        try:
            row = self._decoder.decode(line)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return "not valid JSON"
        return row if isinstance(row, dict) else "not a JSON object"
