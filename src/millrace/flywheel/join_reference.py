"""The streaming join in plain Python: dictionaries and objects, record by record. What `join_kernel` must equal.

The rules are told in `millrace.flywheel.join`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.base.errors import StoreError
from millrace.base.ids import NO_ID
from millrace.flywheel.join_columns import DEED, LOOK, PAGE, JoinColumns
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_parts import OUT, JoinShape
from millrace.flywheel.join_rules import GRAIN_MS, N_DELAYS, PLAIN, delay_bucket, draw
from millrace.flywheel.join_stats import COUNTERS, JoinStats, delay_percentiles
from millrace.stores.dwell import IS_DWELL, IS_NOT_DWELLED, dwell_flags

_STATE: Final = "reference"
_OUT: Final = "out"


class _Page(msgspec.Struct):
    """What was logged of a page."""

    seq: int
    viewer: int
    request: int
    time_ms: int
    offset: int
    posts: dict[int, int]
    gone: dict[int, int]
    """Posts whose row was dropped for want of room: they must not come again as new ones."""


class _Look(msgspec.Struct):
    seq: int
    viewer: int
    request: int
    post: int
    began_ms: int
    dwell_ms: int
    is_complete: bool
    position: int
    due: int
    page_offset: int = -1
    page_row: int = -1
    page_ms: int = 0
    is_out: bool = False
    is_frozen: bool = False
    """An action that it was told with is forgotten: no newer revision would be true."""
    was_positive: bool = False
    revision: int = -1
    told: tuple[int, int, int, int] = (0, 0, 0, 0)
    """What the newest revision said: labels, dwell, position, beginning."""


class _Deed(msgspec.Struct):
    seq: int
    viewer: int
    post: int
    request: int
    time_ms: int
    action: int
    is_undo: bool
    look: int = -1


class _Group(msgspec.Struct):
    """What one viewer saw and did of one post."""

    looks: list[_Look]
    deeds: list[_Deed]


class _State(msgspec.Struct):
    features_ms: int
    labels_ms: list[int]
    others_ms: list[int]
    watermark: int
    newest_ms: int
    cursor: int
    window_ms: int
    seq: int
    counters: dict[str, int]
    delays: list[list[int]]
    pages: list[_Page]
    looks: list[_Look]
    deeds: list[_Deed]
    waiting: list[tuple[int, list[int]]]


class ReferenceJoin:
    """Hears columns, gives out rows; see `millrace.flywheel.join.StreamJoin`."""

    def __init__(self, shape: JoinShape, config: JoinConfig) -> None:
        self._shape = shape
        self._config = config
        self._n = dict.fromkeys(COUNTERS, 0)
        self._features_ms = 0
        self._labels_ms = [0] * config.n_witnesses
        self._others_ms = [0] * config.n_witnesses
        self._watermark = 0
        self._newest_ms = 0
        self._cursor = -1
        self._seq = 0
        self._window_ms = int(shape.windows_ms.max())
        self._delays = np.zeros((shape.n_actions, N_DELAYS), dtype=np.int64)
        self._pages: dict[tuple[int, int], _Page] = {}
        self._looks: dict[int, _Look] = {}
        self._deeds: dict[int, _Deed] = {}
        self._groups: dict[tuple[int, int], _Group] = {}
        self._waiting: defaultdict[int, dict[int, None]] = defaultdict(dict)
        self._out: list[tuple[Any, ...]] = []

    def hear(self, columns: JoinColumns) -> None:
        """Take in the next records."""
        n_pages = 0
        for row in range(len(columns)):
            kind, time_ms = int(columns.kinds[row]), int(columns.times_ms[row])
            viewer, request, post = int(columns.viewers[row]), int(columns.requests[row]), int(columns.posts[row])
            if kind == PAGE:
                start, stop = columns.page_starts[n_pages : n_pages + 2]
                n_pages += 1
                self._features_ms = max(self._features_ms, time_ms)
                posts = columns.page_posts[start:stop].tolist()
                self._hear_page(int(columns.offsets[row]), time_ms, viewer, request, posts)
            elif kind == LOOK:
                self._labels_ms = sorted([*self._labels_ms, time_ms])[1:]
                dwell_ms = int(columns.dwells_ms[row])
                began_ms = time_ms - min(dwell_ms, self._shape.max_dwell_ms)
                self._hear_look(
                    viewer,
                    request,
                    post,
                    began_ms,
                    dwell_ms,
                    int(columns.positions[row]),
                    is_complete=bool(columns.flags[row]),
                )
            elif kind == DEED:
                self._labels_ms = sorted([*self._labels_ms, time_ms])[1:]
                self._hear_deed(
                    viewer, request, post, time_ms, int(columns.codes[row]), is_undo=bool(columns.flags[row])
                )
            else:
                self._others_ms = sorted([*self._others_ms, time_ms])[1:]
                self._n["others"] += 1
            self._advance()

    def drain(self) -> npt.NDArray[Any]:
        """Return the rows that are out since the last call, shape (n,), `OUT`."""
        rows = np.array(self._out, dtype=OUT)
        self._out = []
        return rows

    # -- what is heard

    def _is_dead(self, time_ms: int) -> bool:
        """Whether nothing that has to do with a moment may still come."""
        return time_ms + self._config.late_ms + self._shape.slack_ms < self._watermark

    def _hear_page(self, offset: int, time_ms: int, viewer: int, request: int, posts: list[int]) -> None:
        if self._is_dead(time_ms) or request == NO_ID:
            self._n["dropped_for_age"] += 1
            return
        if (viewer, request) in self._pages:
            self._n["page_duplicates"] += 1
            return
        self._n["pages"] += 1
        page = self._new_page(viewer, request, time_ms, offset)
        for row, post in enumerate(posts):
            page.posts.setdefault(post, row)
        # Looks that came before their page are found by their posts: a place kept for each page that a look names would
        # be one that made-up requests take away from pages.
        for post in page.posts:
            group = self._groups.get((viewer, post))
            look = _of_request(group, request) if group else None
            if group and look and look.page_row < 0 and abs(look.began_ms - time_ms) <= self._config.late_ms:
                self._attach(look, page)
                self._tell(group)

    def _hear_look(
        self, viewer: int, request: int, post: int, began_ms: int, dwell_ms: int, position: int, *, is_complete: bool
    ) -> None:
        if self._is_dead(began_ms):
            self._n["dropped_for_age"] += 1
            return
        page = self._pages.get((viewer, request)) if request != NO_ID else None
        if page is not None:
            if self._is_dead(page.time_ms):
                self._n["dropped_for_age"] += 1
                return
            if abs(began_ms - page.time_ms) > self._config.late_ms:
                request, page = NO_ID, None  # of no page any more: it only shows where actions belong
            elif post in page.gone:
                self._n["dropped_for_bounds"] += 1
                return
        group = self._groups.get((viewer, post))
        if group is not None:
            known = _of_request(group, request) if request != NO_ID else _begun_at(group, began_ms)
            if known is not None:
                self._merge(group, known, began_ms, dwell_ms, position, is_complete=is_complete)
                return
            if len(group.looks) >= self._config.max_looks_of_post:
                self._n["dropped_for_bounds"] += 1
                return
        due = (began_ms + self._window_ms) // GRAIN_MS + 1
        self._add_look(_Look(self._next(), viewer, request, post, began_ms, dwell_ms, is_complete, position, due), page)

    def _add_look(self, look: _Look, page: _Page | None) -> None:
        self._n["looks"] += 1
        if len(self._looks) >= self._config.max_looks:
            self._drop_look(is_for_room=True)
        self._looks[look.seq] = look
        group = self._groups.setdefault((look.viewer, look.post), _Group([], []))
        group.looks.append(look)
        if look.request != NO_ID:
            self._n["looks_of_pages"] += 1
            if page is not None and look.post in page.posts:
                self._attach(look, page)
            look.is_out = look.due <= self._cursor
            if not look.is_out:
                self._waiting[look.due][look.seq] = None
        self._place(group)
        self._tell(group)

    def _merge(
        self, group: _Group, look: _Look, began_ms: int, dwell_ms: int, position: int, *, is_complete: bool
    ) -> None:
        before = (look.began_ms, look.dwell_ms, look.position, look.is_complete)
        look.began_ms, look.dwell_ms = min(look.began_ms, began_ms), max(look.dwell_ms, dwell_ms)
        look.is_complete |= is_complete
        if look.position < 0 or 0 <= position < look.position:
            look.position = position
        if before == (look.began_ms, look.dwell_ms, look.position, look.is_complete):
            self._n["look_duplicates"] += 1
            return
        self._place(group)
        self._tell(group)

    def _hear_deed(self, viewer: int, request: int, post: int, time_ms: int, action: int, *, is_undo: bool) -> None:
        if self._is_dead(time_ms):
            self._n["dropped_for_age"] += 1
            return
        group = self._groups.get((viewer, post))
        if group is not None:
            said = (request, time_ms, action, is_undo)
            if any((deed.request, deed.time_ms, deed.action, deed.is_undo) == said for deed in group.deeds):
                self._n["deed_duplicates"] += 1
                return
            if len(group.deeds) >= self._config.max_deeds_on_post:
                self._n["dropped_for_bounds"] += 1
                return
        self._n["deeds"] += 1
        if len(self._deeds) >= self._config.max_deeds:
            self._drop_deed(is_for_room=True)
        deed = _Deed(self._next(), viewer, post, request, time_ms, action, is_undo)
        self._deeds[deed.seq] = deed
        group = self._groups.setdefault((viewer, post), _Group([], []))
        group.deeds.append(deed)
        self._place_one(group, deed)
        self._tell(group)

    # -- how it belongs together

    def _new_page(self, viewer: int, request: int, time_ms: int, offset: int) -> _Page:
        if len(self._pages) >= self._config.max_pages:
            self._drop_page(is_for_room=True)
        page = self._pages[viewer, request] = _Page(self._next(), viewer, request, time_ms, offset, {}, {})
        return page

    def _attach(self, look: _Look, page: _Page) -> None:
        look.page_offset, look.page_row, look.page_ms = page.offset, page.posts[look.post], page.time_ms
        self._n["looks_joined"] += 1

    def _place(self, group: _Group) -> None:
        for deed in group.deeds:
            self._place_one(group, deed)

    def _place_one(self, group: _Group, deed: _Deed) -> None:
        """Find the look that an action belongs to."""
        if deed.look >= 0 and deed.look not in self._looks:
            return  # its look has been forgotten: it stays there
        found: _Look | None = None
        late_ms = self._config.late_ms
        for look in group.looks:
            after_ms = deed.time_ms - look.began_ms
            if deed.request != NO_ID and look.request == deed.request and abs(after_ms) <= late_ms:
                found = look
                break
            if 0 <= after_ms <= late_ms and (
                found is None or (look.began_ms, look.request) > (found.began_ms, found.request)
            ):
                found = look
        if found is not None and deed.look < 0:
            self._n["deeds_joined"] += 1
            self._n["late_deeds"] += found.is_out
            self._delays[deed.action, delay_bucket(deed.time_ms - found.began_ms)] += 1
        if found is None and deed.look >= 0:
            self._n["deeds_joined"] -= 1
        deed.look = -1 if found is None else found.seq

    def _labels(self, group: _Group, look: _Look) -> int:
        """Return the actions that hold for a look, as bits: the last word of each; at one moment, taking back is it."""
        last: dict[int, tuple[int, bool]] = {}
        for deed in group.deeds:
            if deed.look == look.seq:
                last[deed.action] = max(last.get(deed.action, (-1, False)), (deed.time_ms, deed.is_undo))
        held = sum(1 << action for action, (_, is_undo) in last.items() if not is_undo)
        held &= ~self._shape.derived
        flags = dwell_flags(look.dwell_ms, look.dwell_ms, 0, self._shape.thresholds)
        held |= (1 << int(Action.DWELL)) if flags & IS_DWELL else 0
        held |= (1 << int(Action.NOT_DWELLED)) if flags & IS_NOT_DWELLED else 0
        held |= (1 << int(Action.COMPLETE)) if look.is_complete else 0
        return held

    # -- what goes out

    def _tell(self, group: _Group) -> None:
        for look in group.looks:
            if look.is_out and look.page_row >= 0:
                self._let_out(group, look)

    def _let_out(self, group: _Group, look: _Look) -> None:
        if look.is_frozen:
            return
        labels = self._labels(group, look)
        look.was_positive |= labels & ~PLAIN != 0
        rate = 1.0 if look.was_positive else self._config.negative_rate
        told = (labels, min(look.dwell_ms, self._shape.max_dwell_ms), look.position, look.began_ms)
        if look.revision >= 0 and told == look.told:
            return
        if draw(look.request, look.post) >= rate:
            self._n["sampled_out"] += 1
            return
        look.revision += 1
        look.told = told
        self._n["corrections" if look.revision else "rows_out"] += 1
        self._out.append(
            (
                look.request,
                look.viewer,
                look.post,
                look.page_offset,
                look.page_ms,
                *told,
                rate,
                look.page_row,
                look.revision,
            )
        )

    # -- how time goes by

    def _advance(self) -> None:
        others_ms = self._others_ms[0]
        features_ms, labels_ms = max(self._features_ms, others_ms), max(self._labels_ms[0], others_ms)
        self._newest_ms = max(self._newest_ms, features_ms, labels_ms)
        reached = min(features_ms, labels_ms) - self._config.out_of_order_ms
        self._watermark = max(self._watermark, reached)
        cursor = self._watermark // GRAIN_MS
        if cursor <= self._cursor:
            return
        self._cursor = cursor
        for due in sorted(due for due in self._waiting if due <= cursor):
            for seq in self._waiting.pop(due):
                look = self._looks[seq]
                look.is_out = True
                if look.page_row >= 0:
                    self._let_out(self._groups[look.viewer, look.post], look)
        while (page := _first(self._pages)) is not None and self._is_dead(page.time_ms):
            self._drop_page()
        while (look_ := _first(self._looks)) is not None and self._is_dead(max(look_.began_ms, look_.page_ms)):
            self._drop_look()
        # An action lives as long as its look: else the label would be gone from a later revision.
        while (deed := _first(self._deeds)) and self._is_dead(deed.time_ms) and deed.look not in self._looks:
            self._drop_deed()
        if self._config.windows == "dynamic":
            self._window_ms = self._shape.longest_ms(self._delays, self._config)

    def _out_now(self, group: _Group, look: _Look) -> None:
        """Let a waiting row out before its time."""
        if look.request == NO_ID or look.is_out:
            return
        look.is_out = True
        waiting = self._waiting[look.due]
        del waiting[look.seq]
        if not waiting:
            del self._waiting[look.due]
        if look.page_row >= 0:
            self._let_out(group, look)

    def _drop_page(self, *, is_for_room: bool = False) -> None:
        key = next(iter(self._pages))
        del self._pages[key]
        self._n["dropped_for_bounds"] += is_for_room

    def _drop_look(self, *, is_for_room: bool = False) -> None:
        look = self._looks[next(iter(self._looks))]
        group = self._groups[look.viewer, look.post]
        self._out_now(group, look)
        if is_for_room:
            self._n["dropped_for_bounds"] += 1
            page = self._pages.get((look.viewer, look.request))
            if look.page_row >= 0 and page is not None and look.post in page.posts:
                page.gone[look.post] = 1
        del self._looks[look.seq]
        group.looks.remove(look)
        self._forget(look.viewer, look.post, group)

    def _drop_deed(self, *, is_for_room: bool = False) -> None:
        deed = self._deeds[next(iter(self._deeds))]
        group = self._groups[deed.viewer, deed.post]
        look = self._looks.get(deed.look)
        if is_for_room:
            self._n["dropped_for_bounds"] += 1
            if look is not None:
                self._out_now(group, look)
                look.is_frozen = True
        del self._deeds[deed.seq]
        group.deeds.remove(deed)
        self._forget(deed.viewer, deed.post, group)

    def _forget(self, viewer: int, post: int, group: _Group) -> None:
        if not group.looks and not group.deeds:
            del self._groups[viewer, post]

    def _next(self) -> int:
        self._seq += 1
        return self._seq - 1

    # -- checkpoints

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it as arrays."""
        state = _State(
            features_ms=self._features_ms,
            labels_ms=self._labels_ms,
            others_ms=self._others_ms,
            watermark=self._watermark,
            newest_ms=self._newest_ms,
            cursor=self._cursor,
            window_ms=self._window_ms,
            seq=self._seq,
            counters=self._n,
            delays=self._delays.tolist(),
            pages=list(self._pages.values()),
            looks=list(self._looks.values()),
            deeds=list(self._deeds.values()),
            waiting=[(due, list(seqs)) for due, seqs in sorted(self._waiting.items())],
        )
        data = np.frombuffer(msgspec.msgpack.encode(state), dtype=np.uint8)
        return {_STATE: data, _OUT: np.array(self._out, dtype=OUT)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        held = msgspec.msgpack.decode(state[_STATE].tobytes(), type=_State)
        if len(held.delays) != self._shape.n_actions or len(held.labels_ms) != self._config.n_witnesses:
            raise StoreError(
                "state of the join",
                problem="was made under other actions or settings",
                remedy="restore it under the settings that it was made under, or begin anew",
            )
        self._features_ms, self._labels_ms, self._others_ms = held.features_ms, held.labels_ms, held.others_ms
        self._watermark, self._newest_ms, self._cursor = held.watermark, held.newest_ms, held.cursor
        self._window_ms, self._seq, self._n = held.window_ms, held.seq, held.counters
        self._delays = np.array(held.delays, dtype=np.int64)
        self._pages = {(page.viewer, page.request): page for page in held.pages}
        self._looks = {look.seq: look for look in held.looks}
        self._deeds = {deed.seq: deed for deed in held.deeds}
        self._groups = {}
        for look in held.looks:
            self._groups.setdefault((look.viewer, look.post), _Group([], [])).looks.append(look)
        for deed in held.deeds:
            self._groups.setdefault((deed.viewer, deed.post), _Group([], [])).deeds.append(deed)
        self._waiting = defaultdict(dict, {due: dict.fromkeys(seqs) for due, seqs in held.waiting})
        self._out = [tuple(row) for row in state[_OUT].tolist()]

    def stats(self, names: tuple[str, ...]) -> JoinStats:
        """Return counts, and how things stand."""
        return JoinStats(
            **{f"n_{name}": n for name, n in self._n.items()},
            watermark_ms=self._watermark,
            newest_ms=self._newest_ms,
            window_ms=self._window_ms,
            n_open_pages=len(self._pages),
            n_open_looks=len(self._looks),
            n_open_deeds=len(self._deeds),
            n_waiting=sum(len(seqs) for seqs in self._waiting.values()),
            state_bytes=sum(array.nbytes for array in self.state().values()),
            delays_ms=delay_percentiles(self._delays, names),
        )


_HeldT = TypeVar("_HeldT")


def _first(held: dict[Any, _HeldT]) -> _HeldT | None:
    return next(iter(held.values()), None)


def _of_request(group: _Group, request: int) -> _Look | None:
    return next((look for look in group.looks if look.request == request), None)


def _begun_at(group: _Group, began_ms: int) -> _Look | None:
    return next((look for look in group.looks if look.request == NO_ID and look.began_ms == began_ms), None)
