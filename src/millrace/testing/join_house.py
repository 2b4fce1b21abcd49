"""`JoinHouse`: a log and the durable join over it in one folder, what came of it in either place, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from millrace.base.actions import ActionSpace
from millrace.base.clock import Clock, ManualClock
from millrace.base.ids import IdHasher, IdKind
from millrace.events.codec import EventCodec
from millrace.events.envelope import MAX_TIME_MS, AnyEvent
from millrace.events.feature_events import POSTS, FeaturesLogged
from millrace.events.packed import unpack_arrays
from millrace.events.registry import EventRegistry
from millrace.events.sample_events import SAMPLES_TOPIC, SamplesJoined
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_process import JoinProcess
from millrace.flywheel.join_records import JoinRecords
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.sample_config import SampleConfig
from millrace.flywheel.sample_files import SampleFiles
from millrace.flywheel.sample_store import SampleStore
from millrace.flywheel.sample_topic import NewestSamples
from millrace.flywheel.slate_join import HOUR_MS, SlateJoin
from millrace.flywheel.warehouse import Warehouse
from millrace.stream.log import Message
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.builders import NOW_MS

Truth = dict[tuple[int, int, int], tuple[int, tuple[float, ...]]]
"""Viewer, request and post to position and labels."""

CODEC = EventCodec(EventRegistry())


@dataclass
class JoinHouse:
    """A folder with a log and samples.

    Attributes
    ----------
    folder
        Where everything is.
    config, join_config
        Of the durable join, and of the join.
    clock
        Stamps appends; by default long after all events, so that each counts at its own time.
    at_point
        Told of every step of a write.
    duplicate_window
        Of the log.
    """

    folder: Path
    config: SampleConfig = field(default_factory=lambda: SampleConfig(epoch_records=200))
    join_config: JoinConfig = field(default_factory=JoinConfig)
    clock: Clock = field(default_factory=lambda: ManualClock(NOW_MS + 1000 * HOUR_MS))
    at_point: Callable[[str], None] = lambda _name: None
    duplicate_window: int = 1 << 20

    def __post_init__(self) -> None:
        self.log = SqliteLog(
            self.folder / "log.db", self.clock, duplicate_window=self.duplicate_window, min_free_bytes=0
        )
        self.files = SampleFiles(self.folder / "samples", self.at_point)

    def put(self, events: Sequence[AnyEvent]) -> None:
        """Append events."""
        self.log.append(messages_of(events))

    def process(self) -> JoinProcess:
        """Return a process that has started."""
        actions, hasher = CODEC.actions, IdHasher()
        process = JoinProcess(
            self.log,
            StreamJoin(hasher, actions, config=self.join_config),
            JoinRecords(CODEC, hasher, actions),
            self.files,
            JoinCheckpoints(self.files.state_folder, "f"),
            CODEC,
            self.clock,
            self.config,
            actions=actions.names,
            hold_ms=self.join_config.late_ms,
        )
        process.start()
        return process

    def join_all(self) -> None:
        """Let a process hear what the log holds, and end."""
        process = self.process()
        while process.turn():
            pass
        process.stop()

    def store(self) -> SampleStore:
        """Return a reader of the samples."""
        return SampleStore(self.files, Warehouse(self.folder / "warehouse", CODEC), CODEC, IdHasher())

    def in_files(self) -> Truth:
        """Return the newest samples of the files."""
        return as_truth(self.store().rows())

    def on_topic(self) -> tuple[Truth, int]:
        """Return the newest samples of the topic, and how many rows on it said nothing new."""
        samples = NewestSamples(len(CODEC.actions))
        consumer = self.log.subscribe("check", topics=(SAMPLES_TOPIC,), start=self.log.begin())
        while len(records := consumer.poll(1_000)):
            for data in records.data:
                payload = CODEC.decode(data).payload
                assert isinstance(payload, SamplesJoined)
                samples.take(payload)
        consumer.close()
        return as_truth(samples.rows()), samples.n_passed_over

    def truth(self) -> Truth:
        """Return what the batch join says of the log as it is."""
        hasher = IdHasher()
        join = SlateJoin(hasher, ActionSpace(), takes_all=True)
        pages: dict[tuple[int, int], set[int]] = {}
        consumer = self.log.subscribe("check", without=(SAMPLES_TOPIC,), start=self.log.begin())
        while len(records := consumer.poll(1_000)):
            offsets, appended = records.offsets.tolist(), records.appended_ms.tolist()
            for offset, appended_ms, data in zip(offsets, appended, records.data, strict=True):
                event = CODEC.decode(data)
                join.hear(offset, min(event.event_time_ms, appended_ms), event)
                if isinstance(payload := event.payload, FeaturesLogged):
                    key = (hasher.one(IdKind.USER, payload.viewer_id), hasher.one(IdKind.REQUEST, payload.request_id))
                    pages.setdefault(key, set(unpack_arrays(payload.arrays)[POSTS].tolist()))
        consumer.close()
        slates = join.join(0, MAX_TIME_MS)
        found: Truth = {}
        for slate, row in zip(slates.slate_of.tolist(), range(len(slates.post_ids)), strict=True):
            viewer, request, post = int(slates.viewers[slate]), int(slates.requests[slate]), int(slates.post_ids[row])
            if post in pages.get((viewer, request), ()):
                labels = tuple(slates.labels[row].tolist())
                found[viewer, request, post] = int(slates.positions[row]), labels
        return found

    def close(self) -> None:
        """Close the log."""
        self.log.close()


def messages_of(events: Sequence[AnyEvent]) -> list[Message]:
    """Return events as a log takes them."""
    topic_of = CODEC.registry.of
    return [Message(topic_of(e.payload).topic, "k", e.event_id, e.event_time_ms, CODEC.encode(e)) for e in events]


def as_truth(rows: JoinedRows) -> Truth:
    """Return rows by their keys; one that is there twice is an error."""
    keys = zip(rows.viewers.tolist(), rows.requests.tolist(), rows.posts.tolist(), strict=True)
    said = zip(rows.positions.tolist(), map(tuple, rows.labels.tolist()), strict=True)
    found = dict(zip(keys, said, strict=True))
    assert len(found) == len(rows), "a sample is there twice"
    return found


def differences(found: Truth, truth: Truth) -> tuple[int, int, int]:
    """Return how many samples are lost, too many, and wrong."""
    wrong = sum(1 for key in found.keys() & truth.keys() if not _same(found[key], truth[key]))
    return len(truth.keys() - found.keys()), len(found.keys() - truth.keys()), wrong


def _same(one: tuple[int, tuple[float, ...]], other: tuple[int, tuple[float, ...]]) -> bool:
    return one[0] == other[0] and bool(np.array_equal(one[1], other[1]))
