"""``user_post_day``: what a user did with a post on a day, whatever the requests. Days are UTC, by event time."""

from __future__ import annotations

from collections.abc import Collection

from millrace.flywheel.tables.interactions import DONE_COLUMNS, LAST_WORD, NONE_DONE
from millrace.flywheel.tables.schema import DEEDS, LOOKS, USER_POST_DAY
from millrace.flywheel.tables.workbench import DAY, Workbench
from millrace.stores.engagement_config import DwellThresholds

_MAX_DAYS = 8
"""Days made at once."""


def build_user_post_day(bench: Workbench, days: Collection[str], dwell: DwellThresholds) -> int:
    """Make days (``2027-01-15``) of ``user_post_day`` anew of the facts; return how many rows they have now.

    Days whose facts are not kept any more stay as they are.
    """
    floors = bench.manifest.floors
    floor = max(floors.get(table.name, "") for table in (LOOKS, DEEDS, USER_POST_DAY))
    wanted = sorted(day for day in days if day >= floor)
    n_rows = 0
    for start in range(0, len(wanted), _MAX_DAYS):
        batch = wanted[start : start + _MAX_DAYS]
        for table in (LOOKS, DEEDS):
            bench.view(table, lambda file, days=frozenset(batch): file.day in days)  # type: ignore[misc]
        n_rows += bench.replace(
            USER_POST_DAY, [f"dt={day}" for day in batch], f"FROM ({_query(dwell)}) ORDER BY dt, user_id, post_id"
        )
    return n_rows


def _query(dwell: DwellThresholds) -> str:
    day = DAY.format("time_ms")
    return f"""
WITH looks AS (
    SELECT viewer_id, post_id, {day} AS dt, min(time_ms) AS first_ms, max(time_ms) AS last_ms, count(*) AS n_looks,
        max(dwell_ms) AS longest_ms, bool_or(duration_ms > 0 AND dwell_ms >= duration_ms) AS is_complete,
    FROM {LOOKS.name} GROUP BY ALL
), by_request AS (
    SELECT viewer_id, post_id, {day} AS dt, request_id, least(max(dwell_ms), {dwell.max_ms}) AS longest_ms
    FROM {LOOKS.name} GROUP BY ALL
), watched AS (
    SELECT viewer_id, post_id, dt, sum(longest_ms)::BIGINT AS watch_ms FROM by_request GROUP BY ALL
), words AS (
    SELECT viewer_id, post_id, {day} AS dt, action, min(time_ms) AS first_ms, max(time_ms) AS last_ms,
        {LAST_WORD}
    FROM {DEEDS.name} GROUP BY ALL
), done AS (
    SELECT viewer_id, post_id, dt, min(first_ms) AS first_ms, max(last_ms) AS last_ms, {DONE_COLUMNS},
        count(*) FILTER (is_undo) AS n_undone
    FROM words GROUP BY ALL
)
SELECT viewer_id AS user_id, post_id, dt, least(l.first_ms, d.first_ms) AS first_ms,
    greatest(l.last_ms, d.last_ms) AS last_ms, coalesce(l.n_looks, 0) AS n_looks,
    coalesce(w.watch_ms, 0) / 1000 AS watch_s, coalesce(l.longest_ms < {dwell.short_ms}, false) AS is_short_view,
    coalesce(l.longest_ms > {dwell.valid_ms}, false) AS is_valid_view, coalesce(l.is_complete, false) AS is_complete,
    {NONE_DONE}, coalesce(d.n_undone, 0) AS n_undone
FROM looks l JOIN watched w USING (viewer_id, post_id, dt) FULL JOIN done d USING (viewer_id, post_id, dt)
"""  # noqa: S608 - our own names and numbers
