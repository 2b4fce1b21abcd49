"""`TrafficWatch`: notices looks and actions that no person may have caused. It flags them; nothing is dropped.

Counters and models are made of what viewers do, so whoever can act for many can steer them (click farms, replayed
requests, clients gone mad). What is noticed here is only what a door can tell by one viewer's traffic: bursts, repeats
and more seconds of looks than have passed. `TrafficFlagged` events tell whoever learns or counts.

A watch knows what came through its own process, lately. What no window asks for any more leaves, and so do the viewers
and acts heard of longest ago where there are too many. Full by the defaults, a watch takes 135 MB: 250,000 acts with
eight ids each are 87 MB, 100,000 viewers with names of 128 bytes 48 MB (measured).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final

from msgspec import Meta, Struct

from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.traffic_events import TrafficFlagged, TrafficReason
from millrace.stream.act_memory import ActMemory

_MAX_NAMED: Final = 1_000
"""Events that one flag names, and so its pages; a batch has at most ten thousand events."""


class TrafficConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[traffic]``: what is flagged as implausible at the door. Nothing is dropped for it."""

    is_watched: Annotated[bool, Meta(description="Flag implausible traffic (TrafficFlagged events)")] = True
    burst_per_s: Annotated[
        float, Meta(gt=0, description="Actions of one viewer a second, over ten seconds, above which they are a burst")
    ] = 5.0
    max_repeats: Annotated[
        int, Meta(ge=1, description="One viewer's same action on the same post, under different ids, within an hour")
    ] = 3
    max_looks_at_once: Annotated[
        float,
        Meta(gt=0, description="Seconds of looks that one viewer has in a second of time; more posts fit no screen"),
    ] = 10.0
    max_dwell_ms: Annotated[int, Meta(ge=1, description="A longer look at one post is impossible")] = 4 * 3_600_000
    max_clock_off_ms: Annotated[
        int, Meta(ge=1, description="A client clock that is off by more is flagged; its times are mended all the same")
    ] = 24 * 3_600_000
    max_viewers: Annotated[
        int, Meta(ge=1, description="Viewers that one process remembers, for ten minutes at most")
    ] = 100_000
    max_acts: Annotated[
        int, Meta(ge=1, description="Actions whose repetition one process counts, for an hour at most")
    ] = 250_000


_BURST_WINDOW_MS: Final = 10_000
_LOOK_WINDOW_MS: Final = 600_000
_REPEAT_WINDOW_MS: Final = 3_600_000


@dataclass(slots=True)
class _Leak:
    """An amount that runs out evenly over a window: what is above a limit came faster than it may."""

    level: float = 0.0
    at_ms: int = 0

    def add(self, amount: float, now_ms: int, window_ms: int) -> float:
        passed_ms = max(now_ms - self.at_ms, 0)
        self.level = self.level * max(0.0, 1.0 - passed_ms / window_ms) + amount
        self.at_ms = max(now_ms, self.at_ms)
        return self.level


@dataclass(slots=True)
class _Viewer:
    actions: _Leak = field(default_factory=_Leak)
    looks_ms: _Leak = field(default_factory=_Leak)
    heard_ms: int = 0


@dataclass(slots=True)
class _Finding:
    """What was found about a viewer for one reason: of each event its id, page and time."""

    events: list[tuple[str, str | None, int]] = field(default_factory=list)
    value: float = 0.0
    limit: float = 0.0


class TrafficWatch:
    """Remembers what viewers did lately. Not shared between threads.

    Parameters
    ----------
    config
        What a person does at most.
    """

    def __init__(self, config: TrafficConfig | None = None) -> None:
        self._config = config or TrafficConfig()
        self._viewers: OrderedDict[str, _Viewer] = OrderedDict()
        self._acts = ActMemory(_REPEAT_WINDOW_MS, self._config.max_acts)

    def look_at(
        self, events: Iterable[AnyEvent], client: str, *, received_ms: int, off_by_ms: int = 0
    ) -> list[TrafficFlagged]:
        """Return what is implausible about a batch that was taken in, by viewer and reason, a thousand events a flag.

        Parameters
        ----------
        events
            In the order of the batch, their times mended already; only `Impression` and `Engagement` are looked at.
            What a phone kept while it was away comes at once and was done over hours: their own times count.
        client
            Who sent them.
        received_ms
            When they came: what says that it is later counts as of then, as it does for the state. Else one such
            event would be now from there on, and no time would pass any more.
        off_by_ms
            How far the client's clock is ahead.
        """
        if not self._config.is_watched:
            return []
        found: dict[tuple[str, TrafficReason], _Finding] = {}
        for event in events:
            payload = event.payload
            if isinstance(payload, Impression | Engagement):
                time_ms = min(event.event_time_ms, received_ms)
                for reason, value, limit in self._reasons(event.event_id, payload, time_ms, received_ms, off_by_ms):
                    finding = found.setdefault((payload.viewer_id, reason), _Finding(limit=limit))
                    finding.events.append((event.event_id, payload.request_id, time_ms))
                    finding.value = max(finding.value, value)
        return [
            _flag(viewer, client, reason, finding, start)
            for (viewer, reason), finding in found.items()
            for start in range(0, len(finding.events), _MAX_NAMED)
        ]

    def _reasons(
        self, event_id: str, payload: Impression | Engagement, now_ms: int, heard_ms: int, off_by_ms: int
    ) -> list[tuple[TrafficReason, float, float]]:
        config, viewer = self._config, self._viewer(payload.viewer_id, heard_ms)
        found: list[tuple[TrafficReason, float, float]] = []
        if abs(off_by_ms) > config.max_clock_off_ms:
            found.append(("clock", float(abs(off_by_ms)), float(config.max_clock_off_ms)))
        if isinstance(payload, Impression):
            at_once = viewer.looks_ms.add(payload.dwell_ms, now_ms, _LOOK_WINDOW_MS) / _LOOK_WINDOW_MS
            if payload.dwell_ms > config.max_dwell_ms:
                found.append(("dwell", payload.dwell_ms / _LOOK_WINDOW_MS, config.max_dwell_ms / _LOOK_WINDOW_MS))
            elif at_once > config.max_looks_at_once:
                found.append(("dwell", at_once, config.max_looks_at_once))
            return found
        per_s = viewer.actions.add(1.0, now_ms, _BURST_WINDOW_MS) / (_BURST_WINDOW_MS / 1000)
        if per_s > config.burst_per_s:
            found.append(("burst", per_s, config.burst_per_s))
        act = (payload.viewer_id, payload.post_id, payload.action, str(payload.is_undo))
        n_repeats = self._acts.add(act, event_id, time_ms=now_ms, heard_ms=heard_ms)
        if n_repeats > config.max_repeats:
            found.append(("replay", float(n_repeats), float(config.max_repeats)))
        return found

    def _viewer(self, viewer_id: str, heard_ms: int) -> _Viewer:
        viewer = self._viewers.get(viewer_id)
        if viewer is None:
            viewer = self._viewers[viewer_id] = _Viewer()
        viewer.heard_ms = heard_ms
        self._viewers.move_to_end(viewer_id)
        while len(self._viewers) > 1:
            oldest = next(iter(self._viewers.values()))
            # After the longer window nothing of a viewer's amounts is left.
            if len(self._viewers) <= self._config.max_viewers and heard_ms - oldest.heard_ms <= _LOOK_WINDOW_MS:
                break
            self._viewers.popitem(last=False)
        return viewer


def _flag(viewer: str, client: str, reason: TrafficReason, finding: _Finding, start: int) -> TrafficFlagged:
    events = finding.events[start : start + _MAX_NAMED]
    times = [time_ms for _, _, time_ms in events]
    return TrafficFlagged(
        viewer_id=viewer,
        client=client,
        reason=reason,
        events=tuple(event_id for event_id, _, _ in events),
        value=round(finding.value, 3),
        limit=finding.limit,
        requests=tuple(dict.fromkeys(request for _, request, _ in events if request)),
        first_ms=min(times),
        last_ms=max(times),
    )
