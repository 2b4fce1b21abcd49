"""``millrace sql``: ask the warehouse, raw events, tables and views, by SQL."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings

_MAX_SHOWN = 1_000


def sql(
    query: Annotated[
        str | None, typer.Argument(help="One SELECT or DESCRIBE; - reads it from standard input.", show_default=False)
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with a line of names.")] = False,
) -> None:
    """Answer a SQL query (DuckDB's) over raw events, tables and views; without one, list them.

    All of it is read as it was when the query began, and nothing can be changed. What is wider than the terminal is
    printed as records, a line a column. A running server builds the tables
    about once an hour; `millrace warehouse build` does it at once. Columns and views: docs/warehouse.md.

    Example: millrace sql "select user_group, count(*) from users group by 1"
    """
    from millrace.app.commands.printing import notes
    from millrace.app.warehouse_wiring import build_tables_reader
    from millrace.flywheel.tables.manifest import read_manifest

    settings = open_settings(home)
    if query is None:
        _list(as_json=as_json)
        return
    with build_tables_reader(settings) as reader:
        names, rows = reader.rows(sys.stdin.read() if query == "-" else query)
    _print(names, rows, as_json=as_json, as_csv=as_csv)
    if not rows and not read_manifest(settings.tables_dir).generation:
        notes().print("[yellow]the tables were not built yet: millrace warehouse build[/]")


def _list(*, as_json: bool) -> None:
    from millrace.app.commands.printing import out, print_json, print_table
    from millrace.flywheel.tables.reader import contents
    from millrace.flywheel.tables.views import VIEWS

    if as_json:
        examples = {view.name: view.example for view in VIEWS}
        print_json(
            [
                {
                    "name": name,
                    "kind": kind,
                    "what": what,
                    "example": examples.get(name, f"FROM {name} LIMIT 5"),
                }
                for name, kind, what in contents()
            ]
        )
        return
    print_table("What can be asked", ("name", "kind", "what it is"), contents())
    out().print(f'Columns:  millrace sql "describe interactions"\nExample:  millrace sql "{VIEWS[0].example}"')


def _print(names: list[str], rows: list[tuple[Any, ...]], *, as_json: bool, as_csv: bool) -> None:
    import csv

    from millrace.app.commands.printing import notes, out, print_json, print_records, print_table, table_width

    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    else:
        shown = [[_shown(value) for value in row] for row in rows[:_MAX_SHOWN]]
        if table_width(names, shown) <= out().width:
            print_table("", names, shown)
        else:
            print_records(names, shown)
            notes().print(
                f"its {len(names)} columns are wider than this terminal: a row is a record here, a line a column; "
                "--json and --csv print them as they are"
            )
        if len(rows) > _MAX_SHOWN:
            notes().print(f"{len(rows) - _MAX_SHOWN:,} more rows are not shown; --json and --csv print all")


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
