"""The demo's world: made once by the simulator, taken in through the door, and kept so that it can go on living.

The home lives in virtual time from the end of the history on, so its world never becomes old; what it has come to since
is written down by `millrace.app.simulation.life`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app import wiring
from millrace.app.intake import Intake, batches
from millrace.app.keeper_lock import running_keeper
from millrace.app.settings import Settings
from millrace.app.simulation.homes import source_digest
from millrace.app.virtual_time import enter_virtual_time
from millrace.base.clock import Clock
from millrace.base.errors import ConfigError, StoreError
from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import ClockTick
from millrace.simulator.config import WorldConfig
from millrace.simulator.snapshot import Snapshot, write_snapshot
from millrace.simulator.world import World

_NOTE: Final = "demo-world.json"
_STATE: Final = "world.npz"
_STATES_TOPICS: Final = "world.states_topics"


class WorldNote(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo remembers of the world that it made."""

    made_at_ms: int
    seed: int
    size: str
    n_events: int
    world: dict[str, Any] | None = None
    """The ``[world]`` settings that it was made with."""
    simulator: str = ""
    """Digest of the simulator that made it; another one's worlds cannot be taken up."""


def read_note(settings: Settings) -> WorldNote | None:
    """Return what is known of the home's demo world; None if there is none, or its making was interrupted."""
    path = settings.data_dir / _NOTE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=WorldNote)
    except msgspec.DecodeError:
        return None


def demo_config(settings: Settings) -> WorldConfig:
    """Return the world that the settings ask the demo for.

    Unless they say otherwise its posts name their topics: the demo's stand-in for content understanding, so that the
    page has topics to show. Worlds for experiments do not, since there topics are to be learned from the texts.
    """
    config = settings.config.world
    if _STATES_TOPICS in settings.origin_by_key:
        return config
    return msgspec.structs.replace(config, states_topics=True)


def state_path(settings: Settings) -> Path:
    """Return where the state of the world itself is kept."""
    return settings.data_dir / _STATE


def can_go_on(settings: Settings, note: WorldNote) -> bool:
    """Whether this version can let a world go on: older ones kept no state, or made other worlds."""
    return state_path(settings).exists() and note.simulator == source_digest()


def world_of(note: WorldNote) -> World:
    """Return the world that was made, as it was before anything happened in it."""
    return World(msgspec.convert(note.world, WorldConfig), note.made_at_ms)


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
    config = demo_config(settings)
    now_ms = clock.now_ms()
    world = World(config, now_ms)
    with Intake(settings, clock) as intake:
        for batch in batches(world.history()):
            intake.take(batch)
            on_progress(len(batch))
        n_events = intake.n_accepted
        intake.take([_first_tick(now_ms)])
    if intake.refusals:
        raise StoreError("demo world", value=intake.refusals[0], problem="refused at the door", remedy="report it")
    note = WorldNote(
        made_at_ms=now_ms,
        seed=config.seed,
        size=config.size,
        n_events=n_events,
        world=msgspec.to_builtins(config),
        simulator=source_digest(),
    )
    encode = wiring.build_codec(settings).encode
    to_come = tuple((event.event_time_ms, encode(event)) for event in world.to_come)
    write_snapshot(state_path(settings), Snapshot(start_ms=now_ms, log_position=0, under_way=to_come), world)
    enter_virtual_time(settings)
    (settings.data_dir / _NOTE).write_bytes(msgspec.json.encode(note))
    return note


def _first_tick(now_ms: int) -> AnyEvent:
    """Say that virtual time begins where the history ends."""
    return Event(event_id=f"tick-{now_ms}", event_time_ms=now_ms, source="demo-world", payload=ClockTick(now_ms=now_ms))


def clear_world(settings: Settings) -> None:
    """Remove the data of a demo home.

    Raises
    ------
    ConfigError
        If the data is not a demo world's, a server is running on it, or its log is on a server.
    """
    if settings.config.log.backend != "sqlite":
        raise ConfigError(
            "config key log.backend",
            value=settings.config.log.backend,
            problem="a demo world begins with an empty log, and nothing here empties one on servers",
            remedy="make the demo in a home with the sqlite backend",
        )
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
