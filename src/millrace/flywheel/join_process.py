"""`JoinProcess`: the streaming join made durable. It reads the log, joins, and commits samples epoch by epoch.

An epoch is: hear records, let out what is due, write it and the pages heard to Parquet files that name the epoch, then
write the checkpoint (`millrace.flywheel.join_checkpoint`): the join's state, the log position, the epoch's number. The
checkpoint is the commit. What was killed before it is redone from the one before; its files name an epoch that was
never committed, and are removed. After it the epoch's samples are published to the topic, from what was committed, and
once more after every start: a transactional outbox. So each sample is in effect there exactly once, in either place,
although the process may die anywhere and the log delivers at least once.

A failed write ends the process: started again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import LogError, StoreError
from millrace.events.codec import EventCodec
from millrace.flywheel.erased_users import ErasedUsers, pages_without, rows_without
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_checkpoint import FORMAT_VERSION, JoinCheckpoint, JoinCheckpoints, JoinHead
from millrace.flywheel.join_columns import JoinColumns
from millrace.flywheel.join_records import JoinRecords
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.sample_config import SampleConfig
from millrace.flywheel.sample_files import LABELS, PAGES, SampleFiles, read_tables
from millrace.flywheel.sample_names import epoch_of
from millrace.flywheel.sample_tables import LoggedPages, concatenated, joined_rows, label_table
from millrace.flywheel.sample_topic import sample_messages
from millrace.stream.log import Log, Position, total

GROUP: Final = "flywheel.join"
_POLL_RECORDS: Final = 8_192
_PUBLISH_MESSAGES: Final = 2_000
_N_SIZES: Final = 10_000
"""Newest pages whose sizes are told of."""
_WITNESSES: Final = 64
"""As many records as the join ever asks for before it believes a time."""
SILENCE_MS: Final = 600_000
"""In silence, how far the watermark goes on before an epoch tells of that alone: its readers wait for hours."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch came to.

    Attributes
    ----------
    number, position
        Its number, and the log position it was committed at.
    n_records, n_pages, n_page_bytes
        Heard: records, pages with features among them, and the packed bytes of these.
    page_sizes
        Packed bytes of half and of 99 of 100 of the newest pages are at most these; zeros where there were none.
    n_rows, n_corrections
        Let out: samples, and how many of them correct earlier ones.
    took_s
        How long writing and publishing took.
    """

    number: int
    position: Position
    n_records: int
    n_pages: int
    n_page_bytes: int
    n_rows: int
    n_corrections: int
    took_s: float
    page_sizes: tuple[float, float] = (0.0, 0.0)


class JoinProcess:
    """The join's work, in turns.

    Parameters
    ----------
    log
        Read, and published to.
    join
        The streaming join; it has heard nothing yet.
    records
        Decodes log records for it.
    files, checkpoints
        Where samples and state are kept.
    codec
        Encodes what is published.
    clock
        Event clock: stamps what is published; monotonic time decides when an epoch ends.
    config
        How often, how much.
    actions
        Names of the label columns.
    hold_ms
        How long the join holds a row.
    on_epoch
        Told of each epoch once it is committed and published.
    """

    def __init__(
        self,
        log: Log,
        join: StreamJoin,
        records: JoinRecords,
        files: SampleFiles,
        checkpoints: JoinCheckpoints,
        codec: EventCodec,
        clock: Clock,
        config: SampleConfig,
        *,
        actions: tuple[str, ...],
        hold_ms: int,
        on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
    ) -> None:
        self._log = log
        self._join = join
        self._records = records
        self._files = files
        self._checkpoints = checkpoints
        self._codec = codec
        self._clock = clock
        self._config = config
        self._actions = actions
        self._hold_ms = hold_ms
        self._on_epoch = on_epoch
        self._erased = ErasedUsers(files)
        self._unread = set(codec.registry.unfolded_topics) - set(records.topics)
        self._consumer = log.subscribe(GROUP, without=self._unread, start=log.begin())
        self._told_at = self._consumer.position  # what the log knows of how far the group has come
        self._epoch = 0
        self._counts: dict[str, int] = {}
        self._pages = LoggedPages()
        self._n_page_bytes = 0
        self._page_sizes: deque[int] = deque(maxlen=_N_SIZES)
        self._n_heard = 0
        self._watermark_ms = 0  # of the newest epoch
        self._has_passed = False  # time went by in silence, and something came of it
        self._epoch_s = clock.monotonic_s()
        self._heard_ms = 0  # the newest event time when the last record was heard

    @property
    def join(self) -> StreamJoin:
        """The join in memory."""
        return self._join

    @property
    def position(self) -> Position:
        """The next record of the log to hear."""
        return self._consumer.position

    @property
    def epoch(self) -> int:
        """The newest committed epoch; 0 before the first."""
        return self._epoch

    @property
    def counts(self) -> dict[str, int]:
        """Totals since the beginning, over all restarts."""
        return dict(self._counts)

    def lag_records(self) -> int:
        """Return how many records of the topics that it hears the log holds beyond what was heard.

        Not its own samples, nor other topics that are passed over; from `_POLL_RECORDS` on, with them.
        """
        probe = self._log.subscribe(GROUP, without=self._unread, start=self._consumer.position)
        try:
            n_behind = len(probe.poll(_POLL_RECORDS))
        finally:
            probe.close()
        return n_behind if n_behind < _POLL_RECORDS else max(self._log.lag(GROUP), n_behind)

    def start(self) -> None:
        """Go on from the newest checkpoint: remove what was not committed, publish once more what was.

        Raises
        ------
        CheckpointError
            If the checkpoints belong to another log.
        StoreError
            If committed files cannot be read.
        """
        found = self._checkpoints.load(log_id=self._log.log_id, end=self._log.end(), actions=self._actions)
        with self._files.locked():
            if found is None:
                # Nothing is known to be committed, and nothing is removed: what is heard anew counts, for its epochs
                # are later ones.
                self._epoch = self._files.newest_epoch_on_disk()
                if self._epoch == 1 and not self._checkpoints.paths():
                    self._epoch -= self._files.remove_after(0) > 0
                return
            self._epoch, self._counts = found.head.epoch, dict(found.head.counts)
            self._watermark_ms = found.head.watermark_ms
            n_removed = self._files.remove_after(self._epoch)
        if n_removed:
            logger.info("%d sample files of an epoch that was not committed are removed", n_removed)
        self._join.restore(found.arrays)
        self._heard_ms = self._join.stats().newest_ms
        self._seek(found.head.position)
        self._publish(self._committed_rows())

    def pass_time(self, silent_ms: int) -> None:
        """Hear that nothing was written for so long since the last record: a silent log says nothing of the time.

        How long, by a clock that nobody sets, and not up to which moment: a machine whose date is wrong once would take
        the watermark with it, and whatever came after it would be too late. Whoever has written an earlier event late
        is joined all the same, as a correction.
        """
        now_ms = self._heard_ms + silent_ms
        n, n_waited = _WITNESSES, self._join.stats().n_waiting
        times = np.full(n, now_ms, dtype=np.int64)
        nothing, small = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.uint8)
        offsets = np.full(n, total(self._consumer.position) - 1, dtype=np.int64)
        codes, starts = np.zeros(n, dtype=np.int32), np.zeros(1, dtype=np.int64)
        self._join.hear_columns(
            JoinColumns(
                small,
                offsets,
                times,
                nothing,
                nothing,
                nothing,
                nothing,
                nothing - 1,
                codes,
                small,
                starts,
                nothing[:0],
            )
        )
        stats = self._join.stats()
        self._has_passed |= stats.n_waiting < n_waited or stats.watermark_ms - self._watermark_ms >= SILENCE_MS

    def turn(self) -> bool:
        """Hear the next records and do what is due; return whether there were any records."""
        records = self._consumer.poll(max(min(_POLL_RECORDS, self._config.epoch_records - self._n_heard), 1))
        if len(records):
            n_before = len(self._pages)
            self._join.hear_columns(self._records.read(records, self._pages))
            sizes = [len(array) for array in self._pages.arrays[n_before:]]
            self._page_sizes.extend(sizes)
            self._n_page_bytes += sum(sizes)
            self._n_heard += len(records)
            self._heard_ms = self._join.stats().newest_ms
        if self._is_due():
            self.commit()
        elif not (len(records) or self._n_heard) and self._consumer.position != self._told_at:
            self._tell_position()  # nothing but passed over, its own samples mostly: it is not behind for them
        return bool(len(records))

    def stop(self) -> None:
        """Commit what was heard, or fell due, since the last epoch, and close."""
        if self._n_heard or self._has_passed:
            self.commit()
        self.close()

    def close(self) -> None:
        """Close without committing."""
        self._consumer.close()

    def commit(self) -> Epoch:
        """End the epoch now.

        Raises
        ------
        StoreError, CheckpointError, LogError
            If something cannot be written: the process must end then, for what was let out is in no file.
        """
        started_s = self._clock.monotonic_s()
        number, position = self._epoch + 1, self._consumer.position
        with self._files.locked():
            rows, pages = self._join.let_out(), self._pages
            if erased := self._erased.read():
                pages, _, told = pages_without(pages, erased)
                if told != erased:
                    self._erased.replace(told)
                rows = rows_without(rows, told)
            epoch = self._written(number, position, rows, pages)
            watermark_ms = self._join.stats().watermark_ms
            self._files.at_point("commit")
            self._checkpoints.write(
                JoinCheckpoint(
                    JoinHead(
                        format_version=FORMAT_VERSION,
                        fingerprint="",
                        log_id=self._log.log_id,
                        position=position,
                        epoch=number,
                        watermark_ms=watermark_ms,
                        written_ms=self._clock.now_ms(),
                        actions=self._actions,
                        counts=self._counts,
                    ),
                    self._join.state(),
                )
            )
            self._epoch = number
            self._files.at_point("committed")
            if erased:
                self._erased.seen(watermark_ms, self._hold_ms)
            # Not by a watermark that a wrong date has put into the future.
            self._files.remove_before(min(watermark_ms, self._clock.now_ms()) - self._config.retention_ms)
        self._pages, self._n_page_bytes, self._n_heard = LoggedPages(), 0, 0
        self._watermark_ms, self._has_passed = watermark_ms, False
        self._publish(rows)
        self._epoch_s = self._clock.monotonic_s()
        epoch = replace(epoch, took_s=self._epoch_s - started_s)
        self._on_epoch(epoch)
        return epoch

    def _written(self, number: int, position: Position, rows: JoinedRows, pages: LoggedPages) -> Epoch:
        try:
            if len(pages):
                self._files.write(PAGES, pages.table(), np.array(pages.times_ms, dtype=np.int64), number)
            if len(rows):
                self._files.write(LABELS, label_table(rows, self._actions, number), rows.page_ms, number)
        except OSError as error:
            raise StoreError(
                "sample files",
                value=str(self._files.folder),
                problem=f"cannot be written ({error.strerror or error})",
                remedy="make room on the disk and check permissions; nothing is lost, it is joined again",
            ) from error
        n_corrections = int(np.count_nonzero(rows.revisions))
        for name, n in (
            ("records", self._n_heard),
            ("pages", len(self._pages)),
            ("pages_made_milli", sum(round(1_000 / max(share, 0.001)) for share in self._pages.shares)),
            ("page_bytes", self._n_page_bytes),
            ("rows", len(rows)),
            ("corrections", n_corrections),
            ("unreadable", self._records.n_unreadable),
        ):
            self._counts[name] = self._counts.get(name, 0) + n
        self._records.n_unreadable = 0
        return Epoch(
            number,
            position,
            self._n_heard,
            len(self._pages),
            self._n_page_bytes,
            len(rows),
            n_corrections,
            0.0,
            self._size_quantiles(),
        )

    def _size_quantiles(self) -> tuple[float, float]:
        if not self._page_sizes:
            return 0.0, 0.0
        half, nearly_all = np.quantile(np.array(self._page_sizes), (0.5, 0.99)).tolist()
        return half, nearly_all

    def _is_due(self) -> bool:
        if not (self._n_heard or self._has_passed):
            return False
        return (
            self._n_heard >= self._config.epoch_records
            or self._n_page_bytes >= self._config.epoch_mb << 20
            or self._clock.monotonic_s() - self._epoch_s >= self._config.epoch_every_s
        )

    def _seek(self, position: Position) -> None:
        begin = self._log.begin()
        if total(position) < total(begin):
            logger.error(
                "log records %d to %d were trimmed before they were joined: their samples are missing",
                total(position),
                total(begin),
            )
            position = begin
        self._consumer.seek(position)

    def _committed_rows(self) -> JoinedRows:
        """Return what the newest committed epoch let out, from its files."""
        paths = [path for path in self._files.paths(LABELS, up_to=self._epoch) if epoch_of(path) == self._epoch]
        parts = [joined_rows(table, self._actions) for _, table in read_tables(paths)]
        return concatenated(parts, len(self._actions))

    def _publish(self, rows: JoinedRows) -> None:
        """Append the newest epoch's samples to the topic, then tell the log how far the group has come."""
        if self._config.publishes:
            waiting = sample_messages(rows, self._epoch, self._clock.now_ms(), self._codec)
            while messages := list(itertools.islice(waiting, _PUBLISH_MESSAGES)):
                self._files.at_point("publish")
                self._log.append(messages)
        self._tell_position()

    def _tell_position(self) -> None:
        self._told_at = self._consumer.position
        try:
            self._consumer.commit(self._told_at)
        except LogError as error:  # the lag looks larger than it is, nothing else
            logger.warning("%s", error)
