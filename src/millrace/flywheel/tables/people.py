"""``user_profile`` and ``creator_tiers``: daily snapshots of users and authors, as of the end of each day.

A snapshot is made of what happened up to its day, by the events' own times: profiles and follows of all days (the last
word in log order counts), looks and actions of the last 28 days. There is one for every day on which anything happened.
An event that comes late changes the snapshots from its day on.
"""

from __future__ import annotations

from typing import Final

from millrace.flywheel.tables.schema import (
    ACTIONS,
    CREATOR_TIERS,
    FOLLOWS,
    POST_METADATA,
    PROFILES,
    USER_POST_DAY,
    USER_PROFILE,
    Table,
)
from millrace.flywheel.tables.workbench import Workbench
from millrace.flywheel.warehouse_config import PROFILE_DAYS, TierThresholds, WarehouseConfig

_NEW_DAYS: Final = 7
_ACTIVE_DAYS: Final = 8
_DAY_MS: Final = 86_400_000
_SOURCES: Final = (USER_POST_DAY, PROFILES, FOLLOWS, POST_METADATA)


def snapshot_days(bench: Workbench, since: str) -> list[str]:
    """Return the days, from ``since`` on, on which anything happened that snapshots are made of."""
    days = {file.day for table in _SOURCES for file in bench.manifest.of(table.name)}
    return sorted(day for day in days if day >= since)


def build_snapshots(bench: Workbench, since: str, config: WarehouseConfig) -> int:
    """Make the snapshots from a day on anew, those that would not be kept excepted; return how many rows they have."""
    n_rows = 0
    days = snapshot_days(bench, since)
    kept_days = {USER_PROFILE.name: config.user_profile_days, CREATOR_TIERS.name: config.creator_tiers_days}
    # Snapshots of authors are made of those of users, kept or not.
    for table, query in ((USER_PROFILE, _USERS), (CREATOR_TIERS, _creators(config.tiers))):
        floor = bench.manifest.floors.get(table.name, "")
        if days and kept_days[table.name]:
            floor = max(floor, days_before(days[-1], kept_days[table.name]))
        bench.db.execute(f"DROP TABLE IF EXISTS made_{table.name}")
        for day in days:
            _make(bench, table, query, day)
        kept = [f"dt={day}" for day in days if day >= floor]
        if kept:
            made = f"FROM made_{table.name} WHERE dt >= '{floor}' ORDER BY ALL"
            n_rows += bench.replace(table, kept, made)
    return n_rows


def _make(bench: Workbench, table: Table, query: str, day: str) -> None:
    first = days_before(day, PROFILE_DAYS - 1)
    bench.view(USER_POST_DAY, lambda file: first <= file.day <= day)
    for source in (PROFILES, FOLLOWS, POST_METADATA):
        bench.view(source, lambda file: file.day <= day)
    values: dict[str, object] = {"day": day, "end_ms": _end_ms(day)}
    made = f"SELECT *, CAST($day AS VARCHAR) AS dt FROM ({query})"  # noqa: S608 - our own names
    name = f"made_{table.name}"
    exists = bench.db.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = ?", [name]).fetchall()[0][0]
    start = f"INSERT INTO {name}" if exists else f"CREATE TEMP TABLE {name} AS"
    bench.db.execute(f"{start} {made}", {key: value for key, value in values.items() if f"${key}" in made})


_USERS: Final = f"""
WITH profiles AS (
    SELECT user_id, arg_max(name, log_offset) AS name, arg_max(languages, log_offset) AS languages,
        arg_max(interests, log_offset) AS interests, arg_max(is_verified, log_offset) AS is_verified,
        min(time_ms) AS first_ms
    FROM {PROFILES.name} GROUP BY user_id
), words AS (
    SELECT follower_id, followee_id, list_id, arg_max(is_following, log_offset) AS is_following,
        min(time_ms) AS first_ms
    FROM {FOLLOWS.name} GROUP BY ALL
), edges AS (
    SELECT follower_id, followee_id, bool_or(is_following) AS is_following, min(first_ms) AS first_ms
    FROM words GROUP BY ALL
), following AS (
    SELECT follower_id AS user_id, count(*) FILTER (is_following) AS n_following, min(first_ms) AS first_ms
    FROM edges GROUP BY ALL
), followers AS (
    SELECT followee_id AS user_id, count(*) FILTER (is_following) AS n_followers FROM edges GROUP BY ALL
), posts AS (
    SELECT author_id AS user_id, count(*) AS n_posts, min(created_ms) AS first_ms
    FROM {POST_METADATA.name} GROUP BY ALL
), activity AS (
    SELECT user_id, min(first_ms) AS first_ms, count(DISTINCT dt) AS active_days_28,
        count(DISTINCT dt) FILTER (dt > CAST($day AS DATE) - 7) AS active_days_7, sum(n_looks) AS n_looks_28,
        sum({" + ".join(ACTIONS)}) AS n_actions_28, sum(round(watch_s * 1000)::BIGINT) / 1000 AS watch_s_28
    FROM {USER_POST_DAY.name} GROUP BY ALL
), known AS (
    SELECT user_id FROM profiles UNION SELECT user_id FROM following UNION SELECT user_id FROM followers
    UNION SELECT user_id FROM posts UNION SELECT user_id FROM activity
), users AS (
    SELECT user_id, name, languages, interests, coalesce(is_verified, false) AS is_verified,
        least(p.first_ms, f.first_ms, w.first_ms, a.first_ms) AS first_ms, coalesce(n_followers, 0) AS n_followers,
        coalesce(n_following, 0) AS n_following, coalesce(n_posts, 0) AS n_posts,
        coalesce(active_days_7, 0) AS active_days_7, coalesce(active_days_28, 0) AS active_days_28,
        coalesce(n_looks_28, 0) AS n_looks_28, coalesce(n_actions_28, 0) AS n_actions_28,
        coalesce(watch_s_28, 0) AS watch_s_28
    FROM known LEFT JOIN profiles p USING (user_id) LEFT JOIN following f USING (user_id)
    LEFT JOIN followers USING (user_id) LEFT JOIN posts w USING (user_id) LEFT JOIN activity a USING (user_id)
)
SELECT *, CASE WHEN first_ms >= $end_ms - {_NEW_DAYS * _DAY_MS} THEN 'new' WHEN active_days_28 >= {_ACTIVE_DAYS}
    THEN 'active' WHEN active_days_28 > 0 THEN 'casual' ELSE 'dormant' END AS user_group FROM users
"""  # noqa: S608 - our own names


def _creators(tiers: TierThresholds) -> str:
    def rank(column: str, steps: tuple[int, int, int]) -> str:
        return " + ".join(f"({column} >= {step})::INTEGER" for step in steps)

    return f"""
WITH shown AS (
    SELECT author_id, sum(n_looks) AS n_impressions_28, count(DISTINCT user_id) FILTER (n_looks > 0) AS n_viewers_28
    FROM {USER_POST_DAY.name} JOIN {POST_METADATA.name} USING (post_id) GROUP BY ALL
), authors AS (
    SELECT user_id AS author_id, n_followers, n_posts, coalesce(n_impressions_28, 0) AS n_impressions_28,
        coalesce(n_viewers_28, 0) AS n_viewers_28
    FROM made_{USER_PROFILE.name} u LEFT JOIN shown s ON s.author_id = u.user_id WHERE n_posts > 0 AND u.dt = $day
)
SELECT *, ['nano', 'micro', 'macro', 'mega'][1 + greatest({rank("n_followers", tiers.followers)},
    {rank("n_impressions_28", tiers.impressions)})] AS tier FROM authors
"""  # noqa: S608 - our own names and numbers


def days_before(day: str, n: int) -> str:
    """Return the day ``n`` days before another one; not before the year 1."""
    from datetime import date

    return date.fromordinal(max(date.fromisoformat(day).toordinal() - n, 1)).isoformat()


def _end_ms(day: str) -> int:
    from datetime import date

    return ((date.fromisoformat(day) - date(1970, 1, 1)).days + 1) * _DAY_MS
