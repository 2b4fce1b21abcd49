"""Appending to and polling `SqliteLog`, beside the table that a good engineer would ship.

Both take the same encoded events in batches of 1,000, with ``synchronous=FULL``, WAL and duplicate detection on
(2 % of the events come twice), and give them back as bytes. The baseline ``sqlite_rows`` is one table with a row per
event, a unique index on the event id, ``executemany`` with ``INSERT OR IGNORE``, and ``fetchmany`` by offset. Before
anything is measured, both must give back the same bytes in the same order.

With a ``redis-server`` beside it, `RedisLog` (append-only file, synced before every answer) stands beside one
``XADD`` per event, a thousand in a pipeline, on the same server and without duplicate detection. ``kafka_mock_…`` are
of librdkafka's mock cluster in this process, over fewer events (it keeps few): the client's side of the work, no
broker's.

Run with the log on a real disk: files go to the folder that ``TMPDIR`` names.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import harness
import log_servers
from millrace.base.clock import SystemClock
from millrace.events.codec import EventCodec
from millrace.events.envelope import Context, Event
from millrace.events.feed_events import Engagement, Impression
from millrace.events.registry import EventRegistry
from millrace.stream.checks import message_of
from millrace.stream.log import DUPLICATE_WINDOW, Message
from millrace.stream.sqlite_log import SqliteLog

N_EVENTS = 200_000
BATCH = 1_000
DUPLICATE_FRAC = 0.02
ROUNDS = 5


def make_batches() -> list[list[Message]]:
    """Impressions and engagements as clients send them: about 200 bytes each, some of them twice."""
    codec = EventCodec(EventRegistry())
    rng = np.random.default_rng(7)
    viewers = rng.zipf(1.3, N_EVENTS) % 100_000
    posts = rng.zipf(1.2, N_EVENTS) % 1_000_000
    messages: list[Message] = []
    for i, (viewer, post) in enumerate(zip(viewers.tolist(), posts.tolist(), strict=True)):
        who = {"viewer_id": f"u{viewer}", "post_id": f"p{post}", "request_id": f"r{i // 35}", "position": i % 35}
        context = Context(session_id=f"s{viewer}", device="phone", app_version="1.0")
        payload = (
            Impression(**who, dwell_ms=i % 9_000, context=context)
            if i % 4
            else Engagement(**who, action="like", context=context)
        )
        event_id = f"{rng.integers(1 << 62):016x}{i:016x}"
        event = Event(event_id=event_id, event_time_ms=1_800_000_000_000 + i, source="web", payload=payload)
        messages.append(message_of(event, codec))
    again = np.flatnonzero(rng.random(N_EVENTS) < DUPLICATE_FRAC)
    for i in again[again > 0].tolist():
        messages[i] = messages[int(rng.integers(i))]
    return [messages[i : i + BATCH] for i in range(0, N_EVENTS, BATCH)]


class RowPerEvent:
    """The baseline: one row per event."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS events (offset INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, "
            "topic TEXT NOT NULL, key TEXT NOT NULL, appended_ms INTEGER NOT NULL, data BLOB NOT NULL)"
        )

    def append(self, messages: list[Message], now_ms: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            "INSERT OR IGNORE INTO events (event_id, topic, key, appended_ms, data) VALUES (?, ?, ?, ?, ?)",
            [(m.event_id, m.topic, m.key, now_ms, m.data) for m in messages],
        )
        self.connection.execute("COMMIT")

    def poll(self) -> Iterator[list[tuple[int, str, int, bytes]]]:
        cursor = self.connection.execute("SELECT offset, topic, appended_ms, data FROM events ORDER BY offset")
        while rows := cursor.fetchmany(BATCH):
            yield rows


def append_ours(path: Path, batches: list[list[Message]]) -> None:
    with contextlib.closing(SqliteLog(path, SystemClock())) as log:
        for batch in batches:
            log.append(batch)


def append_rows(path: Path, batches: list[list[Message]]) -> None:
    clock = SystemClock()
    table = RowPerEvent(path)
    for batch in batches:
        table.append(batch, clock.now_ms())
    table.connection.close()


def poll_ours(path: Path) -> list[bytes]:
    found: list[bytes] = []
    with contextlib.closing(SqliteLog(path, SystemClock())) as log:
        consumer = log.subscribe("bench", start=log.begin())
        while len(batch := consumer.poll(BATCH)):
            found += batch.data
        consumer.close()
    return found


def poll_rows(path: Path) -> list[bytes]:
    found: list[bytes] = []
    table = RowPerEvent(path)
    for rows in table.poll():
        found += [row[3] for row in rows]
    table.connection.close()
    return found


def with_a_full_window(folder: Path, batches: list[list[Message]]) -> float:
    """Return events per second into a log whose duplicate window is full, so that every append also forgets."""
    fill = [Message("fill", "", f"fill-{i}", 0, b"x") for i in range(DUPLICATE_WINDOW)]
    with contextlib.closing(SqliteLog(folder / "full.db", SystemClock())) as log:
        for start in range(0, len(fill), 65_536):
            log.append(fill[start : start + 65_536])
        clock = SystemClock()
        began_s = clock.monotonic_s()
        for batch in batches:
            log.append(batch)
        return N_EVENTS / (clock.monotonic_s() - began_s)


def fresh(path: Path) -> Path:
    """Return the path after removing the file that an earlier round left there."""
    path.unlink(missing_ok=True)
    return path


def main() -> None:
    batches = make_batches()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        folder = Path(name)
        append_ours(folder / "ours.db", batches)
        append_rows(folder / "rows.db", batches)
        ours = poll_ours(folder / "ours.db")
        is_equal = ours == poll_rows(folder / "rows.db") and len(ours) < N_EVENTS
        seconds = harness.interleave(
            {
                "append_ours": lambda _: append_ours(fresh(folder / "ours-again.db"), batches),
                "append_rows": lambda _: append_rows(fresh(folder / "rows-again.db"), batches),
                "poll_ours": lambda _: poll_ours(folder / "ours.db"),
                "poll_rows": lambda _: poll_rows(folder / "rows.db"),
            },
            n_rounds=ROUNDS,
            n_warmup=1,
        )
        full_window_per_s = with_a_full_window(folder, batches)
        servers = log_servers.measure(folder, batches, ours)
        bytes_per_event = (folder / "ours.db").stat().st_size / len(ours)
        rows_bytes_per_event = (folder / "rows.db").stat().st_size / len(ours)
    median_s = {name: float(np.median(times)) for name, times in seconds.items()}
    harness.emit(
        "log",
        equal=is_equal and servers.is_equal,
        ratio={
            "sqlite_rows": median_s["append_rows"] / median_s["append_ours"],
            "sqlite_rows_poll": median_s["poll_rows"] / median_s["poll_ours"],
            **servers.ratios,
        },
        append_per_s=N_EVENTS / median_s["append_ours"],
        poll_per_s=len(ours) / median_s["poll_ours"],
        append_full_window_per_s=full_window_per_s,
        sqlite_rows_append_per_s=N_EVENTS / median_s["append_rows"],
        sqlite_rows_poll_per_s=len(ours) / median_s["poll_rows"],
        bytes_per_event=bytes_per_event,
        sqlite_rows_bytes_per_event=rows_bytes_per_event,
        **servers.figures,
        n_events=N_EVENTS,
        batch=BATCH,
    )


if __name__ == "__main__":
    harness.without_options(__doc__)
    main()
