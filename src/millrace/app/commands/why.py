"""``millrace why``: why a post is on a viewer's page, or why not."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings


def why(
    viewer: Annotated[str, typer.Argument(metavar="VIEWER", help="Whose page.")],
    post: Annotated[str, typer.Argument(metavar="POST", help="Any post's id.")],
    request: Annotated[
        str | None,
        typer.Option(
            "--request", metavar="ID", help="A page that was sent; default: one made now.", show_default=False
        ),
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a post is on a viewer's page, or why not, to the last multiplier.

    Without --request a page is made for the viewer that nobody gets: nothing is claimed or logged, and no post counts
    as sent. With it, the page is the one that was sent under that id, as far as its trace is still kept.

    Example: millrace why u17 p4711
    """
    from millrace.app.commands.explained import print_why
    from millrace.app.commands.folding import folding
    from millrace.app.commands.printing import print_json
    from millrace.app.local_feed import explain_post

    settings = open_settings(home, overrides, checks_params=True)
    with folding() as on_progress:
        found, was_sent = explain_post(settings, viewer, post, request, on_progress)
    if as_json:
        print_json(found)
    else:
        print_why(found, viewer if was_sent else None)
