"""``millrace dead-letters``: what could not be used, why; trying it again, or letting it go."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings
from millrace.base.errors import ConfigError

app = typer.Typer(help="Events that could not be used, with their reasons.", no_args_is_help=True)

_SHOWN_CHARS = 70


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_letters(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, newest first.

    Example: millrace dead-letters list --limit 10
    """
    from collections import deque
    from datetime import UTC, datetime

    from rich.padding import Padding
    from rich.text import Text

    from millrace.app.commands.printing import count, out, plain, print_json
    from millrace.app.wiring import build_log

    log = build_log(open_settings(home))
    n_letters, newest = 0, deque(maxlen=limit)  # type: ignore[var-annotated]
    for letter in log.dead_letters():
        n_letters += 1
        newest.append(letter)
    log.close()
    letters = list(reversed(newest))
    if as_json:
        fields = ("letter_id", "topic", "origin", "reason", "refused_at_ms")
        shown = [
            {**{name: getattr(letter, name) for name in fields}, "data": letter.data.decode(errors="replace")}
            for letter in letters
        ]
        print_json({"n_letters": n_letters, "letters": shown})
        return
    if not letters:
        out().print("No dead letters.")
        return
    console = out()
    console.print(f"[bold]{count(n_letters, 'dead letter')}[/], newest first (times in UTC)")
    if len(letters) < n_letters:
        console.print(f"[dim]The newest {len(letters):,} are shown; --limit shows more[/]")
    for letter in letters:
        refused_at = datetime.fromtimestamp(letter.refused_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        console.print()
        console.print(plain(f"{letter.letter_id}  {refused_at}  {letter.topic}, from {letter.origin}"), markup=False)
        begin = letter.data[:_SHOWN_CHARS].decode(errors="replace")
        for what in (letter.reason, begin + ("…" if len(letter.data) > _SHOWN_CHARS else "")):
            console.print(Padding(Text(plain(what)), (0, 0, 0, 4)))


@app.command()
def replay(
    letter_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Which ones; default: all.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try dead letters again through the door; those that pass are removed.

    Do this after the cause was repaired, for example after an event type was declared.

    Example: millrace dead-letters replay 17 18
    """
    from millrace.app.commands.printing import count, out, plain, print_json
    from millrace.app.virtual_time import tick_rule
    from millrace.app.wiring import build_codec, build_event_clock, build_log
    from millrace.stream.dead_letters import replay_dead_letters

    settings = open_settings(home)
    clock = build_event_clock(settings)
    log = build_log(settings, clock)
    report = replay_dead_letters(
        log,
        build_codec(settings),
        letter_ids or None,
        max_event_bytes=settings.config.log.max_event_bytes,
        rule=tick_rule(clock),
    )
    log.close()
    if as_json:
        print_json(report)
    else:
        console = out()
        n_done = len(report.replayed) + len(report.duplicates)
        console.print(f"{count(n_done, 'letter')} replayed ({len(report.duplicates):,} were in the log already)")
        for letter_id, reason in report.refused:
            console.print(f"letter {letter_id} refused again: {plain(reason)}", markup=False)
        for letter_id in report.missing:
            console.print(f"letter {letter_id} does not exist", markup=False)
    if report.refused or report.missing:
        raise typer.Exit(1)


@app.command()
def drop(
    letter_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Which ones.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All that are there now.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Discard dead letters for good, without taking their events in.

    For what nobody will mend: noise, tests, events of a producer that is gone.

    Example: millrace dead-letters drop 17 18
    """
    from millrace.app.commands.printing import count, out, print_json
    from millrace.app.wiring import build_log

    if bool(letter_ids) == is_all:
        problem = "given together with ids" if is_all else "neither ids nor --all given"
        raise ConfigError("option --all", value=is_all, problem=problem, remedy="name the letters, or give --all")
    log = build_log(open_settings(home))
    there = [letter.letter_id for letter in log.dead_letters() if is_all or letter.letter_id in set(letter_ids or ())]
    n_dropped = log.remove_dead_letters(there)
    log.close()
    missing = sorted(set(letter_ids or ()) - set(there))
    if as_json:
        print_json({"n_dropped": n_dropped, "missing": missing})
    else:
        console = out()
        console.print(f"{count(n_dropped, 'letter')} dropped")
        for letter_id in missing:
            console.print(f"letter {letter_id} does not exist", markup=False)
    if missing:
        raise typer.Exit(1)
