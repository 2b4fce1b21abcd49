"""``millrace config``: what is in effect, and why."""

from __future__ import annotations

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings

app = typer.Typer(help="Look at the config.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def show(home: HomeOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print every config value in effect, as TOML, with where it comes from.

    Example: millrace config show --set server.port=9000
    """
    from rich.markup import escape

    from millrace.app.commands.printing import out, print_json
    from millrace.app.config_template import toml_key, toml_value
    from millrace.base.config import DEFAULT_ORIGIN, entries

    settings = open_settings(home, overrides, checks_params=True)
    origins = settings.origin_by_key
    found = [
        (entry.key, _shown(entry.key, entry.value), origins.get(entry.key, DEFAULT_ORIGIN))
        for entry in entries(settings.config)
    ]
    if as_json:
        values = {key: {"value": value, "origin": origin} for key, value, origin in found}
        print_json({"home": str(settings.home), "values": values})
        return
    console = out()
    console.print(f"[dim]# {escape(str(settings.config_path))}[/]")
    section = ""
    for full_key, value, origin in found:
        head, _, key = full_key.partition(".")
        if head != section:
            section = head
            console.print(f"\n[bold]{escape(f'[{section}]')}[/]")
        name = toml_key(section, key)
        if not key:
            continue  # a table without entries
        line = f"# {name} is not set" if value is None else f"{name} = {toml_value(value)}"
        color = "dim" if origin == DEFAULT_ORIGIN else "yellow"
        console.print(f"{escape(line):<44} [{color}]# {escape(origin)}[/]", soft_wrap=True)


def _shown(key: str, value: object) -> object:
    """Return a value without its secrets: passwords, and what URLs say before and after the place."""
    from millrace.base.urls import without_secrets

    if key.endswith("password") and value:
        return "***"
    return without_secrets(value) if isinstance(value, str) else value
