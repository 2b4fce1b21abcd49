"""``millrace warehouse``: the log's events as Parquet, for SQL and learning."""

from __future__ import annotations

import typer

from millrace.app.commands import warehouse_tables
from millrace.app.commands.options import HomeOption, JsonOption, open_settings

app = typer.Typer(help="The log's events as Parquet files, and the tables made of them.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def export(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Export what the log holds beyond the last export: one folder a topic and day.

    A running server does this by itself, about once a minute. Read the files with any tool:
    duckdb -c "select topic, count(*) from 'data/warehouse/*/*/*.parquet' group by 1"

    Example: millrace warehouse export
    """
    from millrace.app.commands.printing import count, notes, out, print_json
    from millrace.app.wiring import build_codec, build_log
    from millrace.flywheel.warehouse import Warehouse

    settings = open_settings(home)
    log = build_log(settings)
    with notes().status("exporting the log …"):
        report = Warehouse(settings.warehouse_dir, build_codec(settings)).export(log)
    log.close()
    if as_json:
        print_json(
            {
                "n_events": report.n_events,
                "n_files": report.n_files,
                "position": report.position,
                "folder": str(settings.warehouse_dir),
            }
        )
        return
    out().print(
        f"{count(report.n_events, 'event')} written to {count(report.n_files, 'file')} in {settings.warehouse_dir}"
    )


app.command("build")(warehouse_tables.build)
app.command("compact")(warehouse_tables.compact)
app.command("retain")(warehouse_tables.retain)
app.command("postgres")(warehouse_tables.postgres)
