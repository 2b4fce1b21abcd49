"""`ImportReport`: what was read, what was made of it, and what could not be read. Filled while events are yielded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

MAX_EXAMPLES: Final = 20
MAX_REASONS: Final = 100
_OTHER_REASONS: Final = "other reasons"
_MAX_EXCERPT_CHARS: Final = 120


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """One row that was left out.

    Attributes
    ----------
    file, line
        Where it ends: a quoted field may run over several lines.
    reason
        Why it could not be used.
    excerpt
        Its beginning.
    """

    file: str
    line: int
    reason: str
    excerpt: str


@dataclass(slots=True)
class ImportReport:
    """Counts of an import, usable for progress while it runs.

    Attributes
    ----------
    n_rows_total
        Rows there are to read, where a first pass has counted them; 0 until then.
    n_rows
        Rows read so far, unreadable ones included.
    n_unreadable, n_unreadable_by_reason, unreadable
        Rows left out: how many, how many for each of the first `MAX_REASONS` reasons, and the first `MAX_EXAMPLES`.
    n_events, n_events_by_type
        Events yielded.
    n_unmatched
        Rows that were read well and of which no rule of a mapping wanted anything.
    composition
        What was made by seed rather than read; to be shown wherever the result is shown.
    """

    n_rows_total: int = 0
    n_rows: int = 0
    n_unreadable: int = 0
    n_unmatched: int = 0
    n_unreadable_by_reason: Counter[str] = field(default_factory=Counter)
    unreadable: list[UnreadableRow] = field(default_factory=list)
    n_events: int = 0
    n_events_by_type: Counter[str] = field(default_factory=Counter)
    composition: str = ""

    @property
    def is_composite(self) -> bool:
        """Whether part of it was made by seed."""
        return bool(self.composition)

    def expect(self, first_pass: ImportReport) -> None:
        """Take over what a first pass has found: how many rows there are, and which of them are unreadable.

        Those, and rows that nobody wanted, count as read already; every other one when it is read again and told.
        """
        self.n_rows_total = self.n_rows + first_pass.n_rows
        self.n_rows += first_pass.n_unreadable + first_pass.n_unmatched
        self.n_unmatched += first_pass.n_unmatched
        self.n_unreadable += first_pass.n_unreadable
        self.n_unreadable_by_reason.update(first_pass.n_unreadable_by_reason)
        self.unreadable.extend(first_pass.unreadable[: MAX_EXAMPLES - len(self.unreadable)])

    def leave_out(self, file: str, line: int, reason: str, row: object) -> None:
        """Count a row that cannot be used; ``reason`` is general, the example is kept beside it."""
        self.n_unreadable += 1
        is_counted = reason in self.n_unreadable_by_reason or len(self.n_unreadable_by_reason) < MAX_REASONS
        self.n_unreadable_by_reason[reason if is_counted else _OTHER_REASONS] += 1
        if len(self.unreadable) < MAX_EXAMPLES:
            excerpt = str(row)[:_MAX_EXCERPT_CHARS].encode("utf-8", "replace").decode()
            self.unreadable.append(UnreadableRow(file, line, reason, excerpt))

    def count_event(self, type_name: str) -> None:
        """Count an event that is being yielded."""
        self.n_events += 1
        self.n_events_by_type[type_name] += 1
