"""``millrace models``: the registry: what is there, what serves, letting another version serve, and going back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.registry.manifest import Kind
    from millrace.registry.pointer import Pointer
    from millrace.registry.registry import Registry

app = typer.Typer(help="Models: which versions there are, and which of them serve.", no_args_is_help=True)

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="ranker, pre_ranker, retrieval, ...")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version's name, newest, or live: what serves.")
]
LaneOption = Annotated[str, typer.Option("--lane", help="default: everybody's; others: experiments and sandboxes.")]
NoteOption = Annotated[str, typer.Option("--note", help="Why; kept in the history.", show_default=False)]

_NEWEST: Final = "newest"
_LIVE: Final = "live"
_DEFAULT: Final = "default"
_N_HISTORY: Final = 10


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_models(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List all versions, where each serves, and the last changes; and tell how far a training is.

    Example: millrace models list
    """
    from millrace.app.commands.printing import ago, out, plain, print_json, print_table, size
    from millrace.app.model_status import model_status
    from millrace.app.wiring import build_clock, build_registry

    settings = open_settings(home)
    registry, status = build_registry(settings), model_status(settings)
    pointer = registry.pointer()
    lanes = {lane: pointer.serving(lane) for lane in sorted(pointer.lanes)} if pointer else {}
    rows = _versions(registry, lanes)
    history = registry.history()[-_N_HISTORY:]
    if as_json:
        told = {"training": status.training, "last_training": status.last_training}
        print_json({"versions": rows, "lanes": lanes, "history": history, **told})
        return
    if rows or status.training is not None or status.last_training is not None:
        out().print(plain(status.words), markup=False)
    if not rows:
        out().print("No models.")
        return
    now_ms = build_clock().now_ms()
    has_problems = any(row["problem"] for row in rows)
    print_table(
        "Models, newest first",
        ("kind", "version", "published", "size", "serves", *(["problem"] * has_problems)),
        [
            (
                row["kind"],
                row["version"],
                "" if row["published_at_ms"] is None else ago(now_ms - row["published_at_ms"]),
                "" if row["n_bytes"] is None else size(row["n_bytes"]),
                ", ".join(row["lanes"]),
                *([row["problem"]] * has_problems),
            )
            for row in rows
        ],
    )
    if history:
        print_table(
            "Last changes, newest last",
            ("when", "what", "lane", "versions", "note"),
            [
                (ago(now_ms - change.at_ms), change.what, change.lane, _said(change.versions), change.note)
                for change in history
            ],
        )


@app.command()
def show(
    kind: KindArgument, version: VersionArgument = _LIVE, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show what a version is: its features, training window, data, metrics, settings and files.

    Example: millrace models show ranker
    """
    from millrace.app.commands.printing import print_json, print_table, size
    from millrace.app.human_time import event_time, real_time
    from millrace.app.virtual_time import has_virtual_time

    registry, is_virtual = _registry(home), has_virtual_time(open_settings(home))
    name = _kind(kind)
    manifest = registry.manifest(name, _version(registry, name, version))
    if as_json:
        print_json(manifest)
        return
    rows = [
        ("published", real_time(manifest.published_at_ms, is_virtual=is_virtual)),
        ("features", manifest.feature_schema_hash),
        ("trained from", event_time(manifest.from_ms, is_virtual=is_virtual)),
        ("trained until", event_time(manifest.until_ms, is_virtual=is_virtual)),
        ("data", manifest.data),
        *((f"metric {key}", f"{value:g}") for key, value in sorted(manifest.metrics.items())),
        *((f"setting {key}", str(value)) for key, value in sorted(manifest.settings.items())),
        *((entry.path, f"{size(entry.n_bytes)}, BLAKE2b {entry.blake2b}") for entry in manifest.files),
    ]
    print_table(f"{manifest.kind} {manifest.version}", ("what", "value"), rows)


@app.command()
def promote(
    choices: Annotated[
        list[str], typer.Argument(metavar="KIND=VERSION...", help="ranker=newest; ranker=none takes it out.")
    ],
    lane: LaneOption = _DEFAULT,
    note: NoteOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let versions serve, all at the same moment; running servers follow within a second, no request is dropped.

    Every file is checked first. A lane serves the default's version of each kind that it does not name.

    Example: millrace models promote ranker=newest pre_ranker=newest
    """
    from millrace.app.wiring import build_clock

    registry = _registry(home)
    changes: dict[Kind, str | None] = {}
    for text in choices:
        kind, equals, version = text.partition("=")
        if not equals or not version:
            raise ConfigError("choice", value=text, problem="not KIND=VERSION", remedy="write ranker=newest")
        name = _kind(kind)
        changes[name] = None if version == "none" else _version(registry, name, version)
    _say(registry.promote(changes, lane, now_ms=build_clock().now_ms(), note=note), lane, as_json)


@app.command()
def rollback(
    lane: LaneOption = _DEFAULT, note: NoteOption = "", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Let a lane serve what it served before its last promotion; again: what it served before that.

    Example: millrace models rollback --note "pages too slow"
    """
    from millrace.app.wiring import build_clock

    _say(_registry(home).rollback(lane, now_ms=build_clock().now_ms(), note=note), lane, as_json)


@app.command()
def drop(
    lane: Annotated[str, typer.Argument(metavar="LANE", help="Any but default.")],
    note: NoteOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a lane: its viewers are served as everybody from then on. The versions stay.

    Example: millrace models drop sandbox
    """
    from millrace.app.wiring import build_clock

    _say(_registry(home).drop_lane(lane, now_ms=build_clock().now_ms(), note=note), lane, as_json)


@app.command()
def verify(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Read every file of every version and compare it with its sum; code 1 if any is damaged.

    Example: millrace models verify
    """
    from millrace.app.commands.printing import out, print_json, print_table, progress
    from millrace.registry.errors import ArtefactError
    from millrace.registry.manifest import KINDS

    registry = _registry(home)
    found: list[dict[str, Any]] = []
    names = [(kind, version) for kind in KINDS for version in registry.versions(kind)]
    with progress("reading models", len(names)) as step:
        for kind, version in names:
            problem = ""
            try:
                registry.verify(kind, version)
            except ArtefactError as error:
                problem = str(error)
            found.append({"kind": kind, "version": version, "problem": problem})
            step.advance()
    if as_json:
        print_json(found)
    elif not found:
        out().print("No models.")
    else:
        rows = [(row["kind"], row["version"], row["problem"] or "good") for row in found]
        print_table("Models", ("kind", "version", "state"), rows)
    if any(row["problem"] for row in found):
        raise typer.Exit(1)


@app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest of each kind to keep.")] = 5,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old versions. What serves in any lane, or is kept for a rollback, always stays.

    Example: millrace models prune --keep 3
    """
    from millrace.app.commands.printing import count, out, print_json

    removed = _registry(home).prune(keep, is_dry=is_dry)
    if as_json:
        print_json([{"kind": kind, "version": version} for kind, version in removed])
        return
    for kind, version in removed:
        out().print(f"{kind} {version}", markup=False)
    out().print(f"{'Would remove' if is_dry else 'Removed'} {count(len(removed), 'version')}.")


@app.command()
def sign(
    lane: Annotated[str, typer.Argument(metavar="LANE", help="A lane, such as sandbox.")],
    viewer: Annotated[str, typer.Argument(metavar="VIEWER", help="Who may ask for it.")],
    ttl: Annotated[str, typer.Option("--ttl", help="How long, such as 12h.")] = "12h",
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the header's value with which one viewer is served by a lane: X-Millrace-Lane: VALUE.

    Example: millrace models sign sandbox u17 --ttl 2h
    """
    from millrace.app.commands.printing import print_json
    from millrace.app.commands.token import parse_ttl
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.app.wiring import build_clock
    from millrace.registry.lanes import LANE_HEADER, PURPOSE, sign_lane

    settings = open_settings(home, overrides)
    expires_ms = build_clock().now_ms() + parse_ttl(ttl) * 1000
    value = sign_lane(lane, viewer, expires_ms, subkey(load_or_make_secret(settings), PURPOSE))
    if as_json:
        print_json(
            {"lane": lane, "viewer_id": viewer, "header": LANE_HEADER, "value": value, "expires_at_ms": expires_ms}
        )
        return
    typer.echo(value)


def _registry(home: Path | None) -> Registry:
    from millrace.registry.registry import Registry

    return Registry(open_settings(home).models_dir)


def _kind(text: str) -> Kind:
    from millrace.registry.manifest import KINDS

    for kind in KINDS:
        if text == kind:
            return kind
    raise ConfigError("kind of model", value=text, problem="not known", remedy=f"use one of {', '.join(KINDS)}")


def _version(registry: Registry, kind: Kind, text: str) -> str:
    """Return a version's name: as given, the newest, or the one that serves everybody."""
    found: str | None = text
    if text == _NEWEST:
        found = next(reversed(registry.versions(kind)), None)
    elif text == _LIVE:
        found = registry.serving().get(kind)
    is_named = text not in (_NEWEST, _LIVE)
    if found is None or (is_named and text not in registry.versions(kind)):
        problem = "is not there" if is_named else "there is none"
        raise ConfigError(f"version of kind {kind}", value=text, problem=problem, remedy="see `millrace models list`")
    return found


def _versions(registry: Registry, lanes: dict[str, dict[Kind, str]]) -> list[dict[str, Any]]:
    from millrace.registry.errors import ArtefactError
    from millrace.registry.manifest import KINDS

    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        for version in reversed(registry.versions(kind)):
            row: dict[str, Any] = {
                "kind": kind,
                "version": version,
                "published_at_ms": None,
                "n_bytes": None,
                "lanes": [lane for lane, names in lanes.items() if names.get(kind) == version],
                "problem": "",
            }
            try:
                manifest = registry.manifest(kind, version)
                row |= {"published_at_ms": manifest.published_at_ms, "n_bytes": manifest.n_bytes}
            except ArtefactError as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows


def _say(pointer: Pointer, lane: str, as_json: bool) -> None:
    from millrace.app.commands.printing import notes, print_json

    serving = pointer.serving(lane)
    if as_json:
        print_json({"lane": lane, "serving": serving, "change": pointer.change})
        return
    notes().print(f"Lane {lane} serves {_said(serving) or 'no models'}.", markup=False)


def _said(versions: dict[Kind, str]) -> str:
    return ", ".join(f"{kind} {version}" for kind, version in sorted(versions.items()))
