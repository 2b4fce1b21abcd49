"""Readers keep the files that they opened; merged files take the place of their parts at once."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.base.errors import StoreError
from millrace.flywheel import raw_rows
from millrace.flywheel.file_snapshot import READERS, FileSnapshot, sweep, take
from millrace.flywheel.raw_files import RawFile, counting, raw_files
from millrace.testing.builders import a_post_created
from millrace.testing.small_tables import SmallTables


def test_a_snapshot_reads_on_when_files_are_replaced_and_removed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("old")
    snapshot, (first, second) = take(tmp_path, lambda: [tmp_path / "a", tmp_path / "b"])
    (tmp_path / "new").write_text("new")
    (tmp_path / "new").rename(tmp_path / "a")
    (tmp_path / "b").unlink()
    assert (first.read_text(), second.read_text()) == ("old", "old")
    snapshot.close()
    assert list((tmp_path / READERS).iterdir()) == []


def test_what_was_removed_between_listing_and_naming_is_listed_again(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("b")
    listings = iter([[tmp_path / "b", tmp_path / "gone"], [tmp_path / "b"]])
    snapshot, paths = take(tmp_path, lambda: next(listings))
    assert [path.name for path in paths] == ["b"]
    snapshot.close()
    with pytest.raises(StoreError, match="are named and not there"):
        take(tmp_path, lambda: [tmp_path / "gone"])


def test_a_snapshot_ends_with_its_owner_and_that_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    class Owner:
        pass

    owner = Owner()
    FileSnapshot(tmp_path).hold_for(owner)
    assert sweep(tmp_path) == 0  # its owner lives
    del owner
    gc.collect()
    assert list((tmp_path / READERS).iterdir()) == []
    code = (
        "import os, sys; from pathlib import Path; from millrace.flywheel.file_snapshot import FileSnapshot;"
        "snapshot = FileSnapshot(Path(sys.argv[1])); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=dict(os.environ))
    assert sweep(tmp_path) == 1
    assert list((tmp_path / READERS).iterdir()) == []


def test_files_within_others_and_beyond_the_position_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "topic=t" / "dt=2027-01-15"
    folder.mkdir(parents=True)
    for first, end in ((0, 4), (4, 9), (0, 9), (9, 12), (12, 20)):
        RawFile(folder, first, end).path.touch()
    found = raw_files(tmp_path)
    assert [(file.first, file.end) for file in counting(found, 12)] == [(0, 9), (9, 12)]
    assert (found[0].topic, found[0].day) == ("t", "2027-01-15")


def test_merging_raw_files_loses_and_doubles_nothing_wherever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallTables(tmp_path)
    for number in range(4):
        small.put(a_post_created(number))
    offsets = "SELECT log_offset FROM events ORDER BY 1"
    expected = [(number,) for number in range(4)]
    with monkeypatch.context() as patched:

        def killed(_path: Path) -> None:
            raise KeyboardInterrupt

        patched.setattr(Path, "unlink", killed)  # the merged file has its name, and so have its parts
        with pytest.raises(KeyboardInterrupt):
            small.warehouse.merge()
    assert len(raw_files(tmp_path / "warehouse")) == 5
    assert small.warehouse.connect().execute(offsets).fetchall() == expected
    with monkeypatch.context() as patched:
        patched.setattr(raw_rows, "sync", killed)  # the merged file is there, without its name
        with pytest.raises(KeyboardInterrupt):
            small.put(a_post_created(4))
    small.put()
    assert small.warehouse.merge() == 1
    assert small.warehouse.connect().execute(offsets).fetchall() == [*expected, (4,)]
    assert len(raw_files(tmp_path / "warehouse")) == 1
    assert small.warehouse.merge() == 0


def test_an_erasure_does_not_disturb_a_reader(tmp_path: Path) -> None:
    small = SmallTables(tmp_path)
    small.put(a_post_created(1, "erin"), a_post_created(2, "bob"))
    reader = small.warehouse.connect()
    small.warehouse.erase("erin", before=2)
    assert reader.execute("SELECT count(*) FROM events").fetchall() == [(2,)]
    assert small.warehouse.connect().execute("SELECT count(*) FROM events").fetchall() == [(1,)]


def test_old_days_are_dropped(tmp_path: Path) -> None:
    small = SmallTables(tmp_path)
    small.put(a_post_created(1), a_post_created(2, at_ms=1_799_900_000_000))  # a day earlier
    assert small.warehouse.drop_before("2027-01-15") == 1
    assert small.warehouse.connect().execute("SELECT log_offset FROM events").fetchall() == [(0,)]
