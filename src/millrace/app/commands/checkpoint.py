"""``millrace checkpoint``: write one now, or look at those that are there."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings
from millrace.base.progress import moving

_WAIT_S = 60.0


def checkpoint(
    only_list: Annotated[bool, typer.Option("--list", help="Only list what is there, sums checked.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint of the state now, without stopping service.

    With a running server its keeper is asked to; without one this process folds the log and writes it.

    Example: millrace checkpoint
    """
    from millrace.app.checkpoints import write_now
    from millrace.app.commands.printing import age, out, print_json, print_table, progress, size
    from millrace.app.wiring import build_checkpoints, build_event_clock

    settings = open_settings(home)
    if not only_list:
        with progress("writing a checkpoint") as step:
            write_now(settings, timeout_s=_WAIT_S, on_progress=moving(step))
    found = list(build_checkpoints(settings).inspect())
    if as_json:
        print_json(
            [
                {
                    "path": str(status.path),
                    "state_offset": status.position,
                    "created_at_ms": status.created_at_ms,
                    "n_bytes": status.n_bytes,
                    "problem": status.problem,
                }
                for status in found
            ]
        )
        return
    if not found:
        out().print("No checkpoints.")
        return
    now_ms = build_event_clock(settings).now_ms()
    rows = [
        (
            status.path.name,
            sum(status.position),
            age(now_ms - status.created_at_ms) if status.created_at_ms else "",
            size(status.n_bytes),
            status.problem or "good",
        )
        for status in found
    ]
    print_table("Checkpoints, newest first", ("name", "log offset", "age", "size", "state"), rows)
