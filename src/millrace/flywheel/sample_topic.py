"""Samples to the log's topic and back: an event a request and epoch, and who takes the newest revision of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from millrace.base.errors import SchemaError
from millrace.events.codec import EventCodec
from millrace.events.envelope import Event
from millrace.events.sample_events import LABEL, ROW, SAMPLES_TOPIC, SamplesJoined
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.sample_tables import no_rows
from millrace.stream.log import Message

_SOURCE: Final = "flywheel/join"


def sample_messages(rows: JoinedRows, epoch: int, time_ms: int, codec: EventCodec) -> Iterator[Message]:
    """Yield an epoch's samples as messages for the log, an event a request, in the order of the pages' offsets.

    Their ids follow from epoch and page: what is published twice is one event, as far as the log remembers.

    Parameters
    ----------
    rows
        What the epoch let out.
    epoch
        Its number.
    time_ms
        Event time of the events.
    codec
        Encodes.
    """
    if not len(rows):
        return
    order = np.lexsort((rows.posts, rows.page_offsets))
    rows = rows.take(order)
    edges = np.flatnonzero(np.diff(rows.page_offsets, prepend=-1))
    stops = np.append(edges[1:], len(rows))
    packed = np.zeros(len(rows), dtype=ROW)
    for name, column in (
        ("post", rows.posts),
        ("looked_ms", rows.looked_ms),
        ("page_row", rows.page_rows),
        ("position", rows.positions),
        ("revision", rows.revisions),
        ("rate", rows.rates),
    ):
        packed[name] = column
    at, actions = np.nonzero(rows.labels)
    labels = np.zeros(len(at), dtype=LABEL)
    labels["row"] = at - np.repeat(edges, stops - edges)[at]
    labels["action"], labels["value"] = actions, rows.labels[at, actions]
    row_bytes, label_bytes = packed.tobytes(), labels.tobytes()
    cuts = np.searchsorted(at, np.append(edges, len(rows))) * LABEL.itemsize
    heads = zip(
        edges.tolist(),
        stops.tolist(),
        cuts[:-1].tolist(),
        cuts[1:].tolist(),
        rows.requests[edges].tolist(),
        rows.viewers[edges].tolist(),
        rows.page_offsets[edges].tolist(),
        rows.page_ms[edges].tolist(),
        strict=True,
    )
    for start, stop, first, last, request, viewer, page_offset, page_ms in heads:
        event_id = f"samples-{epoch}-{page_offset}"
        payload = SamplesJoined(
            request=request,
            viewer=viewer,
            epoch=epoch,
            page_offset=page_offset,
            page_ms=page_ms,
            rows=row_bytes[start * ROW.itemsize : stop * ROW.itemsize],
            labels=label_bytes[first:last],
        )
        event = Event(event_id=event_id, event_time_ms=time_ms, source=_SOURCE, payload=payload)
        yield Message(SAMPLES_TOPIC, str(viewer), event_id, time_ms, codec.encode(event))


def rows_of(payload: SamplesJoined, n_actions: int) -> JoinedRows:
    """Return the rows of an event.

    Raises
    ------
    SchemaError
        If they are damaged, or have labels of actions that are not known.
    """
    try:
        packed = np.frombuffer(payload.rows, dtype=ROW)
        sparse = np.frombuffer(payload.labels, dtype=LABEL)
        labels = np.zeros((len(packed), n_actions), dtype=np.float32)
        labels[sparse["row"], sparse["action"]] = sparse["value"]
    except (ValueError, IndexError) as error:
        raise SchemaError(
            "joined samples", value=payload.request, problem=f"cannot be read ({error})", remedy="leave the event out"
        ) from error

    def all_of(value: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.full(len(packed), value, dtype=np.int64)

    return JoinedRows(
        requests=all_of(payload.request),
        viewers=all_of(payload.viewer),
        posts=packed["post"].astype(np.int64),
        page_offsets=all_of(payload.page_offset),
        page_rows=packed["page_row"].astype(np.int32),
        positions=packed["position"].astype(np.int64),
        revisions=packed["revision"].astype(np.int32),
        labels=labels,
        page_ms=all_of(payload.page_ms),
        looked_ms=packed["looked_ms"].astype(np.int64),
        rates=packed["rate"].astype(np.float32),
    )


class _Held(NamedTuple):
    epoch: int
    revision: int
    row: int
    rows: JoinedRows


class NewestSamples:
    """Takes the events of the topic, in any order and however often, and holds of each sample the newest revision.

    Delivery is at least once. A sample is known by viewer, request and post. The later epoch's revision holds, and
    within one the larger: where the log had to be heard anew, revisions begin anew, too.

    Parameters
    ----------
    n_actions
        Label columns.
    """

    def __init__(self, n_actions: int) -> None:
        self._n_actions = n_actions
        self._held: dict[tuple[int, int, int], _Held] = {}
        self.n_passed_over = 0

    def __len__(self) -> int:
        return len(self._held)

    def take(self, payload: SamplesJoined) -> JoinedRows:
        """Take in an event; return the rows that were news."""
        rows = rows_of(payload, self._n_actions)
        fresh = []
        for row, (post, revision) in enumerate(zip(rows.posts.tolist(), rows.revisions.tolist(), strict=True)):
            key = (payload.viewer, payload.request, post)
            known = self._held.get(key)
            if known is not None and (known.epoch, known.revision) >= (payload.epoch, revision):
                self.n_passed_over += 1
                continue
            self._held[key] = _Held(payload.epoch, revision, row, rows)
            fresh.append(row)
        return rows.take(np.array(fresh, dtype=np.intp))

    def forget_before(self, page_ms: int) -> int:
        """Let go of samples of pages from before a moment; return how many. Bounds what a reader must remember."""
        old = [key for key, held in self._held.items() if held.rows.page_ms[held.row] < page_ms]
        for key in old:
            del self._held[key]
        return len(old)

    def rows(self) -> JoinedRows:
        """Return what is held, in the order of viewers, requests and posts."""
        keys = sorted(self._held)
        if not keys:
            return no_rows(self._n_actions)
        held = [self._held[key] for key in keys]
        columns = {name: np.stack([getattr(h.rows, name)[h.row] for h in held]) for name in JoinedRows.__slots__}
        return JoinedRows(**columns)
