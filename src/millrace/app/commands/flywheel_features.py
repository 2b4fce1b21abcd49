"""``millrace flywheel features``: what the feature store says of a user or a post, now or at a log position."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.app.feature_sheets import FeatureSheets, Numbers

app = typer.Typer(help="What the feature store says of users and posts.", no_args_is_help=True)

AtOption = Annotated[
    int | None,
    typer.Option(
        "--at",
        min=0,
        metavar="OFFSET",
        help="As of this log position: nothing at or after it is known; default: now.",
        show_default=False,
    ),
]


@app.callback()
def _group() -> None:
    pass


@app.command()
def user(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    at: AtOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a user's features: what they do at several grains of time, when, and what is done to their posts.

    Example: millrace flywheel features user u17 --json
    """
    from millrace.app.commands.printing import print_json

    with _sheets(home, at) as sheets:
        found = asyncio.run(sheets.user(user))
    if as_json:
        print_json(found)
        return
    _print(found.user_id, found.numbers, found.counts)


@app.command()
def post(
    post: Annotated[str, typer.Argument(metavar="POST", help="The post's id.")],
    at: AtOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a post's features: what it is, what was done to it and to its author's posts, lately and ever.

    Example: millrace flywheel features post p4711 --at 120000
    """
    from millrace.app.commands.printing import print_json

    with _sheets(home, at) as sheets:
        found = asyncio.run(sheets.post(post))
    if as_json:
        print_json(found)
        return
    levels = {f"semantic_id:{level}": float(code) for level, code in enumerate(found.semantic_id)}
    _print(found.post_id, {**found.numbers, **levels}, found.counts)


@app.command("list")
def declared(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print every declared feature: name, type, shape, store, freshness, meaning.

    Example: millrace flywheel features list
    """
    from millrace.app.commands.printing import print_json, print_table
    from millrace.app.wiring import build_actions
    from millrace.features.store.post_features import post_table
    from millrace.features.store.user_features import user_table

    settings = open_settings(home)
    config, actions = settings.config.stores.engagements, build_actions(settings)
    rows = [
        (of, feature.name, str(feature.dtype), feature.shape, feature.source, feature.freshness, feature.doc)
        for of, table in (("post", post_table(config, actions)), ("user", user_table(config, actions)))
        for feature in table
    ]
    names = ("of", "name", "type", "shape", "source", "freshness", "meaning")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    print_table("Features", names, rows)


@contextmanager
def _sheets(home: Path | None, at: int | None) -> Iterator[FeatureSheets]:
    from millrace.app.commands.folding import folding
    from millrace.app.feature_sheets import FeatureSheets, sheets_as_of
    from millrace.app.local_feed import folded_replica

    settings = open_settings(home)
    with folding() as on_progress:
        if at is not None:
            with sheets_as_of(settings, (at,), on_progress) as sheets:
                yield sheets
            return
        with folded_replica(settings, on_progress) as replica:
            yield FeatureSheets.of(settings, replica, replica.clock.now_ms())


def _print(title: str, numbers: Numbers, counts: dict[str, Numbers]) -> None:
    from millrace.app.commands.printing import plain, print_table

    rows = [(name, f"{value:,.2f}") for name, value in numbers.items()]
    for name, found in counts.items():
        rows.extend((f"{name}:{label}", f"{value:,.2f}") for label, value in found.items())
    print_table(plain(title), ("feature", "value"), rows)
