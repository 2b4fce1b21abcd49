from __future__ import annotations

import fcntl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher
from millrace.events.codec import EventCodec
from millrace.events.envelope import MAX_TIME_MS
from millrace.events.registry import EventRegistry
from millrace.flywheel.warehouse import Warehouse
from millrace.stores.checkpoint import Checkpoints
from millrace.stores.config import StoresConfig
from millrace.stores.replica import Replica
from millrace.stores.state import State
from millrace.stream.collector import Collector
from millrace.stream.log import Consumer, Position, RecordBatch
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import (
    NOW_MS,
    a_post_created,
    a_post_edited,
    a_served,
    a_user_erased,
    an_engagement,
)

CODEC = EventCodec(EventRegistry())
CLOCK = ManualClock(NOW_MS)
DAY_MS = 86_400_000


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(CLOCK)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse", CODEC)


def put(log: MemoryLog, *events) -> None:  # type: ignore[no-untyped-def]
    Collector(log, CODEC, CLOCK).submit(events)


def rows(warehouse: Warehouse, sql: str) -> list[tuple[object, ...]]:
    connection = warehouse.connect()
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


OFFSETS = "SELECT log_offset FROM events ORDER BY log_offset"


def test_events_lie_by_topic_and_day_and_are_read_with_sql(log: MemoryLog, warehouse: Warehouse, tmp_path) -> None:  # type: ignore[no-untyped-def]
    put(log, a_post_created(1, text="hello"), a_post_created(2, at_ms=NOW_MS - DAY_MS), an_engagement(20, 1))
    report = warehouse.export(log)
    assert (report.n_events, report.n_files, report.position) == (3, 3, (3,))
    folders = {str(p.parent.relative_to(tmp_path / "warehouse")) for p in tmp_path.rglob("*.parquet")}
    assert folders == {
        "topic=events.post/dt=2027-01-15",
        "topic=events.post/dt=2027-01-14",
        "topic=events.engagement/dt=2027-01-15",
    }
    found = rows(warehouse, "SELECT payload ->> 'text' FROM events WHERE type = 'PostCreated' AND log_offset = 0")
    assert found == [("hello",)]


def test_each_export_goes_on_where_the_last_one_ended(log: MemoryLog, warehouse: Warehouse) -> None:
    put(log, *(a_post_created(i) for i in range(10)))
    assert warehouse.export(log, max_records=4, chunk_records=2).position == (4,)
    assert warehouse.export(log, chunk_records=5).n_events == 6
    assert warehouse.export(log).n_events == 0
    assert rows(warehouse, OFFSETS) == [(i,) for i in range(10)]


def test_an_export_killed_before_it_moved_the_position_leaves_no_event_twice(
    log: MemoryLog, warehouse: Warehouse, tmp_path: Path
) -> None:
    put(log, *(a_post_created(i) for i in range(4)))
    warehouse.export(log, max_records=2, chunk_records=2)
    state = (tmp_path / "warehouse" / "state.json").read_bytes()
    warehouse.export(log)
    (tmp_path / "warehouse" / "state.json").write_bytes(state)
    put(log, a_post_created(9))
    warehouse.export(log)
    assert rows(warehouse, OFFSETS) == [(i,) for i in range(5)]


class WatchedLog(MemoryLog):
    """Calls ``on_poll`` before records are read, which an export does while the files are its own."""

    def __init__(self, on_poll: Callable[[], None]) -> None:
        super().__init__(CLOCK)
        self._on_poll = on_poll

    def subscribe(self, *args: Any, **given: Any) -> Consumer:
        consumer = super().subscribe(*args, **given)
        poll = consumer.poll

        def watched(max_records: int, *, before: Position | None = None) -> RecordBatch:
            self._on_poll()
            return poll(max_records, before=before)

        consumer.poll = watched  # type: ignore[method-assign]
        return consumer


def test_who_does_not_wait_exports_nothing_while_another_one_does(warehouse: Warehouse, tmp_path: Path) -> None:
    other, reports = Warehouse(tmp_path / "warehouse", CODEC), []
    log = WatchedLog(lambda: reports.append(other.export(log, waits=False)))
    put(log, a_post_created(1))
    assert warehouse.export(log, max_records=1).n_events == 1
    assert [(report.n_events, report.position) for report in reports] == [(0, (0,))]
    assert other.export(log, waits=False).position == (1,)


def test_who_waits_for_a_long_export_has_their_turn_before_its_next_chunk(warehouse: Warehouse, tmp_path: Path) -> None:
    n_chunks = 0
    eraser = threading.Thread(target=lambda: Warehouse(tmp_path / "warehouse", CODEC).erase("ann", before=100))

    def on_poll() -> None:
        nonlocal n_chunks
        n_chunks += 1
        if n_chunks == 2:  # now there are files to erase from
            eraser.start()
            while not is_locked(tmp_path / "warehouse" / ".turn"):
                pass

    log = WatchedLog(on_poll)
    put(log, *(a_post_created(i, "ann") for i in range(6)))
    warehouse.export(log, chunk_records=2)
    eraser.join()
    assert rows(warehouse, OFFSETS) == [(4,), (5,)]  # of the third chunk: the first two were there to be erased


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_an_empty_warehouse_can_be_asked(warehouse: Warehouse) -> None:
    assert rows(warehouse, "SELECT count(*) FROM events") == [(0,)]


def test_erasure_removes_what_is_about_a_user_and_takes_out_mentions(log: MemoryLog, warehouse: Warehouse) -> None:
    put(
        log,
        a_post_created(1, "erin", text="mine"),
        a_post_edited(1, text="still mine"),
        an_engagement("erin", 5),
        an_engagement("bob", 1),
        a_post_created(2, "bob", kind="reply", parent_id=1, parent_author_id="erin"),
        a_served("bob", (1,), author_id="erin"),
        a_user_erased("erin"),
        a_post_created(3, "erin", text="back again"),
    )
    warehouse.export(log)
    assert warehouse.erase("erin", before=6) == 5
    found = rows(warehouse, "SELECT log_offset, payload FROM events ORDER BY log_offset")
    assert [row[0] for row in found] == [3, 4, 5, 7]
    assert [row[0] for row in found if "erin" in str(row[1])] == [7]  # a user who came back is somebody new
    assert warehouse.erase("erin", before=6) == 0


def test_an_event_from_the_far_future_lies_under_the_day_of_its_append(log: MemoryLog, warehouse: Warehouse) -> None:
    put(log, a_post_created(1, at_ms=MAX_TIME_MS), a_post_created(2, at_ms=0))
    warehouse.export(log)
    assert rows(warehouse, "SELECT log_offset, dt::VARCHAR FROM events ORDER BY log_offset") == [
        (0, "2027-01-15"),
        (1, "1970-01-01"),
    ]


_HUGE = st.sampled_from(
    (0, 1, 2**31 - 1, 2**31, MAX_TIME_MS, MAX_TIME_MS + 1, 2**53 - 2, 2**63 - 1, 2**63, 2**64, 10**30)
)
_TEXT = st.text(max_size=6) | st.sampled_from(("\x00", "\\ud800", '"', "\u2028", "e" * 200))


def _payloads() -> st.SearchStrategy[dict[str, object]]:
    fixed = st.fixed_dictionaries
    name = st.just
    return st.one_of(
        fixed(
            {"type": name("PostCreated"), "post_id": _TEXT, "author_id": _TEXT, "text": _TEXT, "created_at_ms": _HUGE}
        ),
        fixed({"type": name("PostEdited"), "post_id": _TEXT, "text": _TEXT}),
        fixed({"type": name("Impression"), "viewer_id": _TEXT, "post_id": _TEXT, "dwell_ms": _HUGE, "position": _HUGE}),
        fixed({"type": name("CountsObserved"), "post_id": _TEXT, "counts": fixed({"like": _HUGE})}),
        fixed(
            {
                "type": name("PostAnnotated"),
                "post_id": _TEXT,
                "producer": name("m"),
                "topics": st.lists(_TEXT, max_size=3),
            }
        ),
        fixed({"type": name("ClockTick"), "now_ms": _HUGE}),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(_payloads(), _HUGE, _HUGE), min_size=1, max_size=8))
def test_whatever_the_door_accepts_can_be_folded_and_exported(
    plan: list[tuple[dict[str, object], int, int]],
) -> None:
    log = MemoryLog(CLOCK)
    lines = []
    for number, (payload, at_ms, version) in enumerate(plan):
        event: dict[str, object] = {"event_id": f"e{number}", "payload": payload}
        # Each of them is wrong more often than not: try them one at a time as well.
        event |= [{}, {"event_time_ms": at_ms}, {"schema_version": version}][number % 3]
        lines.append(msgspec.json.encode(event).replace(b"\\\\ud800", b"\\ud800"))
    receipt = Collector(log, CODEC, CLOCK).submit_json(lines, "web")
    with tempfile.TemporaryDirectory() as folder:
        replica = Replica(
            log, CODEC.decode, lambda: State(StoresConfig(), IdHasher()), Checkpoints(Path(folder), "f"), clock=CLOCK
        )
        while len((step := replica.step(1000)).records):
            assert step.applied.refused == ()
        report = Warehouse(Path(folder) / "warehouse", CODEC).export(log)
    assert report.n_events == receipt.n_accepted


def test_a_damaged_position_is_told(log: MemoryLog, warehouse: Warehouse, tmp_path: Path) -> None:
    put(log, a_post_created(1))
    warehouse.export(log)
    for damage in (b"{", b"[]", b'{"position": "x"}', b"{}", b'{"position": []}'):
        (tmp_path / "warehouse" / "state.json").write_bytes(damage)
        with pytest.raises(StoreError, match="is damaged"):
            warehouse.position()


def test_files_that_cannot_be_read_are_named(log: MemoryLog, warehouse: Warehouse, tmp_path: Path) -> None:
    put(log, a_post_created(1), an_engagement())
    warehouse.export(log)
    assert warehouse.problems() == []
    broken = next(tmp_path.rglob("topic=events.post/**/*.parquet"))
    broken.write_bytes(b"no parquet")
    assert [path for path, _ in warehouse.problems()] == [broken]
    with pytest.raises(StoreError, match=broken.name):
        warehouse.erase("erin", before=10)
