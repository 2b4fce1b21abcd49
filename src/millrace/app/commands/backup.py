"""``millrace backup`` and ``millrace restore``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings
from millrace.app.settings import CONFIG_NAME

if TYPE_CHECKING:
    from millrace.app.backup import BackupReport


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Where to; must not exist yet.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a home's data to a new folder, consistent, without stopping service.

    Example: millrace backup ../backups/monday
    """
    from millrace.app.backup import make_backup
    from millrace.app.commands.printing import notes, print_json

    settings = open_settings(home)
    with notes().status("copying …") as status:
        report = make_backup(settings, target, lambda name: status.update(f"copying {name} …"))
    if as_json:
        print_json(report)
    else:
        _print("Backed up to", report)


def restore(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder that `millrace backup` made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace data that is there; it is kept as data-before-restore-1, -2 …")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup back into a home where no server runs; every file's sum is checked first.

    A home that does not exist yet gets the backup's millrace.toml too.

    Example: millrace restore ../backups/monday --home new-home
    """
    from millrace.app.backup import restore_backup, verify
    from millrace.app.commands.printing import notes, print_json

    if home is not None and not (home / CONFIG_NAME).exists():
        verify(source)  # before anything is made
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / CONFIG_NAME, home / CONFIG_NAME)
    settings = open_settings(home)
    with notes().status("checking …") as status:
        report = restore_backup(
            settings, source, replaces=replace, on_file=lambda name: status.update(f"checking {name} …")
        )
    if as_json:
        print_json(report)
    else:
        _print("Restored to", report)
        if report.replaced_data is not None:
            notes().print(f"The data that was there is in {report.replaced_data}", markup=False, soft_wrap=True)


def _print(what: str, report: BackupReport) -> None:
    from rich.markup import escape

    from millrace.app.commands.printing import count, out, size

    out().print(
        f"{what} [bold]{escape(report.path)}[/]: {count(report.n_files, 'file')}, {size(report.n_bytes)}, "
        f"up to log position {report.log_end:,}"
    )
