"""`SlateJoin`: a log's impressions joined with what was done, and how far the log may be read to predict each slate.

A slate is the impressions of one request; where events name no request, a viewer's consecutive impressions with rising
positions and no long pause. Labels are joined by request and post, or else to the viewer's latest look at the post
that began before the action, either within the window; an action that is taken back within it is none. The dwell
family follows from the longest look of the slate (`millrace.stores.dwell`).

Which look an action belongs to and what its last word is depend on event times alone, never on the order of the log:
the streaming join (`millrace.flywheel.join`) hears the same records in another order, and must come to the same labels.
Where times are equal, taking back is the last word, and the look of the larger request is the later one.

Every slate has a *cut*: the log offset before which nothing of it, and nothing that happened after it began, is found.
State folded up to the cut is what a server could know. It is the ``state_offset`` of the page where that is logged;
else the first offset of anything about the slate (page, impression, action), or of the first record from after it
began, whichever comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import NO_ID, IdHasher, IdKind
from millrace.events.envelope import MAX_TIME_MS, AnyEvent
from millrace.events.feed_events import Engagement, Impression, Served
from millrace.flywheel.log_time import LogTime
from millrace.flywheel.metrics import IntArray
from millrace.flywheel.slates import Slates
from millrace.stores.dwell import IS_COMPLETE, IS_DWELL, IS_NOT_DWELLED, dwell_flags
from millrace.stores.engagement_config import DwellThresholds

HOUR_MS: Final = 3_600_000
MAX_PAUSE_MS: Final = HOUR_MS // 2
"""Impressions without a request that lie further apart are two slates."""

_NEVER: Final = (1 << 63) - 1

_FLAG_BY_ACTION: Final = {
    Action.DWELL: IS_DWELL,
    Action.NOT_DWELLED: IS_NOT_DWELLED,
    Action.COMPLETE: IS_COMPLETE,
}


@dataclass(slots=True)
class _Look:
    """A post on a viewer's screen: one row of the result."""

    offset: int
    viewer: int
    post: int
    request: int
    position: int
    began_ms: int
    dwell_ms: int
    is_complete: bool
    done: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """Action to its last word: when, and whether it was taken back."""
    first_done: int = _NEVER

    def merge(self, other: _Look) -> None:
        """Take in another look of the same slate at the same post."""
        self.offset, self.began_ms = min(self.offset, other.offset), min(self.began_ms, other.began_ms)
        self.dwell_ms = max(self.dwell_ms, other.dwell_ms)
        self.is_complete |= other.is_complete
        if self.position < 0 or 0 <= other.position < self.position:
            self.position = other.position


class _Shown(NamedTuple):
    """A moment from which on actions may belong to a look: of a request its first, else each one that was told."""

    began_ms: int
    request: int
    look: _Look


class _Deed(NamedTuple):
    """An action that was heard of."""

    offset: int
    time_ms: int
    viewer: int
    post: int
    request: int
    action: int
    is_undo: bool


class _Page(NamedTuple):
    """A page that was sent: the log position it was made at, and when."""

    cut: int
    time_ms: int


class _Logged(NamedTuple):
    """Features of a page that were logged: where first, and when the page was made."""

    offset: int
    time_ms: int


class SlateJoin:
    """Hears a log in its order, then joins, once.

    Parameters
    ----------
    hasher
        Outside ids to inside ids.
    actions
        The known actions.
    dwell
        Where the dwell family begins.
    window_ms
        How long after a look (or, told by a clock that is behind, before it) an action still belongs to it; and how
        far from a page whose features were logged a look at it may lie. One further off is of no page.
    takes_all
        Also take impressions that name neither request nor position.
    score
        Name of the logged score to keep.
    """

    def __init__(
        self,
        hasher: IdHasher,
        actions: ActionSpace,
        dwell: DwellThresholds | None = None,
        *,
        window_ms: int = 24 * HOUR_MS,
        takes_all: bool = False,
        score: str = "score",
    ) -> None:
        self._hasher = hasher
        self._actions = actions
        self._dwell = dwell or DwellThresholds()
        self._window_ms = window_ms
        self._takes_all = takes_all
        self._score = score
        self._log_time = LogTime()
        self._looks: list[_Look] = []
        self._deeds: list[_Deed] = []
        self._pages: dict[int, _Page] = {}
        self._logged: dict[tuple[int, int], _Logged] = {}
        self._scores: dict[tuple[int, int], float] = {}
        self._n_unplaced = 0
        self._delays_ms: list[int] = []

    @property
    def last_ms(self) -> int:
        """The time that the log has reached; a few events from the future do not count."""
        return self._log_time.last_ms()

    def hear(self, offset: int, time_ms: int, event: AnyEvent) -> None:
        """Take in one record of the log; ``time_ms`` is its effective time."""
        self._log_time.add(offset, time_ms)
        self.hear_untimed(offset, time_ms, event)

    def hear_times(self, offsets: IntArray, times_ms: IntArray) -> None:
        """Take in where the next records of the log lie and their effective times; shape (n,) each, in log order.

        With `hear_untimed` for those that labels are made of, it does what `hear` does for all of them.
        """
        self._log_time.extend(offsets, times_ms)

    def hear_untimed(self, offset: int, time_ms: int, event: AnyEvent) -> None:
        """Take in one record of the log of which `hear_times` has heard."""
        payload = event.payload
        if isinstance(payload, Impression):
            self._hear_impression(offset, time_ms, payload)
        elif isinstance(payload, Engagement):
            self._hear_engagement(offset, time_ms, payload)
        elif isinstance(payload, Served):
            self._hear_page(offset, time_ms, payload)

    def hear_logged(self, offset: int, time_ms: int, viewer: int, request: int) -> None:
        """Take in that features of a viewer's page were logged, in log order; inside ids."""
        self._logged.setdefault((viewer, request), _Logged(offset, time_ms))

    def first_logged(self, viewer: int, request: int) -> int | None:
        """Return the offset at which features of a viewer's page were logged first; None if none were heard of."""
        found = self._logged.get((viewer, request))
        return None if found is None else found.offset

    def join(self, from_ms: int = 0, until_ms: int = MAX_TIME_MS) -> Slates:
        """Return the slates that began within a span, with the labels that the log has for them."""
        slates, shown = self._grouped()
        unmatched_ms = self._label(shown)
        cuts = self._log_time.cuts(np.array([min(look.began_ms for look in looks) for looks in slates], dtype=np.int64))
        kept: list[tuple[int, int, list[_Look]]] = []
        for looks, cut_by_time in zip(slates, cuts.tolist(), strict=True):
            cut = min(min(look.offset, look.first_done) for look in looks)
            page = self._pages.get(looks[0].request)
            if page is not None:
                cut, began_ms = min(cut, page.cut), page.time_ms
            else:
                cut, began_ms = min(cut, cut_by_time), min(look.began_ms for look in looks)
            if from_ms <= began_ms < until_ms:
                kept.append((cut, began_ms, looks))
        kept.sort(key=lambda slate: (slate[0], slate[2][0].offset))
        return self._columns(kept, sum(from_ms <= time_ms < until_ms for time_ms in unmatched_ms))

    def _hear_impression(self, offset: int, time_ms: int, payload: Impression) -> None:
        if payload.request_id is None and payload.position is None and not self._takes_all:
            self._n_unplaced += 1
            return
        one = self._hasher.one
        self._looks.append(
            _Look(
                offset,
                one(IdKind.USER, payload.viewer_id),
                one(IdKind.POST, payload.post_id),
                one(IdKind.REQUEST, payload.request_id or ""),
                -1 if payload.position is None else payload.position,
                # Some clients tell of a look when it begins, some when it ends: the earlier of the two is safe.
                time_ms - min(payload.dwell_ms, self._dwell.max_ms),
                payload.dwell_ms,
                0 < payload.duration_ms <= payload.dwell_ms,
            )
        )

    def _hear_engagement(self, offset: int, time_ms: int, payload: Engagement) -> None:
        one = self._hasher.one
        viewer, post = one(IdKind.USER, payload.viewer_id), one(IdKind.POST, payload.post_id)
        request = one(IdKind.REQUEST, payload.request_id or "")
        action = self._actions.code(payload.action)
        self._deeds.append(_Deed(offset, time_ms, viewer, post, request, action, payload.is_undo))

    def _hear_page(self, offset: int, time_ms: int, payload: Served) -> None:
        request = self._hasher.one(IdKind.REQUEST, payload.request_id)
        made_at = payload.state_offset[0] if len(payload.state_offset) == 1 else offset
        self._pages[request] = _Page(min(made_at, offset), time_ms)
        for item in payload.items:
            if self._score in item.scores:
                self._scores[request, self._hasher.one(IdKind.POST, item.post_id)] = item.scores[self._score]

    def _grouped(self) -> tuple[list[list[_Look]], list[_Shown]]:
        """Return the looks of each slate, and from when on actions belong to which; two looks at a post are one row."""
        slates: dict[tuple[int, int, int], dict[int, _Look]] = {}
        open_by_viewer: dict[int, tuple[int, _Look]] = {}
        shown: list[_Shown] = []
        for look in self._looks:
            number, began_ms = 0, look.began_ms
            logged = self._logged.get((look.viewer, look.request))
            if logged is not None and abs(began_ms - logged.time_ms) > self._window_ms:
                look.request = NO_ID
            if look.request == NO_ID:
                number, last = open_by_viewer.get(look.viewer, (0, None))
                number += last is None or not _goes_on(last, look)
                open_by_viewer[look.viewer] = (number, look)
            posts = slates.setdefault((look.viewer, look.request, number), {})
            known = posts.setdefault(look.post, look)
            if known is not look:
                known.merge(look)
            if look.request == NO_ID:
                shown.append(_Shown(began_ms, NO_ID, known))
        grouped = [list(posts.values()) for posts in slates.values()]
        shown += [
            _Shown(look.began_ms, look.request, look) for looks in grouped for look in looks if look.request != NO_ID
        ]
        return grouped, shown

    def _label(self, shown: list[_Shown]) -> list[int]:
        """Tell each look what was done, the last word of each action; return the times of actions without a look."""
        by_post: dict[tuple[int, int], list[_Shown]] = {}
        for moment in shown:
            by_post.setdefault((moment.look.viewer, moment.look.post), []).append(moment)
        unmatched_ms = []
        for deed in self._deeds:
            found = _shown_to(deed, by_post.get((deed.viewer, deed.post), []), self._window_ms)
            if found is None:
                unmatched_ms.append(deed.time_ms)
                continue
            look, word = found.look, (deed.time_ms, deed.is_undo)
            look.done[deed.action] = max(look.done.get(deed.action, word), word)
            self._delays_ms.append(max(deed.time_ms - found.began_ms, 0))
            look.first_done = min(look.first_done, deed.offset)
        return unmatched_ms

    def _columns(self, kept: list[tuple[int, int, list[_Look]]], n_unmatched: int) -> Slates:
        looks = [look for _, _, looks in kept for look in looks]
        labels = np.zeros((len(looks), len(self._actions)), dtype=np.float32)
        thresholds = self._dwell.as_array()
        for row, look in enumerate(looks):
            for action, (_, is_undo) in look.done.items():
                labels[row, action] = not is_undo
            flags = dwell_flags(look.dwell_ms, look.dwell_ms, 0, thresholds) | (IS_COMPLETE * look.is_complete)
            for derived, bit in _FLAG_BY_ACTION.items():
                labels[row, derived] = bool(flags & bit)
            labels[row, Action.DWELL_TIME] = min(look.dwell_ms, self._dwell.max_ms) / 1000
        scores = [self._scores.get((look.request, look.post), np.nan) for look in looks]
        last_ms = self.last_ms
        return Slates(
            starts=np.concatenate(([0], np.cumsum([len(looks) for _, _, looks in kept]))).astype(np.int64),
            viewers=np.array([looks[0].viewer for _, _, looks in kept], dtype=np.int64),
            began_ms=np.array([began_ms for _, began_ms, _ in kept], dtype=np.int64),
            ended_ms=np.array([max(look.began_ms for look in looks) for _, _, looks in kept], dtype=np.int64),
            cuts=np.array([cut for cut, _, _ in kept], dtype=np.int64),
            requests=np.array([looks[0].request for _, _, looks in kept], dtype=np.int64),
            post_ids=np.array([look.post for look in looks], dtype=np.int64),
            labels=labels,
            served_scores=np.array(scores, dtype=np.float32),
            positions=np.array([look.position for look in looks], dtype=np.int64),
            delays_ms=np.array(self._delays_ms, dtype=np.int64),
            n_unplaced=self._n_unplaced,
            n_unmatched=n_unmatched,
            n_open=sum(look.began_ms + self._window_ms > last_ms for look in looks),
        )


def _goes_on(last: _Look, look: _Look) -> bool:
    """Whether a look without a request belongs to the slate of the viewer's last one."""
    return look.position > last.position and look.began_ms - last.began_ms - last.dwell_ms <= MAX_PAUSE_MS


def _shown_to(deed: _Deed, shown: list[_Shown], window_ms: int) -> _Shown | None:
    """Return what an action belongs to: the look of its request, else the latest that began before it."""
    if deed.request != NO_ID:
        for moment in shown:
            if moment.request == deed.request and abs(deed.time_ms - moment.began_ms) <= window_ms:
                return moment
    earlier = [moment for moment in shown if 0 <= deed.time_ms - moment.began_ms <= window_ms]
    return max(earlier, key=lambda moment: (moment.began_ms, moment.request), default=None)
