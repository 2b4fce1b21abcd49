"""What each event changes: the one place where records of the log become state.

A batch of records is decoded, split where the watermark enters a new minute, and handed to every fold in one
fixed order; after each piece the folds are ticked. How the log was cut into batches leaves no trace in the
state (`millrace.stores.fold` gives the rules that make it so).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from millrace.base.errors import SchemaError, StoreError
from millrace.events.envelope import AnyEvent
from millrace.stores.fold import EventBatch, Fold, effective_time_ms
from millrace.stores.watermark import Watermark
from millrace.stream.log import RecordBatch

_PURGED: Final = b""


class EventListener(Protocol):
    """Something beside the state that hears every decoded event: content, the overlay. Not checkpointed."""

    def hear(self, batch: EventBatch) -> None:
        """Take in decoded events, in log order."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that could not be used.

    Attributes
    ----------
    row
        Its place in the record batch.
    reason
        The error's message.
    """

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a record batch.

    Attributes
    ----------
    n_events
        How many events were applied.
    n_ticks
        How often the folds were ticked.
    refused
        Records that cannot be decoded; the keeper sends them to the dead letters.
    """

    n_events: int
    n_ticks: int
    refused: tuple[Refused, ...]


class Applier:
    """Applies records to folds.

    Parameters
    ----------
    folds
        In the order of application.
    watermark
        The watermark of the same state.
    decode
        Bytes to event; raises `SchemaError`.
    listeners
        Hear the decoded events after the folds have applied them.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        watermark: Watermark,
        decode: Callable[[bytes], AnyEvent],
        listeners: Sequence[EventListener] = (),
    ) -> None:
        self._folds = tuple(folds)
        self._watermark = watermark
        self._decode = decode
        self._listeners = tuple(listeners)

    def apply(self, records: RecordBatch) -> Applied:
        """Apply all records; purged ones are skipped, undecodable ones reported.

        Raises
        ------
        StoreError
            If a fold fails. That is a defect: the state is half-changed and must be thrown away.
        """
        batch, refused = decode_records(records, self._decode)
        times = np.fromiter((event.event_time_ms for event in batch.events), dtype=np.int64, count=len(batch))
        times = effective_time_ms(times, batch.appended_ms)
        # Purged and undecodable records witness no time, but they count: ticks stay about where they were.
        if len(batch) < len(records):
            all_times = np.zeros(len(records), dtype=np.int64)
            all_times[np.isin(records.offsets, batch.offsets)] = times
            times = all_times
        ticks = self._watermark.advance(times)
        start = 0
        for row, watermark_ms in ticks.tolist():
            stop = int(np.searchsorted(batch.offsets, records.offsets[row], side="right"))
            if stop > start:
                self._apply_piece(batch.slice(start, stop))
            for fold in self._folds:
                fold.tick(watermark_ms)
            start = stop
        if start < len(batch):
            self._apply_piece(batch.slice(start, len(batch)) if start else batch)
        if len(batch):
            for listener in self._listeners:
                listener.hear(batch)
        return Applied(len(batch), len(ticks), refused)

    def _apply_piece(self, piece: EventBatch) -> None:
        for fold in self._folds:
            try:
                fold.apply(piece)
            except Exception as error:
                raise StoreError(
                    f"store {fold.name}",
                    value=(int(piece.offsets[0]), int(piece.offsets[-1])),
                    problem=f"failed on the events of these log offsets ({type(error).__name__}: {error})",
                    remedy="report it; a restart begins again from the newest checkpoint",
                ) from error


def decode_records(records: RecordBatch, decode: Callable[[bytes], AnyEvent]) -> tuple[EventBatch, tuple[Refused, ...]]:
    """Return the decoded events of a record batch, and the records that cannot be decoded."""
    data = records.data
    try:
        # Nearly every batch is whole and sound: one pass, no bookkeeping.
        events = [decode(item) for item in data]
    except SchemaError:
        pass
    else:
        return EventBatch(events, records.offsets, records.appended_ms), ()
    events, rows, refused = [], [], []
    for row, item in enumerate(data):
        if item == _PURGED:
            continue
        try:
            events.append(decode(item))
        except SchemaError as error:
            refused.append(Refused(row, str(error)))
        else:
            rows.append(row)
    return EventBatch(events, records.offsets[rows], records.appended_ms[rows]), tuple(refused)
