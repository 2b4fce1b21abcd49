"""``millrace events``: the event types."""

from __future__ import annotations

import typer

from millrace.app.commands.options import HomeOption, JsonOption, settings_or_defaults

app = typer.Typer(help="The event types that may be written to the log.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("schema")
def print_schema(home: HomeOption = None) -> None:
    """Print the JSON Schema of all event types, your own ones included.

    Without a home folder it prints the built-in types.

    Example: millrace events schema > events.schema.json
    """
    import msgspec

    from millrace.app.wiring import build_codec

    schema = build_codec(settings_or_defaults(home)).json_schema()
    typer.echo(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())


@app.command("list")
def list_types(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the event types with their topics and keys.

    Example: millrace events list
    """
    from millrace.app.commands.printing import print_json, print_table
    from millrace.app.wiring import build_codec

    registry = build_codec(settings_or_defaults(home)).registry
    rows = [
        (kind.name, kind.topic, kind.key, kind.is_internal, (kind.payload.__doc__ or "").partition("\n")[0])
        for kind in registry
    ]
    names = ("type", "topic", "key", "internal", "what")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table("Event types", names, rows)
