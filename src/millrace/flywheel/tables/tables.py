"""`Tables`: the warehouse's tables in one folder: built, merged, cut and cleaned of users, by one process at a time.

::

    tables/
      manifest.json                                        which files count, and what raw events are in them
      interactions/dt=2027-01-15/hour=08/g12-0-0.parquet

A build reads the raw events that no build has read, in steps of a bounded number; each step appends facts, makes anew
the partitions that they change, late ones included, and counts when the manifest names the new files. So a build
may be killed at any moment, and steps of any size give the same rows.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from millrace.events.codec import EventCodec
from millrace.flywheel.file_snapshot import FileSnapshot, sweep, take
from millrace.flywheel.raw_rows import events_view
from millrace.flywheel.tables.facts import FactReader
from millrace.flywheel.tables.forgetting import forget_user
from millrace.flywheel.tables.interactions import build_interactions, touched_hours
from millrace.flywheel.tables.manifest import Manifest, TableFile, read_manifest
from millrace.flywheel.tables.people import build_snapshots, days_before
from millrace.flywheel.tables.post_metadata import PostFold
from millrace.flywheel.tables.schema import (
    CREATOR_TIERS,
    DEEDS,
    FACTS,
    FOLLOWS,
    INTERACTIONS,
    LOOKS,
    POST_METADATA,
    PROFILES,
    REQUESTS,
    SERVED,
    TABLES,
    USER_POST_DAY,
    USER_PROFILE,
)
from millrace.flywheel.tables.user_post_day import build_user_post_day
from millrace.flywheel.tables.workbench import DAY, HOUR_MS, Workbench, workbench
from millrace.flywheel.warehouse import Warehouse
from millrace.flywheel.warehouse_config import WarehouseConfig
from millrace.stores.engagement_config import DwellThresholds
from millrace.stream.log import total

_LOCK_FILE: Final = ".lock"
_TURN_FILE: Final = ".turn"
_MARGIN_DAYS: Final = 3
"""Facts are kept so much longer than what is made of them: the oldest hours need those around them."""
_MERGED_BYTES: Final = 256 << 20


@dataclass(slots=True)
class BuildReport:
    """What a build did.

    Attributes
    ----------
    n_events
        Log records that it went over.
    n_rows
        Rows written, by table, those of partitions made anew included.
    position
        Log offset up to which raw events are in the tables now.
    """

    n_events: int = 0
    n_rows: dict[str, int] = field(default_factory=dict)
    position: int = 0


class Tables:
    """The tables in one folder, made of a warehouse's raw events.

    Parameters
    ----------
    root
        The folder.
    warehouse
        The raw events.
    codec
        Knows the events' topics.
    dwell
        Where the dwell family begins.
    config
        Memory, retention, tiers.
    """

    def __init__(
        self, root: Path, warehouse: Warehouse, codec: EventCodec, dwell: DwellThresholds, config: WarehouseConfig
    ) -> None:
        self.root = root
        self._warehouse = warehouse
        self._facts = FactReader(codec)
        self._posts = PostFold(codec)
        self._dwell = dwell
        self._config = config

    def manifest(self) -> Manifest:
        """Return which files count now."""
        return read_manifest(self.root)

    def snapshot(self) -> tuple[FileSnapshot, dict[str, list[Path]]]:
        """Return the tables' files as they are now, by table, for as long as the snapshot is kept."""
        self.root.mkdir(parents=True, exist_ok=True)
        snapshot, paths = take(self.root, lambda: sorted(read_manifest(self.root).paths(self.root)))
        by_table: dict[str, list[Path]] = {name: [] for name in TABLES}
        for path in paths:
            by_table[path.relative_to(snapshot.folder).parts[0]].append(path)
        return snapshot, by_table

    def build(self, *, step_records: int = 1_000_000, anew: bool = False) -> BuildReport:
        """Bring the tables up to the raw events.

        Others have their turn between two steps.

        Parameters
        ----------
        step_records
            Log records of one step; bounds its memory and what a killed build has to do again.
        anew
            Make all of them from the first event on.
        """
        report = BuildReport()
        while self._step(report, step_records, anew=anew):
            anew = False
        return report

    def compact(self) -> int:
        """Merge the files of every partition that has many; return how many files are gone."""
        n_gone = 0
        with self._bench() as bench:
            for table in FACTS:
                for partition, files in _by_partition(bench.manifest.of(table.name)).items():
                    if len(files) < self._config.merge_files:
                        continue
                    names = {file.path for file in files}
                    bench.view(table, lambda file, names=names: file.path in names)  # type: ignore[misc]
                    order = f"SELECT * FROM {table.name} ORDER BY log_offset"  # noqa: S608 - our own names
                    n_before = len(bench.manifest.of(table.name))
                    bench.replace(table, [partition], order.replace("*", _without_keys(table.is_hourly), 1), "time_ms")
                    n_gone += n_before - len(bench.manifest.of(table.name))
            if n_gone:
                bench.commit()
        sweep(self.root)
        return n_gone

    def retain(self) -> int:
        """Drop the partitions that are older than the settings keep, raw days too; return how many files are gone.

        Ages are counted from the newest day of the tables.
        """
        config = self._config
        kept_days = {
            INTERACTIONS: config.interactions_days,
            REQUESTS: config.interactions_days,
            **dict.fromkeys(
                (SERVED, LOOKS, DEEDS), config.interactions_days and config.interactions_days + _MARGIN_DAYS
            ),
            USER_POST_DAY: config.user_post_day_days,
            USER_PROFILE: config.user_profile_days,
            CREATOR_TIERS: config.creator_tiers_days,
            POST_METADATA: config.post_metadata_days,
            **dict.fromkeys((PROFILES, FOLLOWS), 0),  # states of all days are made of them
        }
        n_gone = 0
        with self._bench() as bench:
            newest = max((f.day for files in bench.manifest.files.values() for f in files), default="")
            floors = dict(bench.manifest.floors)
            for table, days in kept_days.items():
                floor = days_before(newest, days) if newest and days else ""
                old = [file for file in bench.manifest.of(table.name) if file.day < floor]
                if old:
                    floors[table.name] = max(floor, floors.get(table.name, ""))
                    bench.drop(table, {file.partition for file in old})
                    n_gone += len(old)
            if n_gone:
                bench.manifest = msgspec.structs.replace(bench.manifest, floors=floors)
                bench.commit()
            is_built = not config.keeps_tables or bench.manifest.position >= total(self._warehouse.position() or (0,))
        if config.raw_days and is_built and newest:
            n_gone += self._warehouse.drop_before(days_before(newest, config.raw_days))
        return n_gone

    def erase(self, user: str, posts: Collection[str] = (), *, before: int) -> int:
        """Remove what is about a user; the raw events come first. Return how many rows are gone or made anew.

        Parameters
        ----------
        user
            Outside id.
        posts
            Outside ids of posts known to be theirs.
        before
            Log offset of the erasure: what came later belongs to somebody who has come back.
        """
        if not any(self.manifest().files.values()):
            return 0
        with self._bench() as bench:
            n_rows = forget_user(bench, user, posts, before, self._dwell, self._config)
            if n_rows:
                bench.commit()
        return n_rows

    def _step(self, report: BuildReport, step_records: int, *, anew: bool) -> bool:
        """Take in the next raw events; return whether there were any."""
        with self._bench() as bench:
            end_of_raw = total(self._warehouse.position() or (0,))
            # An older warehouse was restored beside newer tables: they cannot be gone on from.
            if anew or bench.manifest.position > end_of_raw:
                bench.start_anew()
            first = bench.manifest.position
            end = min(first + step_records, end_of_raw)
            report.position = end
            if first >= end:
                return False
            snapshot, paths = self._warehouse.snapshot(first)
            try:
                bench.db.execute(events_view([path for path in paths if _overlaps(path, first, end)], "raw"))
                self._take_in(bench, first, end)
            finally:
                snapshot.close()
            bench.commit(end)
            report.n_events += end - first
            for name, n_rows in bench.n_rows.items():
                report.n_rows[name] = report.n_rows.get(name, 0) + n_rows
        return True

    def _take_in(self, bench: Workbench, first: int, end: int) -> None:
        self._facts.read(bench.db, first, end)
        new_rows = self._facts.append(bench)
        created_on = self._posts.fold(bench, first, end)
        acted_on = _days(bench, "read_looks", "read_deeds")
        if new_rows[SERVED.name] or acted_on:
            bench.db.execute(_TOUCHED)
            build_interactions(bench, touched_hours(bench, "touched"), self._dwell)
        build_user_post_day(bench, acted_on, self._dwell)
        changed = created_on | acted_on | _days(bench, "read_profiles", "read_follows")
        if changed:
            build_snapshots(bench, min(changed), self._config)

    @contextmanager
    def _bench(self) -> Iterator[Workbench]:
        self.root.mkdir(parents=True, exist_ok=True)
        # Locks are not given in order: who waits holds the turn, so that a long build lets others in between.
        with (self.root / _LOCK_FILE).open("w") as file, (self.root / _TURN_FILE).open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.flock(turn, fcntl.LOCK_UN)
            with workbench(self.root, self._config.memory_mb) as bench:
                yield bench


_TOUCHED: Final = f"""
CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT viewer_id, post_id, time_ms // {HOUR_MS} AS hour FROM (
    SELECT p.viewer_id, unnest(p.items).post_id AS post_id, time_ms FROM read_pages
    UNION ALL SELECT p.viewer_id, p.post_id, time_ms FROM read_looks
    UNION ALL SELECT p.viewer_id, p.post_id, time_ms FROM read_deeds
)"""  # noqa: S608 - our own names


def _days(bench: Workbench, *names: str) -> set[str]:
    query = " UNION ".join(f"SELECT {DAY.format('time_ms')} FROM {name}" for name in names)  # noqa: S608 - our own
    return {row[0] for row in bench.db.execute(query).fetchall()}


def _overlaps(path: Path, first: int, end: int) -> bool:
    begins, _, ends = path.stem.partition("-")
    return int(begins) < end and int(ends) > first


def _without_keys(is_hourly: bool) -> str:  # noqa: FBT001 - of a table
    return "* EXCLUDE (dt, hour)" if is_hourly else "* EXCLUDE (dt)"


def _by_partition(files: list[TableFile]) -> dict[str, list[TableFile]]:
    found: dict[str, list[TableFile]] = {}
    for file in files:
        found.setdefault(file.partition, []).append(file)
    return found
