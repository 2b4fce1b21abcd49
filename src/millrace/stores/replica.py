"""`Replica`: this process's own copy of the state, restored from a checkpoint and kept up with the log.

Every process is one: workers, which serve requests from it, and the keeper, which writes the checkpoints. A
request holds the replica's read gate and so sees every store at one log position; folding happens between
requests, never within one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from millrace.base.clock import Clock
from millrace.base.errors import CheckpointError, NotReadyError, StoreError
from millrace.events.envelope import AnyEvent
from millrace.stores.applier import Applied, Applier, EventListener
from millrace.stores.checkpoint import Checkpoint, Checkpoints, ForeignCheckpointError
from millrace.stores.content_overlay import ContentReader
from millrace.stores.fold import Arrays, Fold
from millrace.stores.read_gate import ReadGate
from millrace.stores.replica_config import ReplicaConfig
from millrace.stores.watermark import Watermark
from millrace.stream.log import Log, Position, RecordBatch, total

CONTENT_CHECK_S: Final = 0.25
"""How often a worker looks how far the keeper's content file has come."""

STALE_AFTER_S: Final = 2.0
"""A worker that has not looked at the log for this long is not ready."""

logger = logging.getLogger(__name__)


class FoldedState(Protocol):
    """All stores of one process, as the replica sees them."""

    @property
    def watermark(self) -> Watermark:
        """The log's watermark, part of the state."""

    def folds(self) -> Sequence[Fold]:
        """Return every fold, in the order of application."""


StateT = TypeVar("StateT", bound=FoldedState)
StateT_co = TypeVar("StateT_co", bound=FoldedState, covariant=True)


@dataclass(frozen=True, slots=True)
class Reading(Generic[StateT_co]):
    """What a request reads: the state, and the log position it stands at for as long as the gate is held."""

    state: StateT_co
    position: Position


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of records, applied."""

    records: RecordBatch
    applied: Applied


@dataclass(frozen=True, slots=True)
class _Found(Generic[StateT]):
    """A state to begin with."""

    state: StateT
    position: Position
    checkpoint: Checkpoint | None
    refused: tuple[CheckpointError, ...]


class Replica(Generic[StateT]):
    """One process's state and its place in the log. Belongs to one thread (one event loop).

    Parameters
    ----------
    log
        Followed from the checkpoint on.
    decode
        Bytes to event; raises `SchemaError`.
    make_state
        Returns an empty state.
    checkpoints
        Where to begin.
    clock
        Its monotonic side tells whether following has stalled.
    config
        Intervals and batch sizes.
    content
        Content reads of this process; its overlay hears every event.
    listeners
        Further listeners.
    group
        Name of the consumer group; nothing but the keeper commits.
    unread
        Topics that change no store: they are passed over, here and in every other process.
    tells_lag
        Whether ``clock`` and the stamps of appends are real, so that their difference is how long a record waited.
    """

    def __init__(
        self,
        log: Log,
        decode: Callable[[bytes], AnyEvent],
        make_state: Callable[[], StateT],
        checkpoints: Checkpoints,
        *,
        clock: Clock,
        config: ReplicaConfig | None = None,
        content: ContentReader | None = None,
        listeners: Sequence[EventListener] = (),
        group: str = "replica",
        unread: Collection[str] = (),
        tells_lag: bool = True,
    ) -> None:
        self.log = log
        self.checkpoints = checkpoints
        self.content = content
        self.config = config or ReplicaConfig()
        self.gate = ReadGate()
        self.refused: tuple[CheckpointError, ...] = ()
        self._decode = decode
        self._make_state = make_state
        self.clock = clock
        self._listeners = (*((content.overlay,) if content else ()), *listeners)
        self._consumer = log.subscribe(group, without=unread, start=log.begin())
        self._has_caught_up = False
        self._longest_lag_ms = 0
        self._tells_lag = tells_lag
        self._broken = ""
        self._polled_at_s = float("-inf")
        self._state: StateT
        self._position: Position
        self._adopt(make_state(), log.begin())

    @property
    def state(self) -> StateT:
        """The live state; read it only while holding the gate, or where nothing folds."""
        return self._state

    @property
    def position(self) -> Position:
        """The next record of the log to apply."""
        return self._position

    def restore(self, not_beyond: Position | None = None) -> Checkpoint | None:
        """Load the newest good checkpoint, or begin at the log's beginning; return the checkpoint used.

        Parameters
        ----------
        not_beyond
            Use none that stands beyond this position of the log: for looking back at how things stood.

        Raises
        ------
        CheckpointError
            If no checkpoint can be used and the log has been trimmed, so that the state cannot be had.
        """
        return self._start_from(self._find(not_beyond))

    async def restore_aside(self) -> Checkpoint | None:
        """Do what `restore` does; reading and checking the files keeps a thread busy and the event loop free."""
        return self._start_from(await asyncio.to_thread(self._find))

    def _start_from(self, found: _Found[StateT]) -> Checkpoint | None:
        self.refused = found.refused
        self._adopt(found.state, found.position)
        return found.checkpoint

    def _find(self, not_beyond: Position | None = None) -> _Found[StateT]:
        """Return the state to begin with. Touches nothing that requests look at: it may run in a thread."""
        end = self.log.end()
        begin = self.log.begin()
        refused: list[CheckpointError] = []
        for path in reversed(self.checkpoints.paths()):
            try:
                checkpoint = self.checkpoints.load(path, end, log_id=self.log.log_id)
                if not_beyond is not None and total(checkpoint.position) > total(not_beyond):
                    continue
                state = self._fill(checkpoint, begin)
            except ForeignCheckpointError:
                raise
            except CheckpointError as error:
                logger.error("%s", error)
                refused.append(error)
                continue
            return _Found(state, checkpoint.position, checkpoint, tuple(refused))
        if total(begin) > 0:
            self.refused = tuple(refused)
            raise CheckpointError(
                "checkpoints",
                value=str(self.checkpoints.folder),
                problem=f"none can be used, and the log is only kept from position {tuple(begin)} on",
                remedy="restore a backup; `millrace doctor` shows what is wrong with each checkpoint",
            )
        return _Found(self._make_state(), begin, None, tuple(refused))

    def step(self, max_records: int, *, before: Position | None = None) -> Step:
        """Apply the next records of the log, at once, none at or after ``before``; perhaps none are there."""
        return self._apply(self._consumer.poll(max_records, before=before))

    def catch_up(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Apply everything that is in the log now; return how many records.

        Parameters
        ----------
        on_progress
            Called with (records applied, records to apply) after every step.
        """
        first, last = total(self._position), total(self.log.end())
        while total(self._position) < last:
            before = total(self._position)
            step = self.step(self.config.catch_up_records)
            if total(self._position) == before and not len(step.records):
                break
            if on_progress is not None:
                on_progress(total(self._position) - first, last - first)
        return total(self._position) - first

    async def follow(self) -> None:
        """Keep up with the log until cancelled, folding between requests."""
        self._consumer.seek(self._position)
        pause_s = self.config.poll_interval_ms / 1000
        content_checked_s = float("-inf")
        while True:
            # Before the first page is served there is nobody to keep waiting: larger steps cost less.
            limit = self.config.fold_records if self._has_caught_up else self.config.catch_up_records
            records = self._consumer.poll(limit)
            if len(records):
                async with self.gate.write():
                    self._apply(records)
                if self._has_caught_up and self._tells_lag:
                    lag_ms = self.clock.now_ms() - int(records.appended_ms[0])
                    self._longest_lag_ms = max(self._longest_lag_ms, lag_ms)
            else:
                self._position = records.end
            now_s = self._polled_at_s = self.clock.monotonic_s()
            if now_s - content_checked_s > CONTENT_CHECK_S and self.content is not None:
                self.content.refresh()
                content_checked_s = now_s
            if len(records) < limit:
                self._has_caught_up = True
                await asyncio.sleep(pause_s)
            else:
                await asyncio.sleep(0)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Reading[StateT]]:
        """Hold the state still for one request: all stores at one log position.

        Raises
        ------
        NotReadyError
            If a fold has failed: what it left half-changed is never read.
        """
        async with self.gate.read():
            if self._broken:
                raise NotReadyError("state", problem=self._broken, remedy="the worker is about to start again")
            yield Reading(self._state, self._position)

    def why_not_ready(self) -> str:
        """Return why this process must not serve (yet); empty if it may."""
        if self._broken:
            return self._broken
        if not self._has_caught_up:
            return "the state has not caught up with the log yet"
        if self.clock.monotonic_s() - self._polled_at_s > STALE_AFTER_S:
            return "the log has not been followed for a while"
        if self.content is not None and not self.content.is_covered():
            return "the content store has not caught up with the checkpoint yet"
        return ""

    def is_ready(self) -> bool:
        """Whether this process has caught up and is following."""
        return not self.why_not_ready()

    def lag(self) -> int:
        """Return how many records of the log are not applied yet."""
        return max(total(self.log.end()) - total(self._position), 0)

    def take_lag_ms(self) -> int:
        """Return how long the record that waited longest was in the log before it was folded, since the last call.

        In virtual time nobody knows: then it is 0, and `lag` alone tells whether this process is behind.
        """
        longest_ms, self._longest_lag_ms = self._longest_lag_ms, 0
        return longest_ms

    def arrays(self) -> dict[str, Arrays]:
        """Return the whole state: store name to its live arrays."""
        named = {fold.name: fold.arrays() for fold in self._state.folds()}
        if len(named) != len(self._state.folds()) or Watermark.name in named:
            raise StoreError(
                "fold names", value=list(named), problem="not unique", remedy="name every fold differently"
            )
        return {**named, Watermark.name: self._state.watermark.arrays()}

    def write_checkpoint(self, created_at_ms: int) -> Position:
        """Write a checkpoint of the state as it is; return its position."""
        self._refuse_if_broken()
        self.checkpoints.write(self.arrays(), self._position, created_at_ms, log_id=self.log.log_id)
        return self._position

    def close(self) -> None:
        """Release the log consumer and the content file."""
        self._consumer.close()
        if self.content is not None:
            self.content.close()

    def _fill(self, checkpoint: Checkpoint, begin: Position) -> StateT:
        if total(checkpoint.position) < total(begin):
            raise CheckpointError(
                "checkpoint",
                value=str(checkpoint.path),
                problem=f"stands at log position {checkpoint.position}, but the log begins at {tuple(begin)}",
                remedy="it is left out; restore log and checkpoints from one backup",
            )
        state = self._make_state()
        try:
            for fold in state.folds():
                fold.load(checkpoint.of(fold.name))
            state.watermark.load(checkpoint.of(Watermark.name))
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise CheckpointError(
                "checkpoint",
                value=str(checkpoint.path),
                problem=f"does not fit this version of the stores ({type(error).__name__}: {error})",
                remedy="it is left out; the one before it is used",
            ) from error
        return state

    def _adopt(self, state: StateT, position: Position) -> None:
        self._state = state
        self._position = position
        self._broken = ""
        self._applier = Applier(state.folds(), state.watermark, self._decode, self._listeners)
        self._consumer.seek(position)
        if self.content is not None:
            self.content.start_at(position)

    def _apply(self, records: RecordBatch) -> Step:
        self._refuse_if_broken()
        try:
            applied = self._applier.apply(records)
        except BaseException as error:
            # Whatever it was: some folds have taken these records in and others have not.
            self._broken = f"folding failed half-way and left the state unusable ({error})"
            raise
        self._position = records.end
        return Step(records, applied)

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise StoreError("state", value=self._position, problem=self._broken, remedy="restore it from a checkpoint")
