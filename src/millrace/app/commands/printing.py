"""How commands speak: answers on stdout, progress and notes on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import msgspec
from rich.console import Console
from rich.table import Table

from millrace.app.commands.table_widths import column_widths
from millrace.app.human_time import age as age
from millrace.app.human_time import ago as ago

_SHOWN_INSTEAD: Final = "\N{REPLACEMENT CHARACTER}"
_UNPRINTABLE: Final = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), _SHOWN_INSTEAD),  # C0, delete, C1
    **dict.fromkeys(
        (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x2070))
    ),  # bidi controls: left out
    **dict.fromkeys(range(0xD800, 0xE000), _SHOWN_INSTEAD),  # halves of surrogate pairs cannot be encoded
}
"""What other people's texts must not send to a terminal: escape sequences, and orders to show text in disguise.

Letters that run from right to left need no controls, and the joiners of emoji are none of these.
"""


_BORDERS: Final = 3
"""Around a cell: a line to its left, and a blank on either side."""


class Step(Protocol):
    """One line of progress."""

    def advance(self, n: int = 1) -> None:
        """Say that ``n`` more are done."""

    def total(self, n: int | None) -> None:
        """Say how many there will be; None: not known."""

    def at(self, n: int, what: str) -> None:
        """Say that ``n`` are done in all, and what to say beside the bar."""


def out() -> Console:
    """Return the console for answers."""
    return Console(highlight=False)


def notes() -> Console:
    """Return the console for everything that is not the answer."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    out().out(msgspec.json.encode(value, enc_hook=_plain).decode(), highlight=False)


def plain_text(text: str) -> str:
    """Return a text as it may be shown in a terminal: control characters replaced, lines kept."""
    return "\n".join(line.expandtabs(4).translate(_UNPRINTABLE) for line in text.splitlines())


def plain(text: str) -> str:
    """Return a name or a message as it may be shown in a terminal: control characters replaced, on one line."""
    return " ".join(plain_text(text).split("\n"))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers stand to the right. Where it lacks room long texts take many lines, and nothing is cut."""
    console = out()
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", expand=False)
    shown = [[_cell(value) for value in row] for row in rows]
    cells = [[name, *(row[index] for row in shown)] for index, name in enumerate(columns)]
    widths = column_widths(cells, console.width - _BORDERS * len(columns) - 1)
    for index, name in enumerate(columns):
        is_numeric = bool(shown) and all(_is_number(row[index]) for row in shown)
        width = None if widths is None else widths[index]
        table.add_column(name, justify="right" if is_numeric else "left", overflow="fold", width=width)
    for row in shown:
        table.add_row(*row)
    console.print(table)


def print_records(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print each row as a record, a line a column: for tables that are wider than the terminal."""
    from rich.cells import cell_len

    width = max(map(cell_len, columns), default=0)
    for number, row in enumerate(rows, start=1):
        table = Table(
            title=f"row {number:,}",
            title_justify="left",
            title_style="bold",
            show_header=False,
            box=None,
            padding=(0, 2, 0, 0),
        )
        table.add_column(no_wrap=True, min_width=width)
        table.add_column(overflow="fold")
        for name, value in zip(columns, row, strict=True):
            table.add_row(_cell(name), _cell(value))
        out().print(table)


def table_width(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Return how many characters wide `print_table` makes a table that has the room, without its right border."""
    from rich.cells import cell_len

    cells = [[*map(_cell, row)] for row in rows]
    return sum(max(map(cell_len, (name, *(row[i] for row in cells)))) + _BORDERS for i, name in enumerate(columns)) + 1


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Step]:
    """Show a progress bar on stderr while the block runs; quiet where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    console = notes()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        class _Step:
            def advance(self, n: int = 1) -> None:
                bar.advance(task, n)

            def total(self, n: int | None) -> None:
                bar.update(task, total=n)

            def at(self, n: int, what: str) -> None:
                bar.update(task, completed=n, description=what)

        yield _Step()


def count(n: int, noun: str) -> str:
    """Return ``"1 event"``, ``"2,000 events"``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def size(n_bytes: int) -> str:
    """Return a size as a person says it: ``"1.4 MB"``."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _cell(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape("" if value is None else plain(str(value)))


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").lstrip("-").isdigit()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
