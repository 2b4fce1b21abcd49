"""``millrace doctor``: looks at everything that can go wrong."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, as_pairs
from millrace.app.settings import find_home, load_settings
from millrace.base.errors import ConfigError, LogError

_CHECK_CHARS = 13
_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "problem": "[red]✗[/]"}


def doctor(home: HomeOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Look at everything that can go wrong here, and say what to do about it.

    Checks packages, disk, config, params, log, dead letters, every checkpoint's sums, content, warehouse, claims,
    traces, models, rank servers, access, time, the server and its port. A fault that several checks meet is told once,
    with a count. Ends with code 1 if there is a problem.

    Example: millrace doctor
    """
    from rich.markup import escape
    from rich.table import Table

    from millrace.app.commands.printing import out, plain, print_json
    from millrace.app.doctor import examine, examine_broken
    from millrace.app.findings import each_once
    from millrace.app.wiring import build_clock, build_event_clock

    folder, pairs = find_home(home, os.environ, Path.cwd()), as_pairs(overrides)
    try:
        settings = load_settings(folder, os.environ, pairs)
        try:
            clock = build_event_clock(settings)
        except (LogError, OSError):  # a virtual clock is read from the log; what is wrong with that is found below
            clock = build_clock()
        findings = each_once(examine(settings, clock))
    except ConfigError as error:
        findings = each_once(examine_broken(folder, error, build_clock()))
    if as_json:
        print_json({"home": str(folder), "findings": findings})
    else:
        console = out()
        console.print(f"[bold]{escape(str(folder))}[/]", soft_wrap=True)
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, min_width=_CHECK_CHARS)
        table.add_column(overflow="fold")
        for finding in findings:
            remedy = f" [dim]→ {escape(plain(finding.remedy))}[/]" if finding.remedy else ""
            words = f"{escape(plain(finding.words))}{remedy}"
            table.add_row(_MARKS[finding.verdict], f"[bold]{finding.check}[/]", words)
        console.print(table)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)
