"""``millrace pipeline``: what a page is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, settings_or_defaults

app = typer.Typer(help="The pipelines that make pages.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def show(
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print Mermaid flow charts instead.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every pipeline: its stages in order, what each reads and writes, its params with bounds.

    Example: millrace pipeline show --mermaid
    """
    from millrace.app.commands.printing import print_json
    from millrace.app.wiring import build_idle_pipelines
    from millrace.pipeline.describe import describe, render_mermaid, render_text

    found = [describe(pipeline) for pipeline in build_idle_pipelines(settings_or_defaults(home))]
    if as_json:
        print_json([description.as_dict() for description in found])
        return
    render = render_mermaid if mermaid else render_text
    typer.echo("\n".join(render(description) for description in found), nl=False)
