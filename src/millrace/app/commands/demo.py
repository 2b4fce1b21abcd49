"""``millrace demo``: a world that goes on, a server, and a page of somebody's feed."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.error import HTTPError
from urllib.parse import quote

import typer

from millrace.app.commands.options import PortOption, SetOption
from millrace.app.settings import HOME_VARIABLE
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from millrace.app.lifeline import Lifeline
    from millrace.app.settings import Settings
    from millrace.app.supervisor import Address

_HTTP_TIMEOUT_S = 20.0
_NOT_NOW = 503
_PATIENCE_S = 120.0
_PAUSE_S = 0.5
_SHOWN_POSTS = 12


def demo(
    home: Annotated[Path, typer.Option("--home", envvar=HOME_VARIABLE, help="Where the demo's world lives.")] = Path(
        "demo-world"
    ),
    viewer: Annotated[str | None, typer.Option(help="Whose feed to print; default: an active viewer.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Serving processes.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make a new world, even if there is one.")] = False,
    speed: Annotated[
        float,
        typer.Option(
            "--speed", min=0, max=10_000, help="Virtual minutes that pass in a real one; 0: the world stands still."
        ),
    ] = 60.0,
    learns: Annotated[
        bool,
        typer.Option(
            "--learn/--no-learn", help="Train the first models beside the feed, let them serve, and learn on."
        ),
    ] = True,
    once: Annotated[bool, typer.Option("--once", help="End after the page is printed.")] = False,
    port: PortOption = None,
    overrides: SetOption = None,
) -> None:
    """Make a world of 2,000 people, serve it, print somebody's feed, and let the world go on.

    A simulator makes the world from a seed (smaller: --set world.size=tiny).
    Its events come in through the same door as everybody's.
    While the demo runs its people read, post and follow in accelerated time, and models are trained on what they did.
    A second run goes on where the first one stopped.

    Example: millrace demo
    """
    from millrace.app import wiring
    from millrace.app.commands.init import make_home
    from millrace.app.commands.options import as_pairs, param_problems, with_port
    from millrace.app.commands.printing import notes, out
    from millrace.app.commands.serve import check_alone, check_ranker_runs, start_logging
    from millrace.app.http_address import check_address
    from millrace.app.learner import can_learn, learn, with_learning
    from millrace.app.settings import load_settings
    from millrace.app.supervisor import serve

    settings, _ = make_home(home)
    settings = load_settings(settings.home, os.environ, as_pairs(with_port(overrides, port)), param_problems)
    check_address(settings.config)
    check_ranker_runs(settings)
    _check_mode(settings)
    check_alone(settings)
    settings = _with_free_port(settings)
    lives = speed > 0 and not once
    learning = learns and lives and can_learn()
    if learning:
        settings = with_learning(settings)
    console = notes()
    _ensure_world(settings, console, fresh=fresh)
    start_logging(quiet=True)

    def live(address: Address, lifeline: Lifeline) -> None:
        from millrace.app.simulation.life import live as let_live

        let_live(settings, address.url, speed, lifeline)

    def show(address: Address) -> None:
        _show(address, viewer, out())
        if once:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            learns_words = " Flywheel on the page tells how the feed learns from it." if learning else ""
            console.print(f"\n{_life_words(settings, speed)}{learns_words} [dim]Ctrl-C ends it.[/]")

    console.print("[dim]starting the server (the first start compiles, for some minutes on a slow machine) …[/]")
    if learning and not wiring.build_registry(settings).serving():
        console.print(
            "[dim]models are trained meanwhile (some minutes), take over from counters when ready, and learn on from "
            "what people do[/]"
        )
    elif learns and lives and not can_learn():
        console.print("[dim]counters rank; with pip install '.\\[train]' models are trained and take over[/]")

    def teach(lifeline: Lifeline) -> None:
        learn(settings, lifeline)

    serve(settings, workers, show, live if lives else None, teach if learning else None)


def _life_words(settings: Settings, speed: float) -> str:
    from millrace.app.human_time import clock_time
    from millrace.app.wiring import build_event_clock

    now = clock_time(build_event_clock(settings).now_ms())
    if not speed:
        return f"The world stands still at {now}."
    return (
        f"The world lives: it is {now} there, and {speed:g} minutes pass in each of ours. Its people read, post and "
        "follow around you; reload the page to see what is new."
    )


def _check_mode(settings: Settings) -> None:
    if settings.config.auth.mode != "development":
        raise ConfigError(
            "config key auth.mode",
            value=settings.config.auth.mode,
            problem="the demo shows anybody's feed to whoever asks on this machine",
            remedy="leave it at development here; `millrace serve` serves the same home with tokens",
        )


def _ensure_world(settings: Settings, console: Console, *, fresh: bool) -> None:
    from rich.markup import escape

    from millrace.app.commands.printing import ago, count, progress
    from millrace.app.demo_world import can_go_on, clear_world, demo_config, differences, make_world, read_note
    from millrace.app.human_time import clock_time
    from millrace.app.wiring import build_clock, build_event_clock

    clock = build_clock()
    note = read_note(settings)
    if note is not None and not fresh:
        if can_go_on(settings, note):
            console.print(
                f"Going on with the world in {settings.home}: made {ago(clock.now_ms() - note.made_at_ms)}, now "
                f"{clock_time(build_event_clock(settings).now_ms())} there (--fresh makes a new one)",
                soft_wrap=True,
            )
            if others := differences(note, demo_config(settings)):
                console.print(
                    f"[yellow]It is not the world that the settings ask for: {escape('; '.join(others))}. "
                    "To have that one, give --fresh.[/]",
                    soft_wrap=True,
                )
            return
        console.print(
            f"The world in {settings.home} was made by another version of Millrace and cannot go on: making a new one",
            soft_wrap=True,
        )
    clear_world(settings)
    with progress("making a world") as step:
        note = make_world(settings, clock, step.advance)
    console.print(f"Made a world in {settings.home}: {count(note.n_events, 'event')}, seed {note.seed}")


def _with_free_port(settings: Settings) -> Settings:
    """Return settings with a port that can be bound: the configured one, or else a free one."""
    from millrace.app.settings import with_port
    from millrace.app.supervisor import bind
    from millrace.base.errors import ConfigError

    server = settings.config.server
    try:
        bind(server.host, server.port).close()
    except ConfigError:
        if "server.port" in settings.origin_by_key:
            raise
        return with_port(settings, 0)
    return settings


def _show(address: Address, viewer: str | None, console: Console) -> None:
    import msgspec

    from millrace.app.commands.page import made_at_ms, print_page
    from millrace.mixer.feed import FeedResponse

    if viewer is None:
        viewer = json.loads(_get(f"{address.url}/api/v1/viewers?limit=1"))[0]["user_id"]
    url = f"{address.url}/api/v1/timeline/home?viewer={quote(viewer)}"
    page = msgspec.json.decode(_get(url), type=FeedResponse)
    print_page(console, page, made_at_ms(page), _SHOWN_POSTS)
    rows = (
        ("the feed in a browser", f"{address.url}/?viewer={quote(viewer)}"),
        ("the next page, as JSON", url),
        ("other viewers", f"{address.url}/api/v1/viewers"),
        ("the API", f"{address.url}/schema"),
        ("metrics", f"{address.url}/metrics"),
    )
    console.print()
    for what, where in rows:
        console.print(f"  {what:<24}[bold]{where}[/]", soft_wrap=True)


def _get(url: str) -> bytes:
    """Return what our own server answers; where it says "not now", as on a busy machine, ask again for a while."""
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as answer:  # noqa: S310 - our own address
                body: Any = answer.read()
            return bytes(body)
        except HTTPError as error:
            if error.code != _NOT_NOW or time.monotonic() > until_s:
                raise
        time.sleep(_PAUSE_S)
