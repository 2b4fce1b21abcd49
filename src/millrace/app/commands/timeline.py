"""``millrace timeline``: a page of a viewer's feed, here and now."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import ConfigError


def timeline(
    viewer: Annotated[str | None, typer.Argument(metavar="[VIEWER]", help="Default: the most active one.")] = None,
    named: Annotated[str | None, typer.Option("--viewer", help="Same as VIEWER.", show_default=False)] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Posts at most; default: a page.", show_default=False)
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a page of a viewer's feed: author, age, text, why.

    Works with and without a running server: this process reads the newest checkpoint and the log after it. The
    page counts as served: the same viewer gets other posts next time, from whomever. --json prints what the API
    answers.

    Example: millrace timeline u17 --limit 5
    """
    import msgspec

    from millrace.app.commands.page import print_page
    from millrace.app.commands.printing import out, progress
    from millrace.app.local_feed import serve_page
    from millrace.app.wiring import build_clock

    if viewer is not None and named is not None and viewer != named:
        raise ConfigError(
            "option --viewer", value=named, problem=f"another viewer, {viewer!r}, is named too", remedy="name one"
        )
    settings = open_settings(home, overrides, checks_params=True)
    with progress("folding the log") as step:
        n_done = 0

        def on_progress(done: int, total: int) -> None:
            nonlocal n_done
            step.total(total)
            step.advance(done - n_done)
            n_done = done

        page = serve_page(settings, viewer if named is None else named, limit, on_progress)
    if as_json:
        typer.echo(msgspec.json.encode(page))
        return
    print_page(out(), page, build_clock().now_ms())
