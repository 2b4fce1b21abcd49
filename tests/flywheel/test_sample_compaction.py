"""Samples are merged hour by hour; whatever kills it, and whoever reads meanwhile, each row counts once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from millrace.base.ids import IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.flywheel.erased_users import SampleErasure
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.join_config import HOUR_MS
from millrace.flywheel.sample_compaction import SampleCompaction
from millrace.flywheel.sample_config import SampleConfig
from millrace.flywheel.sample_files import LABELS, PAGES, SampleFiles
from millrace.flywheel.sample_names import files_in, is_merged
from millrace.flywheel.sample_tables import LoggedPages, joined_rows
from millrace.testing.builders import NOW_MS, a_clock_tick, a_features_logged, an_engagement, an_impression
from millrace.testing.join_house import CODEC, JoinHouse
from millrace.testing.small_tables import SmallTables

LATE_MS = 24 * HOUR_MS
HOUR_START_MS = NOW_MS // HOUR_MS * HOUR_MS
_ALL = 10**9

Said = Counter[tuple[object, ...]]


class KilledError(BaseException):
    """Stands for SIGKILL."""


def a_page(number: int, at_ms: int, viewer: str) -> list[AnyEvent]:
    """Return a page of two posts, and the looks at them."""
    request, posts = f"r{number}", [f"p{number}", "shared"]
    return [
        a_features_logged(viewer, posts, request_id=request, at_ms=at_ms, author_id="bob", event_id=f"page-{number}"),
        *(
            an_impression(
                viewer, post, request_id=request, position=row, at_ms=at_ms + row, event_id=f"{post}-{number}"
            )
            for row, post in enumerate(posts)
        ),
    ]


def a_late_like(number: int, at_ms: int, viewer: str) -> AnyEvent:
    """Return a like that comes when the page's samples are out: a correction."""
    return an_engagement(viewer, f"p{number}", "like", request_id=f"r{number}", at_ms=at_ms, event_id=f"like-{number}")


def a_house(folder: Path, n_hours: int = 3, n_pages: int = 6) -> JoinHouse:
    """Return a house whose hours have several files each, and whose watermark is far beyond them."""
    house = JoinHouse(folder, SampleConfig(epoch_records=7))
    for number in range(n_hours * n_pages):
        viewer, at_ms = "erin" if number % 2 else "carl", HOUR_START_MS + number * HOUR_MS // n_pages
        house.put([a_clock_tick(at_ms + i) for i in range(20)])
        house.put(a_page(number, at_ms, viewer))
        if number >= 2 * n_pages:
            house.put([a_late_like(number - 2 * n_pages, at_ms, viewer)])
    house.put(a_page(1_000, NOW_MS + 3 * LATE_MS, "dora"))
    time_goes_on(house, NOW_MS + 3 * LATE_MS + 3 * HOUR_MS)
    house.join_all()
    return house


def time_goes_on(house: JoinHouse, to_ms: int) -> None:
    """Let some epochs end at a moment: the older checkpoint, too, has come to it."""
    house.put([a_clock_tick(to_ms + i) for i in range(40)])


def compaction(house: JoinHouse) -> SampleCompaction:
    return SampleCompaction(house.files, LATE_MS)


def files_of(house: JoinHouse, kind: str) -> list[Path]:
    return sorted((house.files.folder / kind).glob("dt=*/hour=*/*"))


def revisions(house: JoinHouse) -> Said:
    """Return every row that counts, superseded revisions too, with its epoch."""
    found: Said = Counter()
    for table in house.files.read(LABELS, up_to=_ALL):
        rows = joined_rows(table, CODEC.actions.names)
        epochs, labels = table["epoch"].to_pylist(), map(tuple, rows.labels.tolist())
        keys = zip(rows.viewers.tolist(), rows.requests.tolist(), rows.posts.tolist(), strict=True)
        found.update(zip(keys, rows.revisions.tolist(), epochs, labels, strict=True))
    return found


def pages(house: JoinHouse) -> Said:
    found: Said = Counter()
    for table in house.files.read(PAGES, up_to=_ALL):
        part = LoggedPages.of_table(table)
        found.update(zip(*(getattr(part, name) for name in LoggedPages.__slots__), strict=True))
    return found


def by_sql(house: JoinHouse) -> list[tuple[object, ...]]:
    return SmallTables(house.folder).rows("SELECT * FROM samples ORDER BY viewer, request, post")


def test_all_readers_say_the_same_before_and_after_and_an_hour_is_a_file(tmp_path: Path) -> None:
    house = a_house(tmp_path)
    truth, rows, logged, asked = house.in_files(), revisions(house), pages(house), by_sql(house)
    assert truth == house.truth()
    assert max(Counter(key for key, *_ in rows).values()) > 1, "no corrections: nothing tells revisions apart"
    n_before = len(files_of(house, LABELS)) + len(files_of(house, PAGES))
    n_gone = compaction(house).merge()
    assert n_gone > 10
    left = files_of(house, LABELS) + files_of(house, PAGES)
    assert len(left) == n_before - n_gone
    old = [path for path in left if SampleFiles.hour_of(path.parent) <= NOW_MS // HOUR_MS + 2]
    assert len(old) == len({path.parent for path in old}) == 6
    assert all(is_merged(path) for path in old)
    assert (house.in_files(), revisions(house), pages(house), by_sql(house)) == (truth, rows, logged, asked)
    assert compaction(house).merge() == 0
    house.join_all()  # a restart removes nothing of it, and goes on
    house.put(a_page(2_000, NOW_MS + 3 * LATE_MS + 4 * HOUR_MS, "dora"))
    time_goes_on(house, NOW_MS + 4 * LATE_MS)
    house.join_all()
    assert (house.in_files(), len(pages(house))) == (house.truth(), len(logged) + 1)
    house.close()


def test_killed_at_any_point_each_row_counts_once(tmp_path: Path) -> None:
    house = a_house(tmp_path)
    truth, rows, logged, asked = house.in_files(), revisions(house), pages(house), by_sql(house)
    for number, point in enumerate(("write file", "sync file", "name file", "remove part", "remove part") * 2):
        n_reached = 0

        def die(reached: str, point: str = point, at: int = number // 5 + 1) -> None:
            nonlocal n_reached
            n_reached += reached == point
            if n_reached == at:
                raise KilledError

        house.files.at_point = die
        with pytest.raises(KilledError):
            compaction(house).merge()
        assert (revisions(house), pages(house)) == (rows, logged), point
        if number >= 5:
            assert (house.in_files(), by_sql(house)) == (truth, asked), point
    house.files.at_point = lambda _point: None
    assert compaction(house).merge() > 0
    assert (house.in_files(), revisions(house), pages(house), by_sql(house)) == (truth, rows, logged, asked)
    house.join_all()
    assert not [path for kind in (LABELS, PAGES) for path in files_of(house, kind) if path.suffix != ".parquet"]
    assert revisions(house) == rows
    house.close()


def test_who_reads_while_hours_are_merged_misses_nothing(tmp_path: Path) -> None:
    house = a_house(tmp_path)
    rows, logged = revisions(house), pages(house)
    names = list(house.files.paths(LABELS, up_to=_ALL))
    reading = house.files.read(LABELS, up_to=_ALL)
    n_read = next(reading).num_rows
    # What was listed is gone when its turn comes.
    compaction(house).merge()
    assert not any(path.exists() for path in names[:6])
    n_read += sum(table.num_rows for table in reading)
    assert n_read == rows.total()
    assert pages(house) == logged
    house.close()


def test_a_listing_that_was_taken_while_a_file_got_its_name_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ["epoch-0000000001.parquet", "epoch-0000000002.parquet", "epoch-0000000003.parquet"]
    merged = "epoch-0000000001-0000000002.parquet"
    # The first began before the merged file was there, and saw no part that was removed meanwhile.
    listings = iter([parts[2:], [merged, parts[2]], [merged, parts[2]]])
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / name for name in next(listings)]))
    counting, within = files_in(tmp_path)
    assert [path.name for path in counting] == [merged, parts[2]]
    assert not within


def test_an_erasure_reaches_merged_files_and_what_a_killed_merge_left(tmp_path: Path) -> None:
    house = a_house(tmp_path)
    carls = {key for key, *_ in revisions(house) if key[0] != hash_id(IdKind.USER, "erin")}  # type: ignore[index]

    def die(point: str) -> None:
        if point == "remove part":
            raise KilledError

    compaction(house).merge()
    for number in range(3_000, 3_004):
        house.put(a_page(number, NOW_MS + 4 * LATE_MS, "erin"))
    time_goes_on(house, NOW_MS + 9 * LATE_MS)
    house.join_all()
    house.files.at_point = die
    with pytest.raises(KilledError):
        compaction(house).merge()
    house.files.at_point = lambda _point: None
    SampleErasure(house.files).erase("erin", before=house.log.end()[0])
    assert {key for key, *_ in revisions(house)} >= carls
    # Every file there is, whether it counts or not.
    for kind in (LABELS, PAGES):
        for path in files_of(house, kind):
            import pyarrow.parquet as pq

            viewers = pq.read_table(path, columns=["viewer"], partitioning=None)["viewer"].to_numpy()
            assert not np.isin(hash_id(IdKind.USER, "erin"), viewers), path
    house.close()


def test_what_is_not_old_enough_or_could_be_redone_is_left(tmp_path: Path) -> None:
    house = a_house(tmp_path)
    head = JoinCheckpoints(house.files.state_folder).oldest_head()
    assert head is not None
    assert SampleCompaction(house.files, head.watermark_ms - HOUR_START_MS).merge() == 0
    assert SampleCompaction(house.files, head.watermark_ms - HOUR_START_MS - HOUR_MS).merge() > 0
    assert {path.parent.name for path in files_of(house, LABELS) if is_merged(path)} == {
        f"hour={HOUR_START_MS // HOUR_MS % 24:02d}"
    }
    # A damaged newest checkpoint: what the older one does not know is heard and written again.
    compaction(house).merge()
    newest = JoinCheckpoints(house.files.state_folder).paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-40])
    house.join_all()
    assert house.in_files() == house.truth()
    assert max(pages(house).values()) == 1
    house.close()


def test_files_of_other_actions_are_not_mixed_and_large_ones_stay(tmp_path: Path) -> None:
    house = a_house(tmp_path, n_hours=1)
    rows = revisions(house)
    paths = house.files.paths(LABELS, up_to=_ALL)
    ((_, table),) = [(path, next(house.files.read(LABELS, up_to=_ALL))) for path in paths[:1]]
    house.files.replace(paths[0], table.drop_columns(["label_reply"]))
    assert SampleCompaction(house.files, LATE_MS, max_bytes=1).merge() == 0
    compaction(house).merge()
    assert paths[0].exists()
    assert revisions(house) == rows
    house.close()
