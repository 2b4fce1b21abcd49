"""One viewer's traces are taken out of the files; everybody else's stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import GoneError
from millrace.mixer.trace import viewer_mark
from millrace.stores.trace_erasure import forget_traces
from millrace.stores.trace_store import FileTraces

NOW_MS = 1_800_000_000_000


def test_only_the_records_with_the_mark_are_gone(tmp_path: Path) -> None:
    stores = [FileTraces(tmp_path, ManualClock(NOW_MS), 40_000) for _ in range(2)]
    mark = viewer_mark("ann")
    assert mark not in viewer_mark("anna")
    ids = {}
    for number in range(120):  # of the 60 in a file its index knows the newest 19; the ring still holds parts of more
        store, viewer = stores[number % 2], ("ann", "anna", "bob")[number % 3]
        request_id = store.next_request_id()
        store.write(request_id, b"some head," + viewer_mark(viewer) + bytes(1_000) + b"some tail")
        ids[request_id] = viewer
    assert forget_traces(tmp_path, mark) == sum(viewer == "ann" for viewer in list(ids.values())[-38:])
    for request_id, viewer in list(ids.items())[-38:]:
        if viewer == "ann":
            with pytest.raises(GoneError):
                stores[0].read(request_id)
        else:
            assert viewer_mark(viewer) in stores[0].read(request_id)
    assert not any(mark in path.read_bytes() for path in tmp_path.iterdir())
    assert forget_traces(tmp_path, mark) == 0
    for store in stores:
        store.close()


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    assert forget_traces(tmp_path / "none", b"mark") == 0
    (tmp_path / "slot-0.traces").write_bytes(b"no traces: mark")
    assert forget_traces(tmp_path, b"mark") == 0
    assert (tmp_path / "slot-0.traces").read_bytes() == b"no traces: mark"
