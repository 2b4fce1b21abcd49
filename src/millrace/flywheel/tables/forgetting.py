"""Erasure in the tables: a user's rows go, and what others' rows say of them.

Facts are filtered as the raw events are (`millrace.events.subjects`): what a user did, and their posts on others'
pages. What is made of facts is made anew; where the facts are not kept any more, rows are removed. Counts of others in
snapshots of earlier days stay what they were.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from millrace.flywheel.tables.interactions import build_interactions, touched_hours
from millrace.flywheel.tables.manifest import TableFile
from millrace.flywheel.tables.people import build_snapshots, snapshot_days
from millrace.flywheel.tables.post_metadata import forget_author
from millrace.flywheel.tables.schema import (
    CREATOR_TIERS,
    DEEDS,
    FOLLOWS,
    INTERACTIONS,
    LOOKS,
    POST_METADATA,
    PROFILES,
    REQUESTS,
    SERVED,
    USER_POST_DAY,
    USER_PROFILE,
    Table,
)
from millrace.flywheel.tables.user_post_day import build_user_post_day
from millrace.flywheel.tables.workbench import DAY, HOUR_MS, Workbench
from millrace.flywheel.warehouse_config import WarehouseConfig
from millrace.stores.engagement_config import DwellThresholds

_THEIR_POST: Final = "post_id IN (SELECT post_id FROM their_posts)"
_GONE: Final[dict[str, str]] = {
    REQUESTS.name: "viewer_id = $user AND log_offset < $before",
    # Pages made before the erasure and logged after it show their posts too.
    SERVED.name: f"(viewer_id = $user OR author_id = $user) AND log_offset < $before OR {_THEIR_POST}",
    LOOKS.name: "viewer_id = $user AND log_offset < $before",
    DEEDS.name: "viewer_id = $user AND log_offset < $before",
    PROFILES.name: "user_id = $user AND log_offset < $before",
    FOLLOWS.name: "(follower_id = $user OR followee_id = $user) AND log_offset < $before",
}


def forget_user(
    bench: Workbench,
    user: str,
    posts: Collection[str],
    before: int,
    dwell: DwellThresholds,
    config: WarehouseConfig,
) -> int:
    """Take a user out of all tables; return how many rows were removed.

    Parameters
    ----------
    bench
        The tables.
    user, posts
        Outside ids: who, and which posts are known to be theirs.
    before
        Log offset of the erasure.
    dwell, config
        As for a build.
    """
    table = bench.view(POST_METADATA)
    bench.db.execute("CREATE OR REPLACE TEMP TABLE their_posts (post_id VARCHAR)")
    if posts:
        bench.db.executemany("INSERT INTO their_posts VALUES (?)", [[post] for post in posts])
    bench.db.execute(
        f"INSERT INTO their_posts SELECT post_id FROM {table} WHERE author_id = ? AND created_offset < ?",  # noqa: S608
        [user, before],
    )
    hours = _touched(bench, user, before)
    days = {file.day for file in _holding(bench, USER_POST_DAY, "user_id = $user", {"user": user})}
    about: dict[str, object] = {"user": user, "before": before}
    n_rows = 0
    for fact in (REQUESTS, SERVED, LOOKS, DEEDS, PROFILES, FOLLOWS):
        n_rows += _remove(bench, fact, _GONE[fact.name], about)
    n_rows += forget_author(bench, user, before)
    # First from what is not made anew, then what came after the erasure is found again.
    for name, column in ((USER_POST_DAY, "user_id"), (USER_PROFILE, "user_id"), (CREATOR_TIERS, "author_id")):
        n_rows += _remove(bench, name, f"{column} = $user", {"user": user})
    is_theirs = "viewer_id = $user OR author_id = $user"
    hours |= {file.hour for file in _holding(bench, INTERACTIONS, is_theirs, {"user": user})}
    n_rows += _remove(bench, INTERACTIONS, is_theirs, {"user": user})
    build_interactions(bench, hours, dwell)
    build_user_post_day(bench, days, dwell)
    if n_rows and (since := _back_since(bench, user) or snapshot_days(bench, "")[-1:]):
        build_snapshots(bench, since[0], config)
    return n_rows


def _back_since(bench: Workbench, user: str) -> list[str]:
    """Return the day on which somebody who came back was heard of first; none if nobody did."""
    named = [(PROFILES, "user_id"), (FOLLOWS, "follower_id"), (FOLLOWS, "followee_id")]
    times = [f"SELECT time_ms FROM {bench.view(table)} WHERE {column} = $user" for table, column in named]  # noqa: S608
    times.append(f"SELECT created_ms FROM {bench.view(POST_METADATA)} WHERE author_id = $user")  # noqa: S608
    times.append(f"SELECT first_ms FROM {bench.view(USER_POST_DAY)} WHERE user_id = $user")  # noqa: S608
    query = f"SELECT {DAY.format('min(time_ms)')} FROM ({' UNION ALL '.join(times)})"  # noqa: S608 - our own names
    return [row[0] for row in bench.db.execute(query, {"user": user}).fetchall() if row[0] is not None]


def _touched(bench: Workbench, user: str, before: int) -> set[int]:
    """Return the hours of interactions that change."""
    for table in (SERVED, LOOKS, DEEDS):
        bench.view(table)
    union = " UNION ALL ".join(
        f"SELECT viewer_id, post_id, time_ms FROM {table.name} WHERE {_GONE[table.name]}"  # noqa: S608 - our own
        for table in (SERVED, LOOKS, DEEDS)
    )
    bench.db.execute(
        f"CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT viewer_id, post_id, time_ms // {HOUR_MS} AS hour "  # noqa: S608
        f"FROM ({union})",
        {"user": user, "before": before},
    )
    return touched_hours(bench, "touched")


def _holding(bench: Workbench, table: Table, where: str, about: dict[str, object]) -> list[TableFile]:
    """Return the files with rows that a condition holds for."""
    files = {str(bench.root / table.name / file.path): file for file in bench.manifest.of(table.name)}
    if not files:
        return []
    names = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    query = f"SELECT DISTINCT filename FROM read_parquet([{names}], filename = true) WHERE {where}"  # noqa: S608
    return [files[row[0]] for row in bench.db.execute(query, about).fetchall()]


def _remove(bench: Workbench, table: Table, where: str, about: dict[str, object]) -> int:
    """Remove the rows that a condition holds for, which may be unknown of rows; return how many they were."""
    partitions = {file.partition for file in _holding(bench, table, where, about)}
    if not partitions:
        return 0
    n_before = sum(file.n_rows for file in bench.manifest.of(table.name) if file.partition in partitions)
    bench.view(table, lambda file: file.partition in partitions)
    keys = "strftime(dt, '%Y-%m-%d') AS dt" + (", format('{:02d}', hour) AS hour" if table.is_hourly else "")
    bench.db.execute(
        f"CREATE OR REPLACE TEMP TABLE kept AS SELECT * REPLACE ({keys}) FROM {table.name} "  # noqa: S608 - our own
        f"WHERE NOT coalesce({where}, false)",
        about,
    )
    return n_before - bench.replace(table, partitions, "FROM kept")
