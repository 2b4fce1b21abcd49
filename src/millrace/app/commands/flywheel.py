"""``millrace flywheel``: from impressions to samples to better models; each command has a file of its own."""

from __future__ import annotations

import typer

from millrace.app.commands import flywheel_guards

app = typer.Typer(help="Every impression a sample, every hour a better model.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


app.command("guards")(flywheel_guards.guards)
