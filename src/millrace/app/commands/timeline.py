"""``millrace timeline``: a page of a viewer's feed, here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.settings import Settings
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.local_feed import Timeline

_TITLES: Final = {"home": "For you", "following": "Following"}


ViewerArgument = Annotated[str | None, typer.Argument(metavar="[VIEWER]", help="Default: the most active one.")]
ViewerOption = Annotated[str | None, typer.Option("--viewer", help="Same as VIEWER.", show_default=False)]
DebugOption = Annotated[bool, typer.Option("--debug", help="Also print how the page was made, and why each post.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Posts at most; default: a page.", show_default=False)]


def timeline(
    viewer: ViewerArgument = None,
    named: ViewerOption = None,
    limit: LimitOption = None,
    debug: DebugOption = False,
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
    settings = open_settings(home, overrides, checks_params=True)
    show_page(settings, "home", one_viewer(viewer, named), limit, as_json=as_json, debug=debug)


def one_viewer(viewer: str | None, named: str | None) -> str | None:
    """Return the viewer that a command line names, once or twice; None if it names none."""
    if viewer is not None and named is not None and viewer != named:
        raise ConfigError(
            "option --viewer", value=named, problem=f"another viewer, {viewer!r}, is named too", remedy="name one"
        )
    return viewer if named is None else named


def show_page(
    settings: Settings, which: Timeline, viewer: str | None, limit: int | None, *, as_json: bool, debug: bool = False
) -> None:
    """Make a page of one of a viewer's timelines in this process, and print it."""
    import msgspec

    from millrace.app.commands.explained import print_trace
    from millrace.app.commands.folding import folding
    from millrace.app.commands.page import made_at_ms, print_page
    from millrace.app.commands.printing import notes, out, plain
    from millrace.app.local_feed import serve_page

    with folding() as on_progress:
        page, trace, is_known = serve_page(settings, viewer, limit, on_progress, timeline=which)
    if as_json:
        typer.echo(msgspec.json.encode({"page": page, "trace": trace} if debug else page))
        return
    if not is_known:
        shown_instead = ": this is what is popular" if which == "home" else ", so they follow nobody"
        text = f"Nobody has heard of {plain(page.viewer_id)}{shown_instead}"
        notes().print(text, style="yellow", markup=False, soft_wrap=True)
    print_page(out(), page, made_at_ms(page), title=_TITLES[which], with_scores=debug, trace=trace)
    if debug:
        print_trace(trace)
