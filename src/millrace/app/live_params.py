"""Live params: edits of ``[params]``, ``[profiles]`` and ``[home] value_profile`` take effect while the server runs.

Every worker looks at the home's ``millrace.toml`` by itself, four times a second. A file that has changed and then
stood still for one look is read and checked in a thread, and its params replace the old ones between two requests.
An edit that cannot be used changes nothing: it is logged, and a gauge says so until the file is right again.
Environment and command line keep their precedence. Every other key is read at start only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from millrace.app.metrics import Metrics
from millrace.app.settings import MillraceConfig, Settings, reload_settings
from millrace.base.config import entries
from millrace.base.errors import ConfigError
from millrace.base.params import ParamSet

EVERY_S: Final = 0.25

_LIVE: Final = ("params.", "profiles.")
_LIVE_KEYS: Final = frozenset({"params", "profiles", "home.value_profile"})

Stamp = tuple[int, int, int]

logger = logging.getLogger(__name__)


class LiveParams:
    """The params that a process serves with, kept up to date with the home's file.

    Parameters
    ----------
    settings
        As the process got them: a worker that starts late may have got old ones, so `start` reads the file.
    params_of
        What a config adds up to (`millrace.app.wiring.config_params`); raises `ConfigError`. Runs in a thread.
    metrics
        Hears whether the file is rejected.

    Attributes
    ----------
    params
        In effect now. A new object with every change: whoever holds one has a snapshot.
    """

    def __init__(self, settings: Settings, params_of: Callable[[Settings], ParamSet], metrics: Metrics) -> None:
        self._settings = settings
        self._params_of = params_of
        self._metrics = metrics
        self._on_change: Callable[[ParamSet], None] = lambda _params: None
        self._read: Stamp | None = None
        self._looked_at: Stamp | None = None
        self._told: tuple[str, ...] = ()
        self._is_rejected = False
        self.params = params_of(settings)

    def on_change(self, take: Callable[[ParamSet], None]) -> None:
        """Call ``take`` with the new params after each change, on the event loop."""
        self._on_change = take

    async def start(self) -> None:
        """Read the file as it is now."""
        await self._take(_stamp(self._settings.config_path))

    async def follow(self) -> None:
        """Look at the file for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except Exception:  # whatever is in that file, pages go on
                logger.exception("%s could not be read again", self._settings.config_path)

    async def look(self) -> None:
        """Take the file's params if it has changed and is not being written any more."""
        stamp = _stamp(self._settings.config_path)
        stands_still = stamp == self._looked_at
        self._looked_at = stamp
        if stands_still and stamp != self._read:
            await self._take(stamp)

    async def _take(self, stamp: Stamp | None) -> None:
        self._read = self._looked_at = stamp  # before reading: what is written meanwhile is noticed at the next look
        try:
            config, params = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._metrics.params_rejected(is_rejected=True)
            self._is_rejected = True
            logger.error("%s; until then the params from before this edit stay in effect", error)
            return
        self._metrics.params_rejected(is_rejected=False)
        if self._is_rejected:
            self._is_rejected = False
            # As loud as a warning: whoever heard that it was rejected hears that it is mended.
            logger.warning("%s can be used again; its params are in effect", self._settings.config_path)
        if params != self.params:
            logger.info("params changed: %s", _difference(self.params, params))
            self.params = params
            self._on_change(params)
        self._tell_of_others(config)

    def _load(self) -> tuple[MillraceConfig, ParamSet]:
        settings = reload_settings(self._settings, self._param_problems)
        return settings.config, self._params_of(settings)

    def _param_problems(self, settings: Settings) -> Iterable[str]:
        try:
            self._params_of(settings)
        except ConfigError as error:
            return error.problems
        return ()

    def _tell_of_others(self, config: MillraceConfig) -> None:
        """Log, once for the same keys, what else differs from the config that this process runs with."""
        running, now = _restart_only(self._settings.config), _restart_only(config)
        changed = tuple(sorted(key for key in running.keys() | now.keys() if running.get(key) != now.get(key)))
        if changed and changed != self._told:
            logger.warning(
                "config keys changed, but take effect at the next start of the server: %s", ", ".join(changed)
            )
        self._told = changed


def _stamp(path: Path) -> Stamp | None:
    """Return what changes whenever a file is written or replaced; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _restart_only(config: MillraceConfig) -> dict[str, object]:
    return {
        entry.key: entry.value
        for entry in entries(config)
        if entry.key not in _LIVE_KEYS and not entry.key.startswith(_LIVE)
    }


def _difference(old: ParamSet, new: ParamSet) -> str:
    """Return which values differ, for people: ``recency.rate_per_h = 0.05``."""
    names = sorted(old.values.keys() | new.values.keys())
    return ", ".join(
        f"{name} = {new.values[name]}" if name in new.values else f"{name} as by default"
        for name in names
        if old.values.get(name) != new.values.get(name)
    )
