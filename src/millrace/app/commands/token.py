"""``millrace token``: a token that says who a viewer is."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from millrace.app.commands.import_data import parse_span
from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import ConfigError

_MAX_TTL_S: Final = 366 * 86_400


def token(
    viewer: Annotated[str, typer.Argument(metavar="VIEWER", help="Whose token.")],
    ttl: Annotated[
        str | None,
        typer.Option(help="How long it is good, such as 12h; default: auth.token_ttl_s.", show_default=False),
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a token with which a viewer asks for pages and sends events: Authorization: Bearer TOKEN.

    Whoever has it is that viewer until it expires. All tokens end when the home's secret.key is replaced.

    Example: millrace token u17 --ttl 12h
    """
    from millrace.app.commands.printing import notes, print_json
    from millrace.app.wiring import build_clock, build_tokens

    settings = open_settings(home, overrides)
    ttl_s = settings.config.auth.token_ttl_s if ttl is None else parse_ttl(ttl)
    made = build_tokens(settings).make(viewer, ttl_s)
    if as_json:
        expires_at_s = build_clock().now_ms() // 1000 + ttl_s
        print_json({"viewer_id": viewer, "token": made, "ttl_s": ttl_s, "expires_at_s": expires_at_s})
        return
    typer.echo(made)
    if settings.config.auth.mode == "development":
        notes().print("[dim]Development mode does not ask for it: set auth.mode to tokens.[/]")


def parse_ttl(text: str) -> int:
    """Return a span such as ``12h`` in seconds: a minute to a year."""
    try:
        ttl_s = parse_span(text) // 1000
    except (ConfigError, OverflowError):
        ttl_s = 0
    if not 1 <= ttl_s <= _MAX_TTL_S:
        raise ConfigError(
            "option --ttl",
            value=text,
            problem="not a span of a minute to a year",
            remedy="write 12h, 90m or 7d",
        )
    return ttl_s
