"""A world's home: its history taken in through the door, folded once, and kept, so that every run can start from it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.intake import Intake, batches
from millrace.app.settings import Settings, load_settings
from millrace.base.clock import ManualClock
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher
from millrace.simulator.config import WorldConfig
from millrace.simulator.snapshot import Snapshot, write_snapshot
from millrace.simulator.world import World

START_MS: Final = 1_767_571_200_000
"""Where virtual time begins when a world's history is over: Monday, 5 January 2026, 00:00 UTC."""

LAYOUT: Final = 2
"""Raised when worlds that were kept must be made anew."""

_STATE: Final = "world.npz"
_FOLD_RECORDS: Final = 20_000


def world_key(config: WorldConfig) -> str:
    """Return a short name of a world: equal for equal worlds of the same code."""
    from millrace.stores.state import STATE_VERSION

    parts = (LAYOUT, STATE_VERSION, config, source_digest())
    digest = hashlib.blake2b(msgspec.json.encode(parts), digest_size=4).hexdigest()
    return f"{config.mechanism}-{config.size}-{config.seed}-{digest}"


def base_home(config: WorldConfig, folder: Path, on_progress: Callable[[int], None] = lambda _n: None) -> Path:
    """Return the home that holds a world's history and nothing else; it is made where there is none.

    Parameters
    ----------
    config
        The world.
    folder
        Where such homes are kept.
    on_progress
        Called with the number of events of each batch.

    Raises
    ------
    StoreError
        If the door refuses an event: a defect.
    """
    home = folder / world_key(config)
    if (home / _STATE).exists():
        return home
    fresh = folder / f".{home.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    settings, _ = make_home(fresh)
    clock = ManualClock(START_MS)
    world = World(config, START_MS)
    with Intake(settings, clock) as intake:
        for batch in batches(world.history()):
            intake.take(batch)
            on_progress(len(batch))
    if intake.refusals:
        raise StoreError("world", value=intake.refusals[0], problem="refused at the door", remedy="report it")
    position = _fold(settings, clock)
    encode = wiring.build_codec(settings).encode
    to_come = tuple((event.event_time_ms, encode(event)) for event in world.to_come)
    snapshot = Snapshot(start_ms=START_MS, log_position=position, under_way=to_come)
    write_snapshot(fresh / _STATE, snapshot, world)
    shutil.rmtree(home, ignore_errors=True)
    fresh.rename(home)
    return home


def copy_home(base: Path, home: Path) -> Settings:
    """Return the settings of a fresh copy of a base home."""
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(base, home)
    return load_settings(home)


def state_path(home: Path) -> Path:
    """Return where the state of the world itself is kept, as of the end of its history."""
    return home / _STATE


def _fold(settings: Settings, clock: ManualClock) -> int:
    """Fold the history, and keep content and state, so that runs need not."""
    hasher = IdHasher()
    log = wiring.build_log(settings, clock)
    content = wiring.build_content_store(settings, hasher)
    replica = wiring.build_replica(
        settings, log, listeners=(content,), has_content_reads=False, clock=clock, hasher=hasher
    )
    replica.restore()
    while len(replica.step(_FOLD_RECORDS).records):
        content.commit(replica.position)
    content.flush()
    replica.write_checkpoint(clock.now_ms())
    position = replica.position[0]
    replica.close()
    content.close()
    log.close()
    return position


def source_digest() -> str:
    """Return a digest of the world's own sources: another world is made when they change."""
    import millrace.simulator

    digest = hashlib.blake2b(digest_size=8)
    folder = Path(millrace.simulator.__path__[0])
    for path in sorted([*folder.glob("*.py"), *folder.glob("mechanisms/*"), *folder.glob("vocabulary/*.toml")]):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
