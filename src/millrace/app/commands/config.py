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
    from millrace.app.wiring import check_params
    from millrace.base.config import DEFAULT_ORIGIN, entries

    settings = open_settings(home, overrides)
    check_params(settings)
    origins = settings.origin_by_key
    found = [(entry, origins.get(entry.key, DEFAULT_ORIGIN)) for entry in entries(settings.config)]
    if as_json:
        values = {entry.key: {"value": entry.value, "origin": origin} for entry, origin in found}
        print_json({"home": str(settings.home), "values": values})
        return
    console = out()
    console.print(f"[dim]# {escape(str(settings.config_path))}[/]")
    section = ""
    for entry, origin in found:
        head, _, key = entry.key.partition(".")
        if head != section:
            section = head
            console.print(f"\n[bold]{escape(f'[{section}]')}[/]")
        name = toml_key(section, key)
        if not key:
            continue  # a table without entries
        line = f"# {name} is not set" if entry.value is None else f"{name} = {toml_value(entry.value)}"
        color = "dim" if origin == DEFAULT_ORIGIN else "yellow"
        console.print(f"{escape(line):<44} [{color}]# {escape(origin)}[/]", soft_wrap=True)
