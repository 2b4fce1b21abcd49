"""``millrace flywheel``: from impressions to samples to better models; each command has a file of its own."""

from __future__ import annotations

import typer

from millrace.app.commands import flywheel_features, flywheel_guards, flywheel_skew
from millrace.app.commands.flywheel_join import join
from millrace.app.commands.flywheel_run import run
from millrace.app.commands.flywheel_status import history, status

app = typer.Typer(help="Every impression a sample, every hour a better model.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


app.command("run")(run)
app.command("status")(status)
app.command("history")(history)
app.command()(join)
app.add_typer(flywheel_features.app, name="features")
app.command("skew")(flywheel_skew.skew)
app.command("guards")(flywheel_guards.guards)
