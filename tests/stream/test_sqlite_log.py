import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import LogError, LogFullError
from millrace.stream import sqlite_appender
from millrace.stream.config import LogConfig
from millrace.stream.log import Message
from millrace.stream.sqlite_appender import SqliteAppender
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.log_contract import a_message, batches, messages, polled

OpenLog = Callable[..., SqliteLog]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000)


@pytest.fixture
def open_log(tmp_path: Path, clock: ManualClock) -> Iterator[OpenLog]:
    logs: list[SqliteLog] = []

    def open_it(**settings: Any) -> SqliteLog:
        logs.append(SqliteLog(tmp_path / "log.db", settings.pop("clock", clock), **settings))
        return logs[-1]

    yield open_it
    for log in logs:
        log.close()


def n_rows(log: SqliteLog) -> int:
    return int(log._connection.execute("SELECT count(*) FROM batches").fetchone()[0])


def test_an_append_is_one_row_and_its_sync_is_full(open_log: OpenLog) -> None:
    log = open_log()
    log.append(messages(*(f"e{i}" for i in range(1_000))))
    assert n_rows(log) == 1
    connection = log._appender._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    log.flush()


def test_a_large_append_is_cut_into_rows_and_still_all_or_none(open_log: OpenLog) -> None:
    log = open_log()
    log.append([a_message(f"e{i}", data=b"x" * 1_000) for i in range(10_000)])
    log.append([a_message(f"big{i}", data=bytes([i]) * 3_000_000) for i in range(3)])
    assert n_rows(log) == 3 + 3
    consumer = log.subscribe("g", start=(9_999,))
    assert [len(data) for data in consumer.poll(10).data] == [1_000, 3_000_000, 3_000_000, 3_000_000]
    assert sum(len(batch) for batch in batches(log.subscribe("h"), 777)) == 10_003


def test_a_log_is_not_opened_with_other_settings_than_it_was_made_with(open_log: OpenLog) -> None:
    open_log(n_partitions=4)
    with pytest.raises(LogError, match=r"n_partitions.*made with 4.*set log.n_partitions = 4"):
        open_log(n_partitions=8)
    with pytest.raises(LogError, match="duplicate_window"):
        open_log(n_partitions=4, duplicate_window=7)
    assert open_log(n_partitions=4).n_partitions == 4


def test_settings_come_from_the_configuration(tmp_path: Path, clock: ManualClock) -> None:
    log = SqliteLog.from_config(tmp_path / "log.db", clock, LogConfig(n_partitions=2, duplicate_window=1))
    assert (log.n_partitions, log.path) == (2, tmp_path / "log.db")
    assert log.append(messages("a", "b", "a")).n_appended == 3
    log.close()


def test_files_that_are_no_log_are_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "text").write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(LogError, match="this is no log file"):
        SqliteLog(tmp_path / "text", clock)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(LogError, match="not a Millrace log"):
        SqliteLog(tmp_path / "other.db", clock)
    with pytest.raises(LogError, match="cannot be opened"):
        SqliteLog(tmp_path, clock)


def test_a_log_of_another_format_is_refused(open_log: OpenLog) -> None:
    log = open_log()
    log._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LogError, match="of format 99"):
        open_log()


def test_a_closed_log_and_one_from_before_a_fork_are_refused(open_log: OpenLog) -> None:
    log = open_log()
    log._pid += 1
    with pytest.raises(LogError, match="before a fork"):
        log.append(messages("a"))
    log._pid -= 1
    log.close()
    with pytest.raises(LogError, match="already closed"):
        log.end()
    with pytest.raises(LogError, match="already closed"):
        log.append(messages("a"))


def test_a_log_that_another_process_holds_is_refused_after_the_timeout(open_log: OpenLog) -> None:
    log = open_log(busy_timeout_ms=1)
    holder = sqlite3.connect(log.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogError, match=r"locked.*log.busy_timeout_ms"):
        log.append(messages("a"))
    holder.execute("ROLLBACK")
    holder.close()
    assert log.append(messages("a")).n_appended == 1


def test_a_full_file_refuses_an_append_as_a_whole(open_log: OpenLog) -> None:
    log = open_log()
    log.append(messages("a", "b"))
    connection = log._appender._connection
    n_pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {n_pages + 2}")
    big = [a_message("c", topic="t.new"), a_message("d", data=b"x" * 100_000), a_message("a")]
    for _ in range(2):
        with pytest.raises(LogFullError, match=r"no room left.*nothing was changed; free disk space"):
            log.append(big)
    assert log.append(messages("b", "e", "d")).offsets.tolist() == [-1, 2, 3]  # d was not remembered
    connection.execute("PRAGMA max_page_count = 1000000")
    assert log.append(big).offsets.tolist() == [4, -1, -1]
    assert polled(log) == ["a", "b", "e", "d", "c"]
    assert polled(log, topics=["t.new"]) == ["c"]


def test_appends_are_refused_while_there_is_still_room_to_clear_up(open_log: OpenLog) -> None:
    open_log().append(messages("a"))
    log = open_log(min_free_bytes=1 << 62)
    with pytest.raises(LogFullError, match=r"bytes left, less than.*log.min_free_bytes"):
        log.append(messages("b"))
    log.subscribe("g").commit((1,))
    log.dead_letter([("", "door/web", "bad", b"x")])
    assert log.trim((1,)) == 1


def waiting_threads(log: SqliteLog, appends: list[list[Message]], results: dict[int, Any]) -> list[threading.Thread]:
    """Return threads that all wait for the log's write lock, which the caller holds."""

    def run(i: int) -> None:
        try:
            results[i] = log.append(appends[i]).offsets.tolist()
        except (LogError, KeyboardInterrupt) as error:
            results[i] = type(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(appends))]
    for n, thread in enumerate(threads):
        thread.start()
        while len(log._appender._queue) <= n:
            thread.join(0.001)
    return threads


def test_appends_that_wait_are_written_together_by_one_transaction(open_log: OpenLog) -> None:
    log, results = open_log(), {}
    log._appender._write_lock.acquire()
    threads = waiting_threads(log, [messages("a", "b"), messages("b", "c"), messages("c"), messages("d")], results)
    log._appender._write_lock.release()
    for thread in threads:
        thread.join()
    assert results == {0: [0, 1], 1: [-1, 2], 2: [-1], 3: [3]}
    assert n_rows(log) == 1
    assert polled(log) == ["a", "b", "c", "d"]


def test_one_that_is_too_large_does_not_spoil_those_that_wait_with_it(open_log: OpenLog) -> None:
    log, results = open_log(), {}
    log.append(messages("a"))
    connection = log._appender._connection
    n_pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {n_pages + 2}")
    log._appender._write_lock.acquire()
    appends = [messages("b"), [a_message("big", data=b"x" * 100_000)], messages("c", "a")]
    threads = waiting_threads(log, appends, results)
    log._appender._write_lock.release()
    for thread in threads:
        thread.join()
    assert results == {0: [1], 1: LogFullError, 2: [2, -1]}


class InterruptedClock(ManualClock):
    """Interrupts whoever reads it first."""

    is_interrupted = True

    def now_ms(self) -> int:
        if self.is_interrupted:
            self.is_interrupted = False
            raise KeyboardInterrupt
        return super().now_ms()


def test_an_interrupted_thread_leaves_the_others_work_to_them(open_log: OpenLog) -> None:
    log, results = open_log(clock=InterruptedClock()), {}
    log._appender._write_lock.acquire()
    threads = waiting_threads(log, [messages(name) for name in "abc"], results)
    log._appender._write_lock.release()
    for thread in threads:
        thread.join()
    interrupted = [i for i, result in results.items() if result is KeyboardInterrupt]
    assert len(interrupted) == 1
    expected = sorted(name for i, name in enumerate("abc") if i not in interrupted)
    assert sorted(polled(log)) == expected
    assert log.append(messages("abc"[interrupted[0]])).n_appended == 1


def test_the_event_ids_kept_are_those_of_the_window(open_log: OpenLog) -> None:
    log = open_log(duplicate_window=10)
    for i in range(30):
        log.append(messages(f"a{i}", f"b{i}"))
    n_bytes = log._connection.execute("SELECT sum(length(digests)) FROM event_ids").fetchone()[0]
    assert n_bytes == 16 * 10


def test_purged_data_is_in_no_file_any_more(open_log: OpenLog) -> None:
    log = open_log()
    log.append([a_message(f"e{i}", data=f"SECRET-{i % 3}-{i}".encode() * 50) for i in range(300)])
    log.append([a_message("single", data=b"SECRET-1-single")])
    own = np.array([*range(1, 300, 3), 300])
    assert log.purge(own) == 101
    files = b"".join(file.read_bytes() for file in log.path.parent.iterdir())
    assert b"SECRET-1" not in files
    assert b"SECRET-0" in files
    data = [data for batch in batches(log.subscribe("g"), 50) for data in batch.data]
    assert [i for i, text in enumerate(data) if not text] == own.tolist()
    assert data[2] == b"SECRET-2-2" * 50


def test_trimming_frees_room_for_new_records(open_log: OpenLog) -> None:
    log = open_log()
    for i in range(3):
        log.append([a_message(f"{i}-{j}", data=bytes([i]) * 10_000) for j in range(1_000)])
    n_pages = log._connection.execute("PRAGMA page_count").fetchone()[0]
    assert log.trim((2_500,)) == 2_500
    assert log.begin() == (2_500,)
    log.append([a_message(f"new-{j}", data=b"n" * 10_000) for j in range(2_000)])
    assert log._connection.execute("PRAGMA page_count").fetchone()[0] <= n_pages + 10
    assert len(polled(log, max_records=1_000)) == 2_500


def test_dead_letters_are_bounded_and_the_dropped_ones_counted(open_log: OpenLog) -> None:
    log = open_log(max_dead_letters=3, max_dead_letter_bytes=100)
    log.dead_letter([("", "door/web", "bad", b"%d" % i) for i in range(5)])
    assert [letter.data for letter in log.dead_letters()] == [b"2", b"3", b"4"]
    assert log.dead_letter_counts() == (3, 2)
    log.dead_letter([("", "door/web", "bad", b"x" * 99)])
    assert [len(letter.data) for letter in log.dead_letters()] == [1, 99]
    log.remove_dead_letters([letter.letter_id for letter in log.dead_letters()])
    assert log.dead_letter_counts() == (0, 4)


def test_many_dead_letters_are_read_in_pages(open_log: OpenLog) -> None:
    log = open_log()
    log.dead_letter([("", "door/web", "bad", b"%d" % i) for i in range(600)])
    assert [int(letter.data) for letter in log.dead_letters()] == list(range(600))


def test_the_groups_that_committed_are_known(open_log: OpenLog) -> None:
    log = open_log()
    log.append(messages("a"))
    log.subscribe("warehouse").commit((1,))
    log.subscribe("keeper").commit((0,))
    log.subscribe("silent")
    assert log.groups() == ("keeper", "warehouse")


def test_a_contradictory_file_is_refused(open_log: OpenLog) -> None:
    log = open_log()
    log.append(messages("a"))
    log.append(messages("b"))
    log._connection.execute("UPDATE event_ids SET digests = (SELECT digests FROM event_ids WHERE end_offset = 1)")
    with pytest.raises(LogError, match="contradict each other"):
        open_log().append(messages("c"))


def test_the_write_ahead_log_is_cut_back_when_a_reader_lets_go(open_log: OpenLog) -> None:
    log = open_log()
    appender = SqliteAppender(log._file, ManualClock(), 16, 1 << 20, 0, max_wal_bytes=200_000)
    reader = sqlite3.connect(log.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM batches").fetchone()
    for i in range(12):  # a reader that is stuck does not stop appends
        appender.append([a_message(f"e{i}", data=b"x" * 50_000)])
    assert log._file.wal_bytes() > 500_000
    reader.close()
    for i in range(12, 16):
        appender.append([a_message(f"e{i}", data=b"x" * 50_000)])
    assert log._file.wal_bytes() < 500_000
    appender.close()
    assert len(polled(log)) == 16


def test_reading_does_not_wait_for_a_dead_letter_that_waits_for_the_file(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(busy_timeout_ms=1_000)
    log.append(messages("a", "b"))
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        letter = threading.Thread(target=log.dead_letter, args=([("t", "door/x", "why", b"data")],))
        letter.start()
        until_s = time.monotonic() + 0.3
        while time.monotonic() < until_s:
            assert log.end() == (2,)
            assert log.lag("g") == 2
            assert log.dead_letter_counts() == (0, 0)
        assert letter.is_alive()
        other.execute("ROLLBACK")
    letter.join()
    assert log.dead_letter_counts() == (1, 0)


def test_kernels_are_loaded_before_the_file_is_taken_from_others(
    open_log: OpenLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fresh install they are compiled then, which takes seconds."""
    log = open_log()
    has_written: list[bool] = []

    def another_writes() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        has_written.append(True)

    monkeypatch.setattr(sqlite_appender, "load_kernels", another_writes)
    assert log.append(messages("a")).n_appended == 1
    assert has_written == [True]


def test_a_disk_that_cannot_be_asked_for_its_room_is_the_logs_error(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    try:
        with pytest.raises(LogError, match="free room of its disk"):
            log.append(messages("a"))
    finally:
        moved.rename(tmp_path)
