"""Log records to what the join hears: of each record only the fields that labels are made of are decoded.

The structs here read the same bytes as the events' own (`millrace.events`); fields that they do not name are passed
over unread, which makes decoding several times as fast. A test holds both against each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from millrace.base.actions import ActionSpace
from millrace.base.errors import SchemaError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.codec import EventCodec
from millrace.events.feature_events import POSTS, FeaturesLogged
from millrace.events.feed_events import Engagement, Impression
from millrace.events.packed import unpack_arrays
from millrace.flywheel.join_columns import DEED, LOOK, OTHER, PAGE, JoinColumns
from millrace.flywheel.sample_tables import LoggedPages
from millrace.stream.log import RecordBatch


class _Look(msgspec.Struct, gc=False):
    viewer_id: str
    post_id: str
    dwell_ms: int = 0
    duration_ms: int = 0
    request_id: str | None = None
    position: int | None = None


class _Deed(msgspec.Struct, gc=False):
    viewer_id: str
    post_id: str
    action: str
    is_undo: bool = False
    request_id: str | None = None


class _Page(msgspec.Struct, gc=False):
    type: str
    request_id: str
    viewer_id: str
    schema: str
    arrays: bytes
    state_offset: tuple[int, ...] = ()
    share: float = 1.0


class _LookEvent(msgspec.Struct, gc=False):
    event_time_ms: int
    payload: _Look


class _DeedEvent(msgspec.Struct, gc=False):
    event_time_ms: int
    payload: _Deed


class _PageEvent(msgspec.Struct, gc=False):
    event_time_ms: int
    payload: _Page


class _AnyEvent(msgspec.Struct, gc=False):
    event_time_ms: int


_FEATURES: Final = FeaturesLogged.__name__
_HEAD: Final = b"\x85\xa8event_id"
_TIME_KEY: Final = b"\xadevent_time_ms"
_STR8: Final = 0xD9
_UINT64: Final = 0xCF
_SHORTEST: Final = 64
"""How `EventCodec` begins every record, as MessagePack has it: a map of five, the id, the time; none is shorter."""


class JoinRecords:
    """Turns log records into columns, and keeps the pages that were among them.

    Parameters
    ----------
    codec
        Knows the topics.
    hasher
        Outside ids to inside ids.
    actions
        The known actions.

    Attributes
    ----------
    n_unreadable
        Records so far that are none of their topic's events, or name an unknown action.
    """

    def __init__(self, codec: EventCodec, hasher: IdHasher, actions: ActionSpace) -> None:
        by_name = codec.registry.by_name
        self.topics = {
            by_name(FeaturesLogged.__name__).topic: PAGE,
            by_name(Impression.__name__).topic: LOOK,
            by_name(Engagement.__name__).topic: DEED,
        }
        self._hasher = hasher
        self._codes = {name: actions.code(name) for name in actions.names}
        self._decoders: dict[int, Callable[[bytes], Any]] = {
            kind: msgspec.msgpack.Decoder(event).decode
            for kind, event in ((OTHER, _AnyEvent), (PAGE, _PageEvent), (LOOK, _LookEvent), (DEED, _DeedEvent))
        }
        self.n_unreadable = 0

    def read(self, records: RecordBatch, pages: LoggedPages) -> JoinColumns:
        """Return records as columns, purged and unreadable ones left out; append what was logged of pages.

        Parameters
        ----------
        records
            Of any topics, in log order.
        pages
            Takes the pages.
        """
        kind_of = np.array([self.topics.get(name, OTHER) for name in records.topic_names], dtype=np.uint8)
        kinds = kind_of[records.topics] if len(records) else np.zeros(0, dtype=np.uint8)
        n = len(records)
        times = np.zeros(n, dtype=np.int64)
        ids = np.zeros((3, n), dtype=np.int64)  # viewers, requests, posts
        dwells, positions = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64)
        codes, flags = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.uint8)
        is_there = np.zeros(n, dtype=np.bool_)

        others = np.flatnonzero(kinds == OTHER)
        told = [self._time_of(records.data[row]) for row in others.tolist()]
        times[others] = told
        is_there[others] = times[others] >= 0
        for kind in (LOOK, DEED):
            rows, events = self._decoded(records, np.flatnonzero(kinds == kind), kind)
            is_there[rows] = True
            times[rows] = [event.event_time_ms for event in events]
            if not events:
                continue
            payloads = [event.payload for event in events]
            ids[0, rows] = self._ids(IdKind.USER, [p.viewer_id for p in payloads])
            ids[1, rows] = self._ids(IdKind.REQUEST, [p.request_id or "" for p in payloads])
            ids[2, rows] = self._ids(IdKind.POST, [p.post_id for p in payloads])
            if kind == LOOK:
                dwells[rows] = [p.dwell_ms for p in payloads]
                positions[rows] = [-1 if p.position is None else p.position for p in payloads]
                flags[rows] = [0 < p.duration_ms <= p.dwell_ms for p in payloads]
            else:
                known = [self._codes.get(p.action, -1) for p in payloads]
                codes[rows] = known
                flags[rows] = [p.is_undo for p in payloads]
                is_there[rows[codes[rows] < 0]] = False
                self.n_unreadable += known.count(-1)

        rows, events = self._decoded(records, np.flatnonzero(kinds == PAGE), PAGE)
        is_there[rows] = True
        page_posts: list[Int64Array] = []
        for row, event in zip(rows.tolist(), events, strict=True):
            times[row] = event.event_time_ms
            posts = self._take_page(records, row, event, pages)
            if posts is None:
                kinds[row] = OTHER
            else:
                ids[0, row], ids[1, row] = pages.viewers[-1], pages.requests[-1]
                page_posts.append(posts)

        kept = slice(None) if is_there.all() else np.flatnonzero(is_there)
        return JoinColumns(
            kinds=kinds[kept],
            offsets=records.offsets[kept],
            times_ms=np.minimum(times, records.appended_ms)[kept],
            viewers=ids[0][kept],
            requests=ids[1][kept],
            posts=ids[2][kept],
            dwells_ms=dwells[kept],
            positions=positions[kept],
            codes=codes[kept],
            flags=flags[kept],
            page_starts=np.concatenate(([0], np.cumsum([len(posts) for posts in page_posts]))).astype(np.int64),
            page_posts=np.concatenate([np.zeros(0, dtype=np.int64), *page_posts]),
        )

    def _decoded(self, records: RecordBatch, rows: Int64Array, kind: int) -> tuple[Int64Array, list[Any]]:
        """Return the rows that could be decoded, and what they are."""
        decode, data = self._decoders[kind], records.data
        try:
            return rows, [decode(data[row]) for row in rows.tolist()]
        except (msgspec.ValidationError, msgspec.DecodeError):
            pass  # one of them is purged or foreign: one by one
        kept, events = [], []
        for row in rows.tolist():
            if not data[row]:
                continue
            try:
                events.append(decode(data[row]))
            except (msgspec.ValidationError, msgspec.DecodeError):
                self.n_unreadable += 1
                continue
            kept.append(row)
        return np.array(kept, dtype=np.int64), events

    def _time_of(self, data: bytes) -> int:
        """Return the event time of a record, -1 where it is purged or no event.

        It stands right behind the id: what follows, such as a page of 35 posts, is not looked at.
        """
        if len(data) < _SHORTEST:
            return -1
        at = 12 + data[11] if data[10] == _STR8 else 11 + (data[10] & 31)
        at += len(_TIME_KEY)
        if data[:10] == _HEAD and data[at - len(_TIME_KEY) : at] == _TIME_KEY and data[at] == _UINT64:
            return int.from_bytes(data[at + 1 : at + 9], "big")
        try:
            time_ms: int = self._decoders[OTHER](data).event_time_ms
        except (msgspec.ValidationError, msgspec.DecodeError):
            self.n_unreadable += 1
            return -1
        return time_ms

    def _ids(self, kind: IdKind, texts: list[str]) -> Int64Array:
        return self._hasher.many(kind, texts)

    def _take_page(self, records: RecordBatch, row: int, event: _PageEvent, pages: LoggedPages) -> Int64Array | None:
        payload = event.payload
        if payload.type != _FEATURES:
            return None
        try:
            posts = logged_posts(payload.arrays)
        except SchemaError:
            self.n_unreadable += 1
            return None
        offset = int(records.offsets[row])
        pages.offsets.append(offset)
        pages.times_ms.append(min(event.event_time_ms, int(records.appended_ms[row])))
        pages.cuts.append(min(payload.state_offset[0], offset) if payload.state_offset else offset)
        pages.requests.append(self._hasher.one(IdKind.REQUEST, payload.request_id))
        pages.viewers.append(self._hasher.one(IdKind.USER, payload.viewer_id))
        pages.schemas.append(payload.schema)
        pages.shares.append(payload.share)
        pages.arrays.append(payload.arrays)
        return posts


_decode_head = msgspec.msgpack.Decoder(list[tuple[str, str, tuple[int, ...]]]).decode
_FIRST: Final = 1_024


def logged_posts(data: bytes) -> Int64Array:
    """Return the posts of an event's arrays, shape (n,), int64, without unpacking what stands behind them.

    Raises
    ------
    SchemaError
        If the arrays are damaged, or have no posts.
    """
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data[1:], _FIRST)
        at = 4 + int.from_bytes(plain[:4], "little")
        if data[:1] != b"\1" or len(plain) < at:
            return _posts(unpack_arrays(data))
        for name, kind, shape in _decode_head(plain[4:at]):
            dtype = np.dtype(kind)
            n_items = 1
            for size in shape:
                n_items *= size
            if name == POSTS:
                stop = at + n_items * dtype.itemsize
                if len(plain) < stop:
                    plain += inflate.decompress(inflate.unconsumed_tail, stop - len(plain))
                posts: Int64Array = np.frombuffer(plain, dtype, n_items, at).astype(np.int64)
                return posts
            at += n_items * dtype.itemsize
    except (zlib.error, ValueError, TypeError, msgspec.DecodeError):
        pass
    return _posts(unpack_arrays(data))


def _posts(arrays: dict[str, Any]) -> Int64Array:
    if POSTS not in arrays:
        raise SchemaError("logged features", value=sorted(arrays), problem="lack posts", remedy="leave the page out")
    posts: Int64Array = arrays[POSTS].astype(np.int64)
    return posts
