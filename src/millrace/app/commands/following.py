"""``millrace following``: what the accounts that a viewer follows posted, newest first."""

from __future__ import annotations

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.timeline import LimitOption, ViewerArgument, ViewerOption, one_viewer, show_page


def following(
    viewer: ViewerArgument = None,
    named: ViewerOption = None,
    limit: LimitOption = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a page of a viewer's chronological timeline.

    Made like the ranked one (`millrace timeline`), from the same stores, and counted as served likewise.

    Example: millrace following u17 --limit 5
    """
    settings = open_settings(home, overrides, checks_params=True)
    show_page(settings, "following", one_viewer(viewer, named), limit, as_json=as_json)
