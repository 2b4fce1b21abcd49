"""Ring files of traces: found by any process, bounded, usable after any kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import GoneError, NotFoundError
from millrace.stores.trace_store import FileTraces, NoTraces

NOW_MS = 1_800_000_000_000
Open = Callable[..., FileTraces]


@pytest.fixture
def a_store(tmp_path: Path) -> Iterator[Open]:
    opened: list[FileTraces] = []

    def open_store(*, now_ms: int = NOW_MS, max_bytes: int = 100_000) -> FileTraces:
        opened.append(FileTraces(tmp_path, ManualClock(now_ms), max_bytes))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def written(store: FileTraces, record: bytes) -> str:
    request_id = store.next_request_id()
    store.write(request_id, record)
    return request_id


def test_what_is_written_is_found_by_everybody(a_store: Open) -> None:
    store, other = a_store(), a_store()
    ids = [written(store, bytes([n]) * (n + 1)) for n in range(20)]
    assert len(set(ids)) == 20
    for reader in (store, other):
        assert [reader.read(request_id) for request_id in ids] == [bytes([n]) * (n + 1) for n in range(20)]
    assert store.take_counts() == {"n_written": 20, "n_lost": 0}
    assert store.take_counts() == {"n_written": 0, "n_lost": 0}


def test_every_writer_has_a_slot_of_its_own_and_readers_take_none(a_store: Open, tmp_path: Path) -> None:
    writers = [a_store() for _ in range(3)]
    ids = [written(writer, b"w%d" % n) for n, writer in enumerate(writers)]
    assert [request_id.split("-")[0] for request_id in ids] == ["0", "1", "2"]
    reader = a_store()
    assert [reader.read(request_id) for request_id in ids] == [b"w0", b"w1", b"w2"]
    assert len(list(tmp_path.iterdir())) == 3
    writers[1].close()
    assert written(a_store(), b"next").startswith("1-")  # whoever comes next goes on with the slot that is free


def test_the_oldest_are_overwritten_and_said_to_be_gone(a_store: Open) -> None:
    store = a_store(max_bytes=10_000)
    ids = [written(store, os.urandom(900)) for _ in range(60)]
    kept = [request_id for request_id in ids if _is_kept(store, request_id)]
    assert kept == ids[-len(kept) :]
    assert 10 <= len(kept) <= 11
    with pytest.raises(GoneError, match="not kept any more: each process keeps the newest 0 MB"):
        store.read(ids[0])


def _is_kept(store: FileTraces, request_id: str) -> bool:
    try:
        return len(store.read(request_id)) == 900
    except GoneError:
        return False


def test_ids_that_were_never_given_out_are_not_known(a_store: Open) -> None:
    store = a_store(max_bytes=10_000)
    last = [written(store, b"x" * 900) for _ in range(40)][-1]
    slot, sequence, word = last.split("-")
    forged = [
        "nonsense",
        "",
        f"{slot}-{sequence}-00000000",
        f"9-{sequence}-{word}",
        f"{slot}-{int(sequence, 16) - 39:012x}-{word}",  # that request was made, under another word
        f"{slot}-{int(sequence, 16) + 1:012x}-{word}",
        f"{slot}-{'f' * 15}-{word}",
        "../../etc/passwd",
    ]
    for request_id in forged:
        with pytest.raises(NotFoundError):
            store.read(request_id)


def test_a_request_whose_page_was_never_finished_is_not_known(a_store: Open) -> None:
    store = a_store()
    written(store, b"x")
    with pytest.raises(NotFoundError):
        store.read(store.next_request_id())


def test_requests_may_end_in_another_order_than_they_began(a_store: Open) -> None:
    store = a_store()
    ids = [store.next_request_id() for _ in range(5)]
    for number in (3, 0, 4, 1, 2):
        store.write(ids[number], b"%d" % number)
    assert [store.read(request_id) for request_id in ids] == [b"0", b"1", b"2", b"3", b"4"]


def test_the_next_process_goes_on_and_gives_no_id_twice(a_store: Open) -> None:
    first = a_store()
    ids = [written(first, b"first")]
    ids.append(first.next_request_id())  # given out, its page never finished
    first.close()
    second = a_store(now_ms=NOW_MS - 60_000)  # the machine's clock was set back meanwhile
    ids += [written(second, b"second") for _ in range(2)]
    assert len(set(ids)) == 4
    assert second.read(ids[0]) == b"first"
    assert second.read(ids[-1]) == b"second"


def test_a_store_of_another_size_begins_anew(a_store: Open) -> None:
    store = a_store()
    old = written(store, b"old")
    store.close()
    new = a_store(max_bytes=200_000)
    assert new.read(written(new, b"new")) == b"new"
    with pytest.raises(NotFoundError):
        new.read(old)


def test_a_file_that_is_none_of_ours_is_replaced(a_store: Open, tmp_path: Path) -> None:
    (tmp_path / "slot-0.traces").write_bytes(b"what is this?" * 1_000)
    store = a_store()
    assert store.read(written(store, b"x")) == b"x"


def test_a_torn_record_counts_as_gone_and_its_neighbours_are_whole(a_store: Open, tmp_path: Path) -> None:
    store = a_store()
    ids = [written(store, bytes([n]) * 1_000) for n in range(3)]
    path = tmp_path / "slot-0.traces"
    data = bytearray(path.read_bytes())
    at = data.index(b"\1" * 1_000)
    data[at + 500] ^= 0xFF
    path.write_bytes(data)
    assert store.read(ids[0]) == b"\0" * 1_000
    assert store.read(ids[2]) == b"\2" * 1_000
    with pytest.raises(GoneError):
        store.read(ids[1])
    path.write_bytes(data[: at + 1_500])  # cut off, as by a power cut
    assert store.read(ids[0]) == b"\0" * 1_000
    with pytest.raises(GoneError):
        store.read(ids[2])


def test_what_cannot_be_written_is_counted_and_holds_up_nobody(a_store: Open) -> None:
    store = a_store(max_bytes=5_000)
    too_large, foreign = store.next_request_id(), "0-0184d1e2a000-00000000"
    store.write(too_large, b"x" * 5_001)
    store.write(foreign, b"x")
    assert store.take_counts() == {"n_written": 0, "n_lost": 2}
    with pytest.raises(NotFoundError):
        store.read(too_large)
    assert store.read(written(store, b"fits")) == b"fits"


def test_where_no_slot_can_be_had_requests_still_get_ids(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = FileTraces(tmp_path / "file", ManualClock(NOW_MS), 10_000)
    request_id = store.next_request_id()
    assert request_id != store.next_request_id()
    store.write(request_id, b"x")
    assert store.take_counts() == {"n_written": 0, "n_lost": 1}


def test_without_traces_there_are_ids_and_nothing_behind_them() -> None:
    store = NoTraces()
    request_id = store.next_request_id()
    assert request_id != store.next_request_id()
    store.write(request_id, b"x")
    with pytest.raises(NotFoundError, match=r"traces\.is_on"):
        store.read(request_id)


WRITER = """
import os, sys
from pathlib import Path
from millrace.base.clock import SystemClock
from millrace.stores.trace_store import FileTraces

store = FileTraces(Path(sys.argv[1]), SystemClock(), 300_000)
number = 0
while True:
    request_id = store.next_request_id()
    store.write(request_id, request_id.encode() * (1 + number % 700))
    sys.stdout.write(request_id + "\\n")
    sys.stdout.flush()
    number += 1
"""


def test_a_writer_that_is_killed_leaves_a_usable_file(tmp_path: Path) -> None:
    ids: list[str] = []
    for n_lines in (1, 40, 150, 400):  # four processes, one after the other, each killed while it writes
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        ids += [process.stdout.readline().strip() for _ in range(n_lines)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        ids += process.stdout.read().splitlines()[:-1]  # the last line may be half a line
        process.stdout.close()
    assert len(set(ids)) == len(ids)
    store = FileTraces(tmp_path, ManualClock(NOW_MS), 300_000)
    is_whole = [_is_whole(store, request_id) for request_id in ids]
    assert is_whole[-1]
    assert not is_whole[0]  # long overwritten
    assert is_whole == sorted(is_whole)  # the newest are there, the oldest are gone
    mine = written(store, b"mine")
    assert mine.startswith("0-")
    assert store.read(mine) == b"mine"
    assert len(list(tmp_path.iterdir())) == 1
    store.close()


def _is_whole(store: FileTraces, request_id: str) -> bool:
    try:
        record = store.read(request_id)
    except GoneError:
        return False
    assert record == request_id.encode() * (len(record) // len(request_id))
    return True
