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
    debug: Annotated[
        bool, typer.Option("--debug", help="Also print how the page was made, and why each post.")
    ] = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a page of a viewer's feed: author, age, text, why.

    Works with and without a running server: this process reads the newest checkpoint and the log after it. The
    page counts as served: the same viewer gets other posts next time, from whomever. --json prints what the API
    answers; with --debug, that as "page" and how it was made as "trace".

    Example: millrace timeline u17 --limit 5
    """
    import msgspec

    from millrace.app.commands.explained import print_post_reasons, print_trace
    from millrace.app.commands.folding import folding
    from millrace.app.commands.page import print_page
    from millrace.app.commands.printing import out
    from millrace.app.local_feed import serve_page
    from millrace.app.wiring import build_clock

    if viewer is not None and named is not None and viewer != named:
        raise ConfigError(
            "option --viewer", value=named, problem=f"another viewer, {viewer!r}, is named too", remedy="name one"
        )
    settings = open_settings(home, overrides, checks_params=True)
    with folding() as on_progress:
        page, trace = serve_page(settings, viewer if named is None else named, limit, on_progress)
    if as_json:
        typer.echo(msgspec.json.encode({"page": page, "trace": trace} if debug else page))
        return
    print_page(out(), page, build_clock().now_ms())
    if debug:
        print_post_reasons(page.posts)
        print_trace(trace)
