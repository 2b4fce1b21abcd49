"""`Collector`: the door. Every event that enters the log, whoever sends it, passes here.

Clients' NDJSON lines are decoded and checked one by one; what cannot be used goes to dead letters with its reason
and the rest goes on. What an untrusted client may not send is refused likewise, and not kept. Events from our own
producers (importers, the simulator, the server) are checked by the same rules. The answer is given when everything it
calls accepted is durable.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, overload

from millrace.base.clock import Clock
from millrace.base.errors import LogError
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent, Event
from millrace.events.traffic_events import TrafficFlagged
from millrace.stream.checks import Admit, EventCheck, Refusal, Rule
from millrace.stream.client_clock import ClientClock
from millrace.stream.config import LogConfig
from millrace.stream.log import Log, Message, Position
from millrace.stream.traffic import TrafficWatch

Status = Literal["accepted", "duplicate", "refused"]
Item = TypeVar("Item")


_DEFAULTS: Final = LogConfig()

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LineResult:
    """What became of one event.

    Attributes
    ----------
    status
        ``"accepted"``: durable now. ``"duplicate"``: an event of this id was accepted before. ``"refused"``: kept
        as a dead letter, unless its sender was not trusted.
    event_id
        The event's id (derived from the content where the client gave none); empty if it could not be read.
    error
        Why it was refused; else empty.
    """

    status: Status
    event_id: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Receipt(Sequence[LineResult]):
    """The answer of the door: a sequence with one result per event, in order.

    Attributes
    ----------
    results
        One per event.
    end
        A position at which all accepted events are in the log: state that has reached it contains them.
    """

    results: tuple[LineResult, ...]
    end: Position

    @property
    def n_accepted(self) -> int:
        """How many are new and durable."""
        return self._count("accepted")

    @property
    def n_duplicates(self) -> int:
        """How many were known already."""
        return self._count("duplicate")

    @property
    def n_refused(self) -> int:
        """How many were not taken in."""
        return self._count("refused")

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[LineResult]:
        return iter(self.results)

    @overload
    def __getitem__(self, index: int) -> LineResult: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LineResult, ...]: ...
    def __getitem__(self, index: int | slice) -> LineResult | tuple[LineResult, ...]:
        return self.results[index]

    def _count(self, status: Status) -> int:
        return sum(result.status == status for result in self.results)


class Collector:
    """Checks events, appends the good ones, keeps the bad ones as dead letters. Safe to use from several threads.

    Parameters
    ----------
    log
        Where events go.
    codec
        What events are.
    clock
        Gives a time to client events that have none.
    max_event_bytes
        Larger events are refused.
    max_batch_events
        Events appended in one transaction.
    rule
        What clients' events must meet beyond their schema.
    watch
        Flags what is implausible about clients' events; None: nobody does.
    observe
        Hears of every client's batch: what was flagged, and how far ahead the client's clock was, in ms.
    """

    def __init__(
        self,
        log: Log,
        codec: EventCodec,
        clock: Clock,
        *,
        max_event_bytes: int = _DEFAULTS.max_event_bytes,
        max_batch_events: int = _DEFAULTS.max_batch_events,
        rule: Rule | None = None,
        watch: TrafficWatch | None = None,
        observe: Callable[[Sequence[TrafficFlagged], int], None] = lambda _flags, _off_by_ms: None,
    ) -> None:
        self._log = log
        self._check = EventCheck(codec, max_event_bytes=max_event_bytes, rule=rule)
        self._clock = clock
        self._max_batch_events = max_batch_events
        self._watch = watch
        self._watching = threading.Lock()
        self._observe = observe

    def submit_json(
        self,
        lines: Sequence[bytes],
        source: str,
        admit: Admit | None = None,
        *,
        client: str = "",
        sent_ms: int | None = None,
    ) -> Receipt:
        """Take in clients' events, one JSON object a line.

        Parameters
        ----------
        lines
            The lines, see `ndjson_lines`.
        source
            Who sends them; taken where an event does not say.
        admit
            What an untrusted sender may send, and as what; None trusts. Nothing of theirs becomes a dead letter.
        client
            Who they are, for flags.
        sent_ms
            What their clock showed when they sent it: events are moved by what it is off (`ClientClock`).

        Raises
        ------
        LogFullError
            If there is no room. Nothing is acknowledged; what was taken in all the same is dropped as a duplicate
            when the client sends it again.
        LogError
            If the log cannot be written; likewise.
        """
        now_ms = self._clock.now_ms
        clock = ClientClock(now_ms(), sent_ms)
        entering: list[AnyEvent] = []

        def amend(event: AnyEvent) -> AnyEvent:
            entering.append(clock.corrected(event))
            return entering[-1]

        receipt = self._submit(
            lines, lambda line: self._check.line(line, source=source, now_ms=now_ms(), admit=admit, amend=amend)
        )
        self._flag(entering, receipt, client or source, clock)
        return receipt

    def submit(self, events: Sequence[AnyEvent]) -> Receipt:
        """Take in events of our own producers; the internal types are allowed.

        They are held to the same rules as clients' events, so that nothing undecodable ever gets into the log; ids
        must be in their canonical text already (`millrace.base.ids.normalise_id`). Raises like `submit_json`.
        """
        return self._submit(events, self._check.event)

    def _flag(self, entering: list[AnyEvent], receipt: Receipt, client: str, clock: ClientClock) -> None:
        """Tell what is implausible about what was taken in; it is in the log already."""
        if self._watch is None:
            return
        new = {result.event_id for result in receipt if result.status == "accepted"}
        with self._watching:
            events = [event for event in entering if event.event_id in new]
            flags = self._watch.look_at(events, client, received_ms=clock.received_ms, off_by_ms=clock.off_by_ms)
        self._observe(flags, clock.off_by_ms)
        if flags:
            try:
                self.submit([_flag_event(flag, clock.received_ms) for flag in flags])
            except LogError as error:
                logger.warning("%d flags of implausible traffic are lost: %s", len(flags), error)

    def _submit(self, items: Sequence[Item], check: Callable[[Item], Message | Refusal]) -> Receipt:
        results: list[LineResult] = []
        end = self._log.end()
        for start in range(0, len(items), self._max_batch_events):
            checked = [check(item) for item in items[start : start + self._max_batch_events]]
            messages = [item for item in checked if isinstance(item, Message)]
            letters = [item.letter for item in checked if isinstance(item, Refusal) and item.is_kept]
            # Events first: if the letters fail, sending everything again is harmless.
            offsets: Iterator[int] = iter(())
            if messages:
                appended = self._log.append(messages)
                end, offsets = appended.end, iter(appended.offsets.tolist())
            if letters:
                self._log.dead_letter(letters)
            for item in checked:
                if isinstance(item, Message):
                    results.append(LineResult("accepted" if next(offsets) >= 0 else "duplicate", item.event_id))
                else:
                    results.append(LineResult("refused", item.event_id, item.reason))
        return Receipt(tuple(results), end)


def _flag_event(flag: TrafficFlagged, now_ms: int) -> AnyEvent:
    named = f"{flag.viewer_id}\0{flag.reason}\0{flag.events[0]}".encode()
    event_id = f"flag-{hashlib.blake2b(named, digest_size=16).hexdigest()}"
    return Event(event_id=event_id, event_time_ms=now_ms, source="door", payload=flag)


def ndjson_lines(body: bytes) -> list[bytes]:
    """Return the lines of an NDJSON body, without blank ones."""
    return [line for raw in body.split(b"\n") if (line := raw.strip())]
