"""``millrace doctor``: looks at everything that can go wrong."""

from __future__ import annotations

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "problem": "[red]✗[/]"}


def doctor(home: HomeOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Look at everything that can go wrong here, and say what to do about it.

    Checks packages, disk, config, log, dead letters, every checkpoint's sums, content, claims and the port.
    Ends with code 1 if there is a problem.

    Example: millrace doctor
    """
    from rich.markup import escape

    from millrace.app.commands.printing import out, print_json
    from millrace.app.doctor import examine
    from millrace.app.wiring import build_clock

    settings = open_settings(home, overrides)
    findings = list(examine(settings, build_clock()))
    if as_json:
        print_json({"home": str(settings.home), "findings": findings})
    else:
        console = out()
        console.print(f"[bold]{escape(str(settings.home))}[/]")
        for finding in findings:
            line = f"{_MARKS[finding.verdict]} [bold]{finding.check:<13}[/] {escape(finding.detail)}"
            console.print(line + (f" [dim]→ {escape(finding.remedy)}[/]" if finding.remedy else ""))
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)
