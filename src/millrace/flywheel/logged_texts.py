"""Events of the warehouse in an order, and posts' texts as of the pages that were made from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from millrace.base.ids import Int64Array
from millrace.content.text_index import TextIndex
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import MAX_TIME_MS, AnyEvent, Event
from millrace.flywheel.sample_builder import SampleBuilder
from millrace.stores.fold import EventBatch

if TYPE_CHECKING:
    import duckdb

CONTENT: Final = (PostCreated, PostEdited, PostDeleted, PostAnnotated)
"""Events that texts are made of."""

NO_END: Final = 2**63 - 1
_COLUMNS: Final = "log_offset, event_time_ms, appended_ms, event_id, source, type, payload"
_ROWS: Final = 1_000
_TEXTS: Final = 4_096


class FoundEvent(NamedTuple):
    """An event of the warehouse; ``time_ms`` is its effective time."""

    offset: int
    time_ms: int
    appended_ms: int
    event: AnyEvent


def events_of(
    connection: duckdb.DuckDBPyConnection,
    codec: EventCodec,
    kinds: tuple[type[Any], ...],
    order: str = "log_offset",
    span: tuple[int, int] = (0, MAX_TIME_MS + 1),
    until: int = NO_END,
    since: int = 0,
) -> Iterator[FoundEvent]:
    """Yield the events of some types within positions whose effective times lie within a span, in an order."""
    types = {kind.__name__: codec.registry.by_name(kind.__name__) for kind in kinds}
    # The topic is part of the files' paths: files of others are not opened.
    topics = ", ".join(sorted({f"'{kind.topic}'" for kind in types.values()}))
    names = ", ".join(f"'{name}'" for name in types)
    cursor = connection.cursor()
    cursor.execute(
        f"SELECT {_COLUMNS} FROM events WHERE topic IN ({topics}) AND type IN ({names}) "  # noqa: S608 - our own names
        "AND least(event_time_ms, appended_ms) BETWEEN ? AND ? AND log_offset >= ? AND log_offset < ? "
        f"ORDER BY {order}",
        (span[0], span[1] - 1, since, until),
    )
    while rows := cursor.fetchmany(_ROWS):
        for offset, event_time_ms, appended_ms, event_id, source, name, text in rows:
            payload = msgspec.json.decode(text, type=types[name].payload)
            event = Event(event_id=event_id, event_time_ms=event_time_ms, source=source, payload=payload)
            yield FoundEvent(offset, min(event_time_ms, appended_ms), appended_ms, event)


class LoggedTexts:
    """The posts' texts as of the pages, which come in the order of their cuts."""

    def __init__(self, index: TextIndex, events: Iterator[FoundEvent]) -> None:
        self._index = index
        self._events = events
        self._next = next(self._events, None)

    def read(self, builder: SampleBuilder, cut: int, post_ids: Int64Array, history_posts: Int64Array) -> None:
        """Let a builder read what texts were when a page was made at a cut."""
        self.advance(cut)
        builder.read_texts(self._index, np.concatenate([post_ids, history_posts]))

    def advance(self, cut: int) -> None:
        """Take in what happened to posts before a cut."""
        while self._next is not None and self._next.offset < cut:
            self._apply(cut)

    def _apply(self, cut: int) -> None:
        batch: list[FoundEvent] = []
        while self._next is not None and self._next.offset < cut and len(batch) < _TEXTS:
            batch.append(self._next)
            self._next = next(self._events, None)
        offsets = np.array([found.offset for found in batch], dtype=np.int64)
        appended_ms = np.array([found.appended_ms for found in batch], dtype=np.int64)
        self._index.apply(EventBatch([found.event for found in batch], offsets, appended_ms))


def places(among: Int64Array, wanted: Int64Array) -> Int64Array:
    """Return where each wanted id is, shape of ``wanted``; -1 where it is not."""
    if not len(among):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(among, kind="stable")
    at = np.minimum(np.searchsorted(among, wanted, sorter=order), len(among) - 1)
    return np.where(among[order[at]] == wanted, order[at], -1)
