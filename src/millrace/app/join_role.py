"""The joiner: a child of the supervisor, of low priority, that makes samples of what is served and done.

It may be killed at any moment (`millrace.flywheel.join_process`), and serving never waits for it. The log is not
trimmed beyond what it has committed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from millrace.app import wiring
from millrace.app.lifeline import Lifeline
from millrace.app.roles_beside import JOINER_LOCK
from millrace.app.settings import Settings
from millrace.base.clock import Clock, VirtualClock
from millrace.base.errors import ConfigError
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.join_process import Epoch, JoinProcess
from millrace.flywheel.join_status import JoinStatus, join_status, keep_status
from millrace.flywheel.join_watch import JoinWatch
from millrace.flywheel.sample_files import SampleFiles
from millrace.stream.log import Log, total

_NICENESS: Final = 10
_POLL_S: Final = 0.2

logger = logging.getLogger(__name__)


class Joiner:
    """The durable join of a home, its status and its metrics.

    Parameters
    ----------
    settings
        The home.
    on_epoch
        Told of each epoch, and how the join stood then.
    """

    def __init__(
        self, settings: Settings, on_epoch: Callable[[Epoch, JoinStatus], None] = lambda _epoch, _status: None
    ) -> None:
        self._settings = settings
        self._clock: Clock = wiring.build_event_clock(settings)
        self._log: Log = wiring.build_log(settings, self._clock)
        self._on_epoch = on_epoch
        self._config = settings.config.flywheel
        self.process: JoinProcess = wiring.build_join_process(settings, self._log, self._clock, self._hear)
        before = join_status(settings.samples_dir)
        self._watch = JoinWatch(self._config.samples, before.points if before else ())
        self._alarm = ""
        self._told_s = self._passed_s = self._heard_s = self._clock.monotonic_s()

    def turn(self) -> bool:
        """Hear what is new; return whether there was anything."""
        was_busy = self.process.turn()
        if was_busy:
            self._heard_s = self._clock.monotonic_s()
        if isinstance(self._clock, VirtualClock):
            # The log tells what time it is, and no replica of it hears that here.
            if was_busy:
                self._clock.tick_to(self.process.join.stats().newest_ms)
        elif not was_busy:
            self._pass_time()
        return was_busy

    def close(self) -> None:
        """Commit what was heard, and close."""
        self.process.stop()
        self._log.close()

    def _pass_time(self) -> None:
        """Let real time carry on the join where the log says nothing: the last pages of an evening.

        Also where nothing waits: who reads samples goes by the watermark, and would take a quiet night for a dead join.
        """
        now_s = self._clock.monotonic_s()
        if now_s - self._passed_s < self._config.samples.epoch_every_s:
            return
        self._passed_s = now_s
        if self.process.join.stats().newest_ms:
            self.process.pass_time(round((now_s - self._heard_s) * 1_000))

    def _hear(self, epoch: Epoch) -> None:
        stats, counts = self.process.join.stats(), self.process.counts
        now_s = self._clock.monotonic_s()
        rate = self._watch.hear(stats, counts.get("pages", 0), counts.get("pages_made_milli", 0) / 1_000)
        status = JoinStatus(
            epoch=epoch.number,
            position=epoch.position,
            told_ms=self._clock.now_ms(),
            watermark_ms=stats.watermark_ms,
            lag_ms=stats.lag_ms,
            lag_records=self.process.lag_records(),
            records_per_s=epoch.n_records / max(now_s - self._told_s, 1e-6),
            n_records=counts.get("records", 0),
            n_pages=counts.get("pages", 0),
            n_samples=counts.get("rows", 0),
            n_corrections=counts.get("corrections", 0),
            n_unreadable=counts.get("unreadable", 0),
            page_bytes=epoch.n_page_bytes,
            mean_page_bytes=epoch.n_page_bytes / max(epoch.n_pages, 1),
            page_bytes_p50=epoch.page_sizes[0],
            page_bytes_p99=epoch.page_sizes[1],
            negative_rate=self._config.join.negative_rate,
            rate=rate,
            stats=stats,
            points=self._watch.points,
        )
        self._told_s = now_s
        keep_status(self._settings.samples_dir, status)
        if rate.alarm and not self._alarm:
            logger.warning("join rate: %s", rate.alarm)
        elif self._alarm and not rate.alarm:
            logger.info("join rate: %.1f%% of looks find their page again", 100 * rate.looks_frac)
        self._alarm = rate.alarm
        self._on_epoch(epoch, status)


def run_joiner(settings: Settings, lifeline: Lifeline) -> None:
    """Join a home until told to end; a child of the supervisor.

    It is ready before it has anything: the feed does not wait for a join that catches up, that somebody else is at by
    hand, or that cannot begin.
    """
    from millrace.app.join_metrics import JoinMetrics

    os.nice(_NICENESS)
    metrics = JoinMetrics(wiring.metrics_dir(settings))
    lifeline.say_ready()
    with join_lock(settings, lifeline.should_stop, lifeline.wait) as is_mine:
        if not is_mine:
            return
        joiner = Joiner(settings, metrics.tell)
        joiner.process.start()
        while not lifeline.should_stop():
            if not joiner.turn():
                lifeline.wait(_POLL_S)
        joiner.close()


def join_needs(settings: Settings, files: SampleFiles) -> int | None:
    """Return the first log record that the join may still read; None where nothing joins."""
    if not settings.config.flywheel.joins:
        return None
    position = JoinCheckpoints(files.state_folder).oldest_position()
    return 0 if position is None else total(position)


@contextmanager
def join_lock(
    settings: Settings, should_stop: Callable[[], bool], wait: Callable[[float], object] = time.sleep
) -> Iterator[bool]:
    """Be the only one who joins a home; yield whether that is so before ``should_stop``.

    The system lets go of the lock when the process ends, however it ends.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (settings.data_dir / JOINER_LOCK).open("a+") as file:
        is_mine = False
        while not is_mine:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_mine = True
            except BlockingIOError:
                if should_stop():
                    break
                wait(_POLL_S)  # the joiner before us is about to end, or somebody joins by hand
        if is_mine:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield is_mine


def running_joiner(settings: Settings) -> int | None:
    """Return the process id of who joined a home last; None if nobody ever did."""
    try:
        text = (settings.data_dir / JOINER_LOCK).read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def follow_by_hand(settings: Settings, *, once: bool) -> None:
    """Join a home in this process: to the end of its log, or until SIGINT or SIGTERM.

    Raises
    ------
    ConfigError
        If somebody joins it already, such as its server.
    """
    with join_lock(settings, lambda: True) as is_mine:
        if not is_mine:
            raise ConfigError(
                "home folder",
                value=str(settings.home),
                problem="is being joined already, by its server or by another command",
                remedy="look at it with --show, or stop that first",
            )
        joiner = Joiner(settings)
        joiner.process.start()
        with stopping() as should_stop:
            while not should_stop():
                if not joiner.turn():
                    if once:
                        break
                    time.sleep(_POLL_S)
        joiner.close()


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Take SIGINT and SIGTERM as "end after this turn"; give what tells whether they came."""
    told: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: told.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
