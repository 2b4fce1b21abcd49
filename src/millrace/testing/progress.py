"""Progress that nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SilentStep:
    """A line of progress that is not shown (`millrace.app.commands.printing.Step`)."""

    def advance(self, n: int = 1) -> None:
        """Take that ``n`` more are done."""

    def total(self, n: int | None) -> None:
        """Take how many there will be."""

    def at(self, n: int, what: str) -> None:
        """Take how many are done."""


@contextmanager
def in_silence(_what: str) -> Iterator[SilentStep]:
    """Show nothing, in the place of `millrace.app.commands.printing.progress`."""
    yield SilentStep()
