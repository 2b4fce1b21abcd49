"""The keeper: one process of a home that folds the log without serving.

It alone writes the content store and the checkpoints, exports the log to the warehouse, trims the log, and carries
out erasures. Serving never waits for any of that. Killed at any moment, it goes on from its newest checkpoint; the
content store knows by its own log position what it has taken in already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from millrace.app.chores import Chores
from millrace.app.erasure import Eraser, EraseSamples
from millrace.app.warehouse_upkeep import WarehouseUpkeep
from millrace.app.warehouse_wiring import Erases
from millrace.base.clock import Clock
from millrace.base.errors import CheckpointError, LogError, StoreError
from millrace.events.codec import EventCodec
from millrace.flywheel.warehouse import Warehouse
from millrace.stores.applier import decode_records
from millrace.stores.content_store import ContentStore
from millrace.stores.replica import Replica, Step
from millrace.stores.replica_config import ReplicaConfig
from millrace.stream.log import Log, Position, total

GROUP: Final = "keeper"
_COMMIT_EVERY_S: Final = 1.0
_FINISH_AFTER_S: Final = 60.0
"""How long after its purge an erasure is finished: a worker follows the log at most milliseconds behind."""
_CHORES_EVERY_S: Final = 1.0
_EXPORT_EVERY_S: Final = 60.0
_EXPORT_RECORDS: Final = 20_000
_TRIM_RECORDS: Final = 10_000
_LOOK_EVERY_S: Final = 10.0

logger = logging.getLogger(__name__)


class Keeper:
    """The keeper's work, in turns; the process around it is `millrace.app.keeper_process`.

    Parameters
    ----------
    log, codec, clock
        As everywhere.
    replica
        This process's state; it must have ``content`` among its listeners.
    content
        The content store's write side.
    warehouse
        Where the log is exported to.
    config
        Intervals, sizes, retention.
    forget_pages
        Removes what is claimed for a user, kept pages, and traces of the user's pages: for erasures.
    refresh_social
        Computes social vectors anew from the replica's state; None: no model reads any.
    erases
        The warehouse and what is made of it, for erasures; None: there is nothing but the warehouse.
    upkeep
        Keeps the tables that are made of the warehouse; None: nobody does.
    erase_samples
        Removes a user from the join's samples.
    join_needs
        The first log record that the join may still read; None where nothing joins.
    look_at_join
        Tells how the join stands, whether or not it lives; None: nobody does.
    """

    def __init__(
        self,
        log: Log,
        replica: Replica[Any],
        content: ContentStore,
        warehouse: Warehouse,
        codec: EventCodec,
        clock: Clock,
        config: ReplicaConfig,
        forget_pages: Callable[[str], None],
        refresh_social: Callable[[], object] | None = None,
        erases: Erases | None = None,
        upkeep: WarehouseUpkeep | None = None,
        *,
        erase_samples: EraseSamples = lambda _user, _posts, _before: 0,
        join_needs: Callable[[], int | None] = lambda: None,
        look_at_join: Callable[[], object] | None = None,
    ) -> None:
        self._log = log
        self._replica = replica
        self._content = content
        self._warehouse = warehouse
        self._codec = codec
        self._clock = clock
        self._config = config
        self._group = log.subscribe(GROUP, start=log.end())
        self._eraser = Eraser(
            log,
            content,
            erases or warehouse,
            codec,
            self._renew_checkpoints,
            forget_pages,
            erase_samples=erase_samples,
        )
        self._join_needs = join_needs
        self._newest: Position = (0,)  # the newest checkpoint that exists
        self._tried_at: Position = (0,)  # where writing one was tried last, with success or without
        self._tried_s = self._committed_s = self._chores_s = clock.monotonic_s()
        self._exported_s = self._refreshed_s = float("-inf")
        self._refresh_social = refresh_social
        self._upkeep = upkeep
        self._look_at_join, self._joined_s = look_at_join, clock.monotonic_s()  # not at once: it is starting, too
        self._purged_s = clock.monotonic_s()
        self._committed: Position = (0,)
        self._seen_by_all: Position = (0,)
        self._chores = Chores(clock)

    @property
    def position(self) -> Position:
        """The next record of the log to fold."""
        return self._replica.position

    @property
    def failed_chores(self) -> Mapping[str, int]:
        """How often each chore has failed since the start."""
        return self._chores.n_failed

    @property
    def failing_chores(self) -> Collection[str]:
        """The chores that failed the last time and are tried again later."""
        return self._chores.failing

    def start(self) -> None:
        """Restore the newest good checkpoint and bring the content store up to it.

        Raises
        ------
        CheckpointError, StoreError
            If the state or the content cannot be had.
        """
        checkpoint = self._replica.restore()
        self._newest = self._tried_at = self._seen_by_all = checkpoint.position if checkpoint else self._log.begin()
        if total(self._content.position) > total(self._log.end()):
            raise StoreError(
                "content store",
                value=self._content.position,
                problem=f"is ahead of the log, which ends at {self._log.end()}",
                remedy="restore log, content and checkpoints from one backup",
            )
        self._heal_content()
        self._chores.run("finish erasures", lambda: self._eraser.finish(self._newest))

    def turn(self) -> bool:
        """Fold the next records and do what is due; return whether there were any records."""
        step = self._replica.step(self._config.catch_up_records)
        self._keep_refused(step)
        self._content.commit(self._replica.position)
        now_s = self._clock.monotonic_s()
        if now_s - self._committed_s >= _COMMIT_EVERY_S and self._committed != self._replica.position:
            self._commit()
        n_new = total(self._replica.position) - total(self._tried_at)
        if n_new >= self._config.checkpoint_every_records or (
            n_new and now_s - self._tried_s >= self._config.checkpoint_every_s
        ):
            self.checkpoint()
        if now_s - self._chores_s >= _CHORES_EVERY_S and not self._do_chore(now_s):
            self._chores_s = now_s
        return bool(len(step.records))

    def checkpoint(self) -> Position:
        """Write a checkpoint now, then let go of what it makes superfluous; return the newest one's position."""
        started_s = self._clock.monotonic_s()
        self._content.flush()
        self._tried_at, self._tried_s = self._replica.position, started_s
        try:
            position = self._replica.write_checkpoint(self._clock.now_ms())
        except CheckpointError as error:
            # The older ones are still there; try again when the next one would be due.
            logger.error("%s", error)
            return self._newest
        self._tried_s = self._clock.monotonic_s()
        logger.info("checkpoint at log position %s written in %.2f s", position, self._clock.monotonic_s() - started_s)
        self._chores.run("finish erasures", lambda: self._eraser.finish(position))
        self._chores.run("tidy content", lambda: self._tidy(position))
        self._seen_by_all, self._newest = self._newest, position
        return position

    def stop(self) -> None:
        """Fold what is left, write a last checkpoint if anything happened, and close."""
        while self.turn():
            pass
        if total(self._replica.position) > total(self._newest):
            self.checkpoint()
        if self._upkeep is not None:
            self._upkeep.stop()
        self._chores.run("finish erasures", self._eraser.finish)  # the workers have ended before
        self._commit()
        self._group.close()
        self._replica.close()
        self._content.close()

    def _keep_refused(self, step: Step) -> None:
        """Send unusable events to the dead letters: once, unless the process dies right here."""
        names, topics, data = step.records.topic_names, step.records.topics, step.records.data
        done = total(self._content.position)
        letters = [
            (names[int(topics[refused.row])], f"group/{GROUP}", refused.reason, data[refused.row])
            for refused in step.applied.refused
            if int(step.records.offsets[refused.row]) >= done
        ]
        for collision in self._content.collisions:
            topic = self._codec.registry.of(collision.event.payload).topic
            letters.append((topic, f"group/{GROUP}", collision.reason, self._codec.encode(collision.event)))
        if letters:
            logger.warning("%d events cannot be used and are kept as dead letters", len(letters))
            self._log.dead_letter(letters)

    def _heal_content(self) -> None:
        """Take in what the content store has missed (its file was removed, or is older than the state)."""
        start, stop = total(self._content.position), total(self._replica.position)
        if start >= stop:
            return
        begin = total(self._log.begin())
        if start < begin:
            logger.error(
                "the content store stands at log position %d, but the log is only kept from %d on: texts and "
                "names from before are lost unless the content store is restored from a backup",
                start,
                begin,
            )
        consumer = self._log.subscribe(GROUP, without=self._codec.registry.unfolded_topics, start=(max(start, begin),))
        try:
            while (at := total(consumer.position)) < stop:
                records = consumer.poll(self._config.catch_up_records, before=(stop,))
                if total(consumer.position) == at:
                    break
                batch, _ = decode_records(records, self._codec.decode)
                self._content.hear(batch)
                self._content.commit(records.end)
        finally:
            consumer.close()

    def _do_chore(self, now_s: float) -> bool:
        """Do one bounded piece of background work; return whether the next should follow at once.

        None of them is needed for folding and checkpoints, so a failure of one holds up nothing but itself.
        """
        if self._chores.run("erase", self._eraser.step):
            return True
        if self._config.exports_to_warehouse and now_s - self._exported_s >= _EXPORT_EVERY_S:
            if self._chores.run("export", self._export):
                return True
            self._exported_s = now_s
        if now_s - self._purged_s >= _FINISH_AFTER_S:
            # No further checkpoint comes while nothing happens, and an erasure must not wait for that.
            self._purged_s = now_s
            self._chores.run("finish erasures", self._eraser.finish)
        self._chores.run("trim", self._trim)
        if self._upkeep is not None:
            self._chores.run("keep the warehouse", self._upkeep.look)
        if self._look_at_join is not None and now_s - self._joined_s >= _LOOK_EVERY_S:
            self._joined_s = now_s
            self._chores.run("look at the join", self._look_at_join)
        if self._refresh_social and self._is_refresh_due(now_s):
            self._refreshed_s = now_s
            self._chores.run("refresh social vectors", self._refresh_social)
        return False

    def _is_refresh_due(self, now_s: float) -> bool:
        """Return whether it is time, and the state no old one that is still catching up."""
        is_time = now_s - self._refreshed_s >= self._config.refresh_social_every_s
        return is_time and total(self._log.end()) - total(self._replica.position) < self._config.catch_up_records

    def _export(self) -> bool:
        # Whoever writes there now (a training, the command) exports what this would: folding does not wait for that.
        report = self._warehouse.export(
            self._log, max_records=_EXPORT_RECORDS, chunk_records=_EXPORT_RECORDS, waits=False
        )
        return report.n_events > 0

    def _tidy(self, position: Position) -> None:
        self._content.tidy(
            seen_by_all=self._seen_by_all,
            position=position,
            now_ms=self._clock.now_ms(),
            retention_ms=self._config.content_retention_ms,
        )

    def _trim(self) -> None:
        """Forget log records that are old enough and that nobody needs any more."""
        oldest = self._replica.checkpoints.oldest_position()
        if oldest is None:
            return
        limits = [total(oldest), total(self._content.position)]
        limits.append(self._content.position_at(self._clock.now_ms() - self._config.log_retention_ms))
        if self._config.exports_to_warehouse:
            limits.append(total(self._warehouse.position() or (0,)))
        limits += [needed for needed in (self._eraser.oldest_needed(), self._join_needs()) if needed is not None]
        limit = min(limits)
        if limit - total(self._log.begin()) >= _TRIM_RECORDS:
            n_gone = self._log.trim((limit,))
            logger.info("%d log records before position %d trimmed", n_gone, limit)

    def _renew_checkpoints(self) -> Position:
        self._content.flush()
        position = self._replica.write_checkpoint(self._clock.now_ms())
        self._replica.checkpoints.drop_before(position)
        self._newest = self._tried_at = position
        self._tried_s = self._purged_s = self._clock.monotonic_s()
        return position

    def _commit(self) -> None:
        self._committed_s = self._clock.monotonic_s()
        try:
            self._group.commit(self._replica.position)
            self._committed = self._replica.position
        except LogError as error:  # a full disk: the lag looks larger than it is, nothing else
            logger.warning("%s", error)
