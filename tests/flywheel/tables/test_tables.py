"""Builds: whatever comes late, in whatever steps, killed wherever, the tables are those made at once of all events."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec import structs

from millrace.base.errors import StoreError
from millrace.events.envelope import AnyEvent, Event
from millrace.flywheel.tables.manifest import MANIFEST
from millrace.flywheel.tables.workbench import Workbench
from millrace.flywheel.warehouse_config import WarehouseConfig
from millrace.testing.builders import (
    NOW_MS,
    a_features_logged,
    a_follow,
    a_label_changed,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_profile_updated,
    a_served,
    a_user_erased,
    an_engagement,
    an_impression,
)
from millrace.testing.join_house import JoinHouse
from millrace.testing.small_tables import DAY_MS, HOUR_MS, SmallTables

pytestmark = pytest.mark.slow  # each builds tables several times
USERS = ("ann", "bob", "eve", "ida")


@pytest.fixture
def small(tmp_path: Path) -> SmallTables:
    return SmallTables(tmp_path)


def some_events(n: int, seed: int) -> list[AnyEvent]:
    """Return events of all kinds, many of them late by hours or days, few of them about anything sensible."""
    draw, requests = random.Random(seed), itertools.count(1)
    return [any_event(draw, number, f"r{next(requests)}") for number in range(n)]


def any_event(draw: random.Random, number: int, new_request: str) -> AnyEvent:
    at_ms = NOW_MS - draw.choice((0, 1, 25, 31, 50)) * HOUR_MS - draw.randrange(HOUR_MS // 2)
    user, other, post, request = draw.choice(USERS), draw.choice(USERS), draw.randrange(12), f"r{draw.randrange(1, 9)}"
    is_so = draw.random() < 0.7
    named = request if draw.random() < 0.5 else None
    kinds: tuple[Callable[[], AnyEvent], ...] = (
        lambda: a_served(user, draw.sample(range(12), 3), author_id=other, request_id=new_request, at_ms=at_ms),
        lambda: an_impression(
            user, post, request_id=named, dwell_ms=draw.randrange(9_000), duration_ms=4_000 * is_so, at_ms=at_ms
        ),
        lambda: an_engagement(
            user, post, draw.choice(("like", "reply")), is_undo=not is_so, request_id=named, at_ms=at_ms
        ),
        lambda: a_post_created(post, user, text="x" * draw.randrange(9), at_ms=at_ms),
        lambda: a_post_edited(post, text="y" * draw.randrange(9), at_ms=at_ms),
        lambda: a_post_annotated(post, language=draw.choice(("en", "de")), at_ms=at_ms),
        lambda: a_label_changed(draw.choice(("nsfw", "spam")), post_id=post, is_set=is_so, at_ms=at_ms),
        lambda: a_post_deleted(post, at_ms=at_ms),
        lambda: a_profile_updated(user, name=f"n{number}", at_ms=at_ms),
        lambda: a_follow(user, other, is_following=is_so, at_ms=at_ms),
    )
    return draw.choice(kinds)()


@pytest.mark.parametrize(
    ("seed", "n_parts"),
    [(1, 2), (2, 5)],
)
def test_tables_built_bit_by_bit_are_those_built_anew(
    small: SmallTables, tmp_path: Path, seed: int, n_parts: int
) -> None:
    for part in range(n_parts):
        small.put(*some_events(60, 10 * seed + part))
        small.tables.build(step_records=1_000 if part % 2 else 35)
    at_once = small.tables_in(tmp_path / "at once")
    at_once.build(anew=True)
    built = small.all_rows()
    assert built == small.all_rows(at_once)
    assert min(map(len, built.values())) > 0


class Killed(BaseException):
    """Ends a build as a kill would: nothing after it runs."""


def test_a_build_killed_at_any_moment_is_right_after_the_next_one(
    small: SmallTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.put(*some_events(60, 3))
    small.tables.build()
    before = small.all_rows()
    small.put(*some_events(60, 4))
    in_place, n_files = Workbench._in_place, 0

    for kill_at in (1, 4, 11):

        def killed(self: Workbench, *args: Any, at: int = kill_at) -> Any:
            nonlocal n_files
            n_files += 1
            if n_files == at:
                raise Killed
            return in_place(self, *args)

        n_files = 0
        with monkeypatch.context() as patched:
            patched.setattr(Workbench, "_in_place", killed)
            patched.setattr(Workbench, "close", lambda self: self.db.close())  # nobody cleans up
            with pytest.raises(Killed):
                small.tables.build()
        assert small.all_rows() == before  # what a reader sees meanwhile
    small.tables.build()
    fresh = small.tables_in(tmp_path / "fresh")
    fresh.build()
    assert small.all_rows() == small.all_rows(fresh)
    named = small.tables.manifest().paths(small.tables.root)
    assert set(small.tables.root.rglob("*.parquet")) == named


def test_a_reader_sees_one_state_while_tables_are_built_and_merged(small: SmallTables) -> None:
    small.put(*some_events(40, 5))
    small.tables.build()
    with small.reader() as reader:
        small.put(*some_events(40, 6))
        small.tables.build()
        small.tables.compact()
        small.warehouse.merge()
        assert reader.rows("SELECT count(*) FROM events")[1] == [(40,)]
        assert reader.rows("SELECT max(log_offset) FROM facts_looks")[1][0][0] < 40
    assert small.rows("SELECT count(*) FROM events") == [(80,)]


def test_merging_leaves_the_rows_and_one_file_a_partition(tmp_path: Path) -> None:
    small = SmallTables(tmp_path, WarehouseConfig(memory_mb=256, merge_files=2))
    for number in range(3):
        small.put(an_impression("ann", number, request_id="r1"), an_engagement("ann", number))
        small.tables.build()
    before, n_before = small.all_rows(), len(small.tables.manifest().of("facts_looks"))
    assert (n_before, small.tables.compact()) == (3, 4)
    assert len(small.tables.manifest().of("facts_looks")) == 1
    assert small.all_rows() == before
    assert small.tables.compact() == 0


def test_old_partitions_are_dropped_and_late_events_do_not_bring_them_back(tmp_path: Path) -> None:
    small = SmallTables(
        tmp_path, WarehouseConfig(memory_mb=256, interactions_days=1, user_post_day_days=28, raw_days=9)
    )
    ages = (0, 1, 3, 20, 40)
    small.put(*(an_impression("ann", age, at_ms=NOW_MS - age * DAY_MS, dwell_ms=0) for age in ages))
    small.tables.build()
    small.tables.retain()
    assert small.rows("SELECT post_id FROM interactions ORDER BY time_ms DESC") == [("0",), ("1",)]
    assert small.rows("SELECT post_id FROM user_post_day ORDER BY dt DESC") == [("0",), ("1",), ("3",), ("20",)]
    assert small.rows("SELECT count(*) FROM events") == [(3,)]
    small.put(*(an_impression("bob", age, at_ms=NOW_MS - age * DAY_MS, dwell_ms=0) for age in (1, 3, 20)))
    small.tables.build()
    assert small.rows("SELECT post_id FROM interactions WHERE viewer_id = 'bob'") == [("1",)]
    # The facts of that day are gone: what is made of them stays as it was.
    assert small.rows("SELECT user_id FROM user_post_day WHERE post_id = '20'") == [("ann",)]


def test_an_erased_user_is_in_no_table_and_in_no_file(small: SmallTables) -> None:
    small.put(
        a_profile_updated("erin", name="Erin"),
        a_profile_updated("bob"),
        a_follow("bob", "erin"),
        a_follow("erin", "bob"),
        a_post_created(1, "erin"),
        a_post_created(2, "bob", kind="reply", parent_id=1, parent_author_id="erin"),
        a_served("bob", (1,), author_id="erin", request_id="r1", at_ms=NOW_MS - HOUR_MS),
        an_impression("bob", 1, request_id="r1", dwell_ms=0),
        a_served("erin", (2,), author_id="bob", request_id="r2"),
        an_impression("erin", 2, request_id="r2", dwell_ms=0),
        an_engagement("erin", 2, "like"),
        a_user_erased("erin"),
        an_impression("erin", 3, dwell_ms=0),
    )
    small.tables.build()
    assert small.warehouse.erase("erin", before=11) > 0
    assert small.tables.erase("erin", before=11) > 0
    assert small.rows("SELECT viewer_id, post_id, author_id, is_served, is_seen FROM interactions ORDER BY 1, 2") == [
        ("bob", "1", None, False, True),  # bob's look is bob's; whose post it was is forgotten
        ("erin", "3", None, False, True),  # somebody who came back
    ]
    assert small.rows("SELECT post_id, parent_author_id FROM post_metadata") == [("2", None)]
    assert small.rows("SELECT user_id, name, n_followers FROM users ORDER BY 1") == [
        ("bob", None, 0),
        ("erin", None, 0),
    ]
    assert small.rows("SELECT user_id, post_id FROM user_post_day ORDER BY 1") == [("bob", "1"), ("erin", "3")]
    assert small.rows("SELECT author_id FROM creator_tiers") == [("bob",)]
    assert small.rows("SELECT count(*) FROM facts_follows") == [(0,)]
    fresh = small.tables_in(small.folder / "fresh")
    fresh.build()
    assert small.all_rows() == small.all_rows(fresh)
    small.tables.erase("erin", before=11)  # again, as an eraser does: who came back stays
    assert small.all_rows() == small.all_rows(fresh)


def test_tables_ahead_of_a_restored_warehouse_are_made_anew(small: SmallTables) -> None:
    small.put(an_impression("ann", 1))
    backup = small.folder / "backup"
    shutil.copytree(small.folder / "warehouse", backup)
    small.put(an_impression("bob", 2))
    small.tables.build()
    shutil.rmtree(small.folder / "warehouse")
    backup.rename(small.folder / "warehouse")
    small.tables.build()
    assert small.rows("SELECT viewer_id FROM interactions") == [("ann",)]


def test_a_damaged_manifest_is_told(small: SmallTables) -> None:
    small.put(an_impression("ann", 1))
    small.tables.build()
    (small.tables.root / MANIFEST).write_bytes(b"{")
    with pytest.raises(StoreError, match="is damaged"):
        small.tables.build()


def test_without_anything_the_tables_are_empty(small: SmallTables) -> None:
    small.tables.build()
    assert small.rows("SELECT (SELECT count(*) FROM interactions), (SELECT count(*) FROM samples)") == [(0, 0)]
    assert small.rows("FROM reaction_by_user_group") == []


def test_samples_say_for_which_share_of_the_requests_they_stand(small: SmallTables, tmp_path: Path) -> None:
    house = JoinHouse(tmp_path)
    page, look = a_features_logged("ann", [1], event_id="p"), an_impression("ann", 1, dwell_ms=0, request_id="r1")
    tenth = structs.replace(page.payload, share=0.1)
    house.put([Event(event_id="q", event_time_ms=NOW_MS, source="server", payload=tenth), look])
    process = house.process()
    process.turn()
    process.commit()
    process.pass_time(HOUR_MS)
    process.stop()
    house.close()
    found = small.rows("SELECT page_offset, revision, rate, round(share, 3) FROM samples")
    assert found == [(0, 0, 1.0, pytest.approx(0.1))]


def test_samples_are_those_of_committed_epochs_in_their_newest_revision(small: SmallTables) -> None:
    folder = small.folder / "samples"
    hour = folder / "labels" / "dt=2027-01-15" / "hour=08"
    hour.mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "state" / "epoch-0000000002.join").touch()
    db = duckdb.connect()
    # In the second the log was heard anew, and revisions begin anew; the third was killed before it was committed.
    for epoch, revision, like in ((1, 4, 0), (2, 0, 5), (2, 1, 1), (3, 9, 7)):
        keys = f"SELECT 5 AS request, 6 AS viewer, 7 AS post, {epoch} AS epoch, 3 AS page_offset"
        row = f"{keys}, {revision} AS revision, {like} AS label_like"
        db.execute(f"CREATE TABLE IF NOT EXISTS epoch_{epoch} AS {row} LIMIT 0; INSERT INTO epoch_{epoch} {row}")
        db.execute(f"COPY epoch_{epoch} TO '{hour}/epoch-{epoch:010d}.parquet'")
    assert small.rows("SELECT request, epoch, revision, label_like, hour FROM samples") == [(5, 2, 1, 1, 8)]
