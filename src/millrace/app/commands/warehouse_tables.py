"""``millrace warehouse build | compact | retain | postgres``: the tables made of the raw events, and their upkeep."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings


def build(
    home: HomeOption = None,
    anew: Annotated[bool, typer.Option("--anew", help="Make all tables from the first event on.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export what the log holds, and bring the tables up to it; late events change the hours they belong to.

    A running server does this about once an hour (`warehouse.build_every_s`). Then: millrace sql

    Example: millrace warehouse build
    """
    from time import perf_counter

    from millrace.app.commands.printing import count, notes, out, print_json, size
    from millrace.app.warehouse_upkeep import folder_bytes
    from millrace.app.warehouse_wiring import build_tables, build_warehouse
    from millrace.app.wiring import build_log

    settings = open_settings(home)
    log = build_log(settings)
    with notes().status("exporting the log and building the tables …"):
        build_warehouse(settings).export(log)
        log.close()
        started_s = perf_counter()
        report = build_tables(settings).build(anew=anew)
        took_s = perf_counter() - started_s
    raw_bytes, table_bytes = folder_bytes(settings.warehouse_dir), folder_bytes(settings.tables_dir)
    if as_json:
        print_json(
            {
                "n_events": report.n_events,
                "n_rows": report.n_rows,
                "position": report.position,
                "seconds": took_s,
                "events_per_s": report.n_events / took_s if report.n_events else 0.0,
                "raw_bytes": raw_bytes,
                "table_bytes": table_bytes,
            }
        )
        return
    per_s = f", {report.n_events / took_s:,.0f} a second" if report.n_events else ""
    out().print(f"{count(report.n_events, 'event')} taken into the tables in {took_s:.1f} s{per_s}")
    for name, n_rows in report.n_rows.items():
        out().print(f"  {name}: {count(n_rows, 'row')} written")
    out().print(f"on disk: {size(table_bytes)} of tables beside {size(raw_bytes)} of raw events")


def compact(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Merge the small files of each day and hour, raw ones and samples too; readers see each row once all the while.

    Example: millrace warehouse compact
    """
    from millrace.app.commands.printing import count, out, print_json
    from millrace.app.warehouse_wiring import build_tables, build_warehouse
    from millrace.app.wiring import build_sample_compaction

    settings = open_settings(home)
    n_raw = build_warehouse(settings).merge()
    n_tables = build_tables(settings).compact()
    n_samples = build_sample_compaction(settings).merge()
    if as_json:
        print_json({"raw_files_gone": n_raw, "table_files_gone": n_tables, "sample_files_gone": n_samples})
        return
    raw, tables, samples = count(n_raw, "raw file"), count(n_tables, "file"), count(n_samples, "file")
    out().print(f"{raw}, {tables} of tables and {samples} of samples merged into others")


def retain(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Drop the days that are older than the config's section `warehouse` keeps.

    Example: millrace warehouse retain
    """
    from millrace.app.commands.printing import count, out, print_json
    from millrace.app.warehouse_wiring import build_tables

    n_gone = build_tables(open_settings(home)).retain()
    if as_json:
        print_json({"files_gone": n_gone})
        return
    out().print(f"{count(n_gone, 'file')} dropped")


def postgres(
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Load and refresh once, then leave.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep the interactions in PostgreSQL up to the warehouse, and its view `trending` fresh, until stopped.

    `warehouse.postgres_url` says where. Killed at any moment, it goes on where it was; nothing is loaded twice.

    Example: millrace warehouse postgres --once
    """
    from millrace.app.commands.printing import count, out, print_json
    from millrace.app.commands.serve import start_logging
    from millrace.app.warehouse_upkeep import run_postgres

    start_logging()
    report = run_postgres(open_settings(home), once=once)
    if as_json:
        print_json({"n_rows": report.n_rows, "n_too_old": report.n_too_old, "position": report.position})
        return
    out().print(f"{count(report.n_rows, 'interaction')} loaded, up to log position {report.position:,}")
