"""``millrace keys``: API keys of producers and operators."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings

app = typer.Typer(help="API keys: who may send anybody's events, and who may do everything.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who uses it, such as shop or ada-laptop.")]


class RoleChoice(StrEnum):
    """The roles, as the command line takes them."""

    ingest = "ingest"
    admin = "admin"


@app.callback()
def _group() -> None:
    pass


@app.command()
def add(
    name: NameArgument,
    role: Annotated[RoleChoice, typer.Option("--role", help="ingest: send events; admin: everything.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept.

    A running server knows it at once. Send it as Authorization: Bearer KEY, or as X-API-Key.

    Example: millrace keys add shop --role ingest
    """
    from millrace.app.commands.printing import notes, print_json
    from millrace.app.wiring import build_api_keys, build_clock

    settings = open_settings(home)
    key = build_api_keys(settings).add(name, role.value, build_clock().now_ms())
    if as_json:
        print_json({"name": name, "role": role.value, "key": key})
        return
    typer.echo(key)
    notes().print("[dim]Keep it: it is not shown again.[/]")


@app.command("list")
def list_keys(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List names, roles and ages of the keys.

    Example: millrace keys list
    """
    from millrace.app.commands.printing import ago, print_json, print_table
    from millrace.app.wiring import build_api_keys, build_clock

    keys = build_api_keys(open_settings(home)).all()
    if as_json:
        print_json([{"name": key.name, "role": key.role, "created_at_ms": key.created_at_ms} for key in keys])
        return
    now_ms = build_clock().now_ms()
    print_table(
        "API keys",
        ("name", "role", "made"),
        [(key.name, key.role, ago(now_ms - key.created_at_ms)) for key in keys],
    )


@app.command()
def remove(name: NameArgument, home: HomeOption = None) -> None:
    """Remove a key: whoever uses it is refused from now on, by a running server too.

    Example: millrace keys remove shop
    """
    from millrace.app.commands.printing import notes, plain
    from millrace.app.wiring import build_api_keys

    build_api_keys(open_settings(home)).remove(name)
    notes().print(f"Removed {plain(name)}.", markup=False)
