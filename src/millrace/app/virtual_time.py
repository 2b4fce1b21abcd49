"""Virtual time: a home whose event time is moved by `ClockTick` events in its log, and by nothing else.

A home is marked when it is first served so, and stays so: what is claimed, kept and stamped there means nothing on
another clock. Real deadlines, limits and tokens go by real time there too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from millrace.app.http_address import is_loopback
from millrace.app.settings import MillraceConfig, Settings
from millrace.base.clock import Clock, VirtualClock
from millrace.base.errors import ConfigError, SchemaError
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import ClockTick
from millrace.stores.applier import decode_records
from millrace.stores.fold import EventBatch
from millrace.stream.log import Log, total

TICK_TOPIC: Final = "events.clock"
_MAX_AHEAD_MS: Final = 60_000
"""How far ahead of real time a tick may be in a home on real time: other machines' clocks are not quite ours."""

_FIRST_WINDOW: Final = 4_096
_POLL_RECORDS: Final = 65_536
_NOTE: Final = "Event time of this home is virtual: ClockTick events in its log move it. Do not remove.\n"


def has_virtual_time(settings: Settings) -> bool:
    """Whether a home lives in virtual time."""
    return settings.virtual_time_path.exists()


def enter_virtual_time(settings: Settings) -> None:
    """Let a home live in virtual time from now on; it stays so.

    Raises
    ------
    ConfigError
        If its server could be reached by others than programs of this machine, or runs on real time now.
    """
    check_virtual_time(settings.config)
    if has_virtual_time(settings):
        return
    from millrace.app.keeper_lock import running_keeper

    pid = running_keeper(settings.data_dir)
    if pid is not None:
        raise ConfigError(
            "home folder",
            value=str(settings.home),
            problem=f"a server runs on it in real time (its keeper is process {pid})",
            remedy="stop it first",
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    settings.virtual_time_path.write_text(_NOTE)


def check_virtual_time(config: MillraceConfig) -> None:
    """Refuse virtual time where others than programs of this machine could move it.

    Raises
    ------
    ConfigError
        If the address is not a loopback address, or the mode of access is not development.
    """
    if not is_loopback(config.server.host):
        raise ConfigError(
            "config key server.host",
            value=config.server.host,
            problem="reachable from other machines, and virtual time, which any caller moves, binds to loopback only",
            remedy="use 127.0.0.1, or serve a home in real time",
        )
    if config.auth.mode != "development":
        raise ConfigError(
            "config key auth.mode",
            value=config.auth.mode,
            problem="is for viewers from elsewhere, and virtual time is for simulations on this machine",
            remedy="leave it at development, or serve a home in real time",
        )


def tick_rule(clock: Clock) -> Callable[[AnyEvent], None]:
    """Return what the door holds clients' ticks to; it raises `SchemaError` where one is not true.

    In virtual time a tick moves time, forward only. In real time it moves nothing, and must not be from the future:
    it would be believed later, if the home ever went over to virtual time. A tick that passes stamps its own append.
    """

    def check(event: AnyEvent) -> None:
        if not isinstance(event.payload, ClockTick):
            return
        tick_ms = event.payload.now_ms
        if isinstance(clock, VirtualClock):
            if tick_ms < clock.told_ms:
                raise SchemaError(
                    "ClockTick.now_ms",
                    value=tick_ms,
                    problem=f"event time has come to {clock.told_ms} already and never goes back",
                    remedy="go on from there, or begin with a new home",
                )
            clock.take(tick_ms)
        elif tick_ms > clock.now_ms() + _MAX_AHEAD_MS:
            raise SchemaError(
                "ClockTick.now_ms",
                value=tick_ms,
                problem="is in the future, and event time is real here",
                remedy="leave it out; `millrace serve --virtual-time` takes event time from ticks",
            )

    return check


class TickListener:
    """Moves a process's clock by the ticks that its replica folds; an `EventListener`.

    Parameters
    ----------
    clock
        The process's clock.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def hear(self, batch: EventBatch) -> None:
        """Take in decoded events."""
        for row in batch.rows_of((ClockTick,)):
            self._clock.tick_to(batch.events[row].payload.now_ms)


def newest_tick_ms(log: Log, codec: EventCodec) -> int:
    """Return the newest tick that is in the log, 0 if there is none; looks from the end backwards.

    The log keeps it: only records older than a retention counted back from the newest tick are trimmed.
    """
    begin, stop = total(log.begin()), total(log.end())
    window = _FIRST_WINDOW
    while stop > begin:
        start = max(begin, stop - window)
        found = _ticks_between(log, codec, start, stop)
        if found:
            return max(found)
        stop, window = start, window * 4
    return 0


def _ticks_between(log: Log, codec: EventCodec, start: int, stop: int) -> list[int]:
    consumer = log.subscribe("clock", topics=(TICK_TOPIC,), start=(start,))
    found: list[int] = []
    try:
        while total(consumer.position) < stop:
            before = consumer.position
            batch, _ = decode_records(consumer.poll(_POLL_RECORDS), codec.decode)
            found += [event.payload.now_ms for event in batch.events if isinstance(event.payload, ClockTick)]
            if consumer.position == before:
                break
    finally:
        consumer.close()
    return found
