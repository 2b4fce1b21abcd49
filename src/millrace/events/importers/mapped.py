"""``jsonl`` and ``csv``: any file with a row for each thing that happened, read by a mapping of the operator's.

Nothing is made by seed. Before the first event, the first rows are tried: a mapping that does not fit the file is
refused with everything that is wrong. Memory: one row, or, where the file is not in order of time, those of one slice
of time (`millrace.events.importers.ordering`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from millrace.base.errors import ConfigError, SourceDataError
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.importers.json_rows import JsonLines
from millrace.events.importers.map_file import FileMap
from millrace.events.importers.map_rules import CompiledRule, Made, Row, RowError, value_at
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.ordering import TimeSurvey, in_time_order
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table
from millrace.events.importers.timeline import Teller, TimeMap

FileKind = Literal["jsonl", "csv"]

DEFAULT_CHECK_ROWS: Final = 1_000
_SHOWN_COLUMNS: Final = 40


@dataclass(slots=True)
class _Trial:
    """What trying one rule on the first rows has shown."""

    n_applied: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    line_by_reason: dict[str, int] = field(default_factory=dict)


class MappedFile:
    """A file and its mapping, tried on the file's first rows.

    Parameters
    ----------
    kind
        ``"jsonl"`` or ``"csv"``.
    file
        Plain or gzipped.
    file_map
        From `millrace.events.importers.map_file.load_map`.
    codec
        Makes payloads.
    options
        Moment and span; seed and ``n_viewers`` are not used.
    check_rows
        So many rows are tried.

    Raises
    ------
    ConfigError
        If the mapping does not fit: columns that are not there, or a rule that cannot use most of its rows.
    SourceDataError
        If the file cannot be read, or none of the rows tried can.
    """

    def __init__(
        self,
        kind: FileKind,
        file: Path,
        file_map: FileMap,
        codec: EventCodec,
        options: ImportOptions,
        *,
        check_rows: int = DEFAULT_CHECK_ROWS,
    ) -> None:
        self._file = file
        self._map = file_map
        self._options = options
        self._rules = [
            CompiledRule(rule, codec, now_ms=options.now_ms, is_text=kind == "csv") for rule in file_map.events
        ]
        self._table: Table | None = None
        if kind == "csv":
            has_header = file_map.columns is None
            self._table = Table(file, file_map.columns or (), delimiter=file_map.delimiter, has_header=has_header)
            self._check_columns(self._table.header() if file_map.columns is None else file_map.columns)
            if has_header:
                self._table = Table(file, file_map.columns_read(), delimiter=file_map.delimiter)
        self._try(check_rows)

    def events(self, report: ImportReport) -> Iterator[AnyEvent]:
        """Yield the events: those of rules without a time first, at the earliest time of the file, then by time."""
        survey = TimeSurvey()
        for made in self._made(survey.report):
            for time_ms in dict.fromkeys(one.time_ms for one in made):
                if time_ms is not None:
                    survey.add(time_ms)
        report.expect(survey.report)
        times = TimeMap.of(self._options, survey.first_ms, survey.last_ms)
        teller = Teller(f"importer/{self._map.name}", self._options, report)
        if any(rule.rule.time is None for rule in self._rules):
            start_ms = times.event_time_ms(survey.first_ms) if survey.n else self._options.now_ms
            for made in self._made(ImportReport()):
                report.n_rows += made[0].time_ms is None
                for one in made:
                    if one.time_ms is None:
                        yield teller.tell(start_ms, one.payload, one.key)
        for original_ms, row in in_time_order(self._timed, survey):
            made = self._made_of(row)
            # Counted once, with its first event, though a row may have several times.
            report.n_rows += bool(made) and made[0].time_ms == original_ms
            for one in made:
                if one.time_ms == original_ms:
                    yield teller.tell(times.event_time_ms(original_ms), one.payload, one.key)

    def _timed(self) -> Iterator[tuple[int, Row]]:
        """Yield ``(time_ms, row)`` for each time that a row has; whether the rest of it can be used is seen later."""
        for _, row in self._rows(ImportReport()):
            try:
                found = dict.fromkeys(rule.time_ms(row) for rule in self._rules if rule.applies(row))
            except RowError:
                continue
            for time_ms in found:
                if time_ms is not None:
                    yield time_ms, row

    def _made_of(self, row: Row) -> list[Made]:
        """Return what a row gives; nothing where a rule cannot use its part."""
        try:
            return [rule.make(row) for rule in self._rules if rule.applies(row)]
        except RowError:
            return []

    def _rows(self, report: ImportReport) -> Iterator[tuple[int, Row]]:
        if self._table is None:
            yield from JsonLines(self._file).rows(report)
            return
        columns = self._table.columns
        for line, values in self._table.rows(report):
            yield line, dict(zip(columns, (value.strip() for value in values), strict=True))

    def _made(self, report: ImportReport) -> Iterator[list[Made]]:
        """Yield what each row gives, at least one event; a row of which a rule cannot use its part gives none."""
        for line, row in self._rows(report):
            try:
                made = [rule.make(row) for rule in self._rules if rule.applies(row)]
            except RowError as error:
                report.leave_out(self._file.name, line, str(error), _excerpt(row))
                continue
            if made:
                yield made
            else:
                report.n_unmatched += 1

    def _try(self, check_rows: int) -> None:
        report = ImportReport()
        trials = [_Trial() for _ in self._rules]
        wanted: dict[str, bool] = {}
        there: dict[str, None] = {}
        n_rows = 0
        for line, row in islice(self._rows(report), check_rows):
            n_rows += 1
            there.update(dict.fromkeys(_names(row)) if len(there) < _SHOWN_COLUMNS else {})
            for rule, trial in zip(self._rules, trials, strict=True):
                if rule.applies(row):
                    _try_rule(rule, row, line, trial)
                    for column in rule.rule.columns_needed():
                        wanted[column] = wanted.get(column, False) or value_at(row, column) is not None
        if not n_rows:
            reasons = ", ".join(report.n_unreadable_by_reason) or "there are none"
            raise SourceDataError(
                "import file",
                value=str(self._file),
                problem=f"none of its rows can be read ({reasons})",
                remedy="check the file, and whether it is of the kind that you name",
            )
        problems = [problem for rule, trial in zip(self._rules, trials, strict=True) for problem in _said(rule, trial)]
        if self._table is None and not all(wanted.values()):
            missing = [column for column, is_found in wanted.items() if not is_found]
            problems.insert(
                0,
                f"none of the first {n_rows} rows has {', '.join(missing)}; they have {', '.join(there)}; "
                "what is seldom there needs a default, or a larger --check-rows",
            )
        elif not any(trial.n_applied for trial in trials):
            problems.append(f"no rule applies to any of the first {n_rows} rows; check `when`")
        self._refuse(problems)

    def _check_columns(self, there: list[str] | tuple[str, ...]) -> None:
        missing = [column for column in self._map.columns_read() if column not in there]
        if missing:
            noun = "column" if len(missing) == 1 else "columns"
            self._refuse([f"no {noun} {', '.join(missing)}; there are {', '.join(there[:_SHOWN_COLUMNS])}"])

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise ConfigError(
                "map file",
                problem=f"does not fit {self._file.name}: {' | '.join(problems)}",
                remedy="correct it; nothing was written",
                problems=tuple(f"{self._file.name}: {problem}" for problem in problems),
            )


def _try_rule(rule: CompiledRule, row: Row, line: int, trial: _Trial) -> None:
    trial.n_applied += 1
    try:
        rule.make(row)
    except RowError as error:
        trial.reasons[str(error)] += 1
        trial.line_by_reason.setdefault(str(error), line)


def _said(rule: CompiledRule, trial: _Trial) -> Iterator[str]:
    """Yield what is wrong with a rule: it cannot use more than half of the rows to which it applies."""
    n_failed = trial.reasons.total()
    if 2 * n_failed > trial.n_applied:
        reason, _ = trial.reasons.most_common(1)[0]
        yield (
            f"{rule.rule.type} cannot use {n_failed} of the {trial.n_applied} rows to which it applies; "
            f"line {trial.line_by_reason[reason]}: {reason.removeprefix(f'{rule.rule.type}: ')}"
        )


def _names(row: Row, prefix: str = "") -> Iterator[str]:
    """Yield the columns of a row, those of objects by their path."""
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _excerpt(row: Row) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items())
