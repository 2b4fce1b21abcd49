"""The demo's world: made once by the simulator, taken in through the door, used again while it is fresh."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, Final

import msgspec

from millrace.app.intake import Intake, batches
from millrace.app.keeper import running_keeper
from millrace.app.settings import Settings
from millrace.base.clock import Clock
from millrace.base.errors import ConfigError, StoreError
from millrace.simulator.config import WorldConfig
from millrace.simulator.world import simulate_history

_NOTE: Final = "demo-world.json"
STALE_AFTER_MS: Final = 36 * 3_600_000
"""Feeds show 48 h: a demo world whose newest post is older than this would soon be an empty one."""


class WorldNote(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo remembers of the world that it made."""

    made_at_ms: int
    seed: int
    size: str
    n_events: int
    world: dict[str, Any] | None = None
    """The ``[world]`` settings that it was made with."""


def read_note(settings: Settings) -> WorldNote | None:
    """Return what is known of the home's demo world; None if there is none, or its making was interrupted."""
    path = settings.data_dir / _NOTE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=WorldNote)
    except msgspec.DecodeError:
        return None


def differences(note: WorldNote, config: WorldConfig) -> list[str]:
    """Return how a world that was made differs from the one that is asked for, as ``"size 'demo', not 'tiny'"``."""
    asked = msgspec.to_builtins(config)
    made = {**asked, **(note.world or {}), "seed": note.seed, "size": note.size}
    return [f"{name} {made[name]!r}, not {value!r}" for name, value in asked.items() if made[name] != value]


def make_world(settings: Settings, clock: Clock, on_progress: Callable[[int], None]) -> WorldNote:
    """Take a new demo world in; the home's log must be empty.

    Parameters
    ----------
    settings, clock
        The home, and its now: the world's newest events.
    on_progress
        Called with the number of events of each batch taken in.

    Raises
    ------
    StoreError
        If the door refuses an event: a defect.
    """
    config = settings.config.world
    now_ms = clock.now_ms()
    with Intake(settings, clock) as intake:
        for batch in batches(simulate_history(config, now_ms)):
            intake.take(batch)
            on_progress(len(batch))
    if intake.refusals:
        raise StoreError("demo world", value=intake.refusals[0], problem="refused at the door", remedy="report it")
    note = WorldNote(
        made_at_ms=now_ms,
        seed=config.seed,
        size=config.size,
        n_events=intake.n_accepted,
        world=msgspec.to_builtins(config),
    )
    (settings.data_dir / _NOTE).write_bytes(msgspec.json.encode(note))
    return note


def clear_world(settings: Settings) -> None:
    """Remove the data of a demo home.

    Raises
    ------
    ConfigError
        If the data is not a demo world's, or a server is running on it.
    """
    if running_keeper(settings.data_dir) is not None:
        raise ConfigError(
            "demo home", value=str(settings.home), problem="a server is running on it", remedy="stop the server first"
        )
    if settings.log_path.exists() and not is_demo_home(settings):
        raise ConfigError(
            "demo home",
            value=str(settings.home),
            problem="holds data that the demo did not make",
            remedy="give another --home; `millrace serve` serves this one",
        )
    shutil.rmtree(settings.data_dir)
    settings.data_dir.mkdir()
    mark_demo_home(settings)


def mark_demo_home(settings: Settings) -> None:
    """Note that the home's data is the demo's to replace."""
    (settings.data_dir / ".demo").touch()


def is_demo_home(settings: Settings) -> bool:
    """Whether the home's data is the demo's to replace."""
    return (settings.data_dir / ".demo").exists()
