"""``interactions``: of every request and post, whether it was served, seen, and what was done.

What belongs together is what samples are joined by (`millrace.flywheel.join`, with its default bounds). A look belongs
to the page that it names, if that page showed the post to this viewer at most `LOOK_WITHIN_MS` before it began; an
action belongs to the row of the request that it names, or else to the viewer's latest look at the post that began
before it, at most `ACT_WITHIN_MS` earlier. What belongs to nothing has a row of its own, in the hour in which it
happened. The last word of an action counts, by the times of events, not by the log's order; at one millisecond, taking
back is the last. A client's clock that is further behind than `SLACK_MS` is believed by the join alone, which holds
days in memory; an hour here would have to be made of the facts of twice as many.

Rows of one viewer and one post depend on events about that viewer and post alone, and on none that is further away than
`MARGIN_H` hours: so `touched_hours` tells which hours new events change, and `rows_query` makes an hour of the facts
around it. Made anew, an hour is the same whatever came in which order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Final

from millrace.flywheel.tables.schema import ACTIONS, DEEDS, INTERACTIONS, LOOKS, SERVED
from millrace.flywheel.tables.workbench import HOUR_MS, Workbench, day_of, partition_of
from millrace.stores.engagement_config import DwellThresholds

SLACK_MS: Final = HOUR_MS
"""Clients' clocks may be this far behind the server's."""
LOOK_WITHIN_MS: Final = 24 * HOUR_MS
ACT_WITHIN_MS: Final = 24 * HOUR_MS
MARGIN_H: Final = (SLACK_MS + LOOK_WITHIN_MS + ACT_WITHIN_MS) // HOUR_MS + 2
_BATCH_H: Final = 48

_FACTS: Final = (SERVED, LOOKS, DEEDS)

DONE_COLUMNS: Final = ", ".join(
    f"count(*) FILTER (NOT is_undo AND action IN ({', '.join(repr(name) for name in names)})) AS {column}"
    for column, names in ACTIONS.items()
) + (
    ", coalesce(list(action ORDER BY action) FILTER (NOT is_undo), []) AS actions, "
    "sum(amount ORDER BY action) FILTER (NOT is_undo) AS amount"
)
"""Aggregates over the last words of actions; table ``(…, action, is_undo, amount)``."""
LAST_WORD: Final = (
    "arg_max(is_undo, (time_ms, is_undo)) AS is_undo, "
    "arg_max({amount: amount}, (time_ms, is_undo, log_offset)).amount AS amount"
)
"""Aggregates over what was said of an action."""
NONE_DONE: Final = ", ".join(
    [f"coalesce(d.{column}, 0) AS {column}" for column in ACTIONS]
    + ["coalesce(d.actions, []) AS actions", "d.amount AS amount"]
)


def touched_hours(bench: Workbench, touched: str) -> set[int]:
    """Return the hours since 1970 whose rows may depend on some facts.

    Parameters
    ----------
    bench
        Its fact tables hold these facts, old ones too.
    touched
        Name of a table ``(viewer_id, post_id, hour)`` of theirs.
    """
    hours = [row[0] for row in bench.db.execute(f"SELECT DISTINCT hour FROM {touched}").fetchall()]  # noqa: S608
    near = {hour + step for hour in hours for step in range(-MARGIN_H, MARGIN_H + 1)}
    for table in _FACTS:
        bench.view(table, lambda file: file.hour in near)
    facts = " UNION ALL ".join(
        f"SELECT viewer_id, post_id, time_ms // {HOUR_MS} AS fact_hour FROM {t.name}"  # noqa: S608
        for t in _FACTS
    )
    found = bench.db.execute(
        f"SELECT DISTINCT fact_hour FROM ({facts}) f JOIN {touched} USING (viewer_id, post_id) "  # noqa: S608 - our own names
        f"WHERE abs(fact_hour - hour) <= {MARGIN_H}"
    ).fetchall()
    return {row[0] for row in found}.union(hours)


def build_interactions(bench: Workbench, hours: Collection[int], dwell: DwellThresholds) -> int:
    """Make hours of ``interactions`` anew of the facts; return how many rows they have now."""
    floor = bench.manifest.floors.get(INTERACTIONS.name, "")
    n_rows = 0
    for batch in _batches(hour for hour in sorted(hours) if day_of(hour) >= floor):
        for table in _FACTS:
            bench.view(table, lambda file, b=batch: b[0] - MARGIN_H <= file.hour <= b[-1] + MARGIN_H)  # type: ignore[misc]
        wanted = ", ".join(map(str, batch))
        query = f"SELECT * FROM ({rows_query(dwell)}) WHERE time_ms // {HOUR_MS} IN ({wanted}) ORDER BY ALL"  # noqa: S608
        n_rows += bench.replace(INTERACTIONS, [partition_of(hour) for hour in batch], query, "time_ms")
    return n_rows


def rows_query(dwell: DwellThresholds) -> str:
    """Return the query that makes interactions of the fact views."""
    # A row's key: viewer, request ('' for none), post and the hour of the page, or else of the event itself. With the
    # hour in it, clients that give many pages one request id make more rows, and no row depends on one far away.
    return f"""
WITH pages AS (
    SELECT viewer_id, request_id AS request, post_id, time_ms // {HOUR_MS} AS hour, min(time_ms) AS page_ms,
        arg_min(f, log_offset) AS s
    FROM {SERVED.name} f GROUP BY ALL
), looks AS (
    SELECT l.viewer_id, coalesce(l.request_id, '') AS request, l.post_id,
        coalesce(p.hour, l.time_ms // {HOUR_MS}) AS hour, l.log_offset, l.position, l.surface,
        l.time_ms - least(l.dwell_ms, {dwell.max_ms}) AS began_ms, l.time_ms, l.dwell_ms,
        l.duration_ms > 0 AND l.dwell_ms >= l.duration_ms AS is_whole
    FROM {LOOKS.name} l LEFT JOIN pages p ON p.viewer_id = l.viewer_id AND p.request = l.request_id
        AND p.post_id = l.post_id
        AND l.time_ms >= p.page_ms - {SLACK_MS}
        AND l.time_ms - least(l.dwell_ms, {dwell.max_ms}) <= p.page_ms + {LOOK_WITHIN_MS}
    QUALIFY row_number() OVER (PARTITION BY l.log_offset ORDER BY p.page_ms DESC) = 1
), seen AS (
    SELECT viewer_id, request, post_id, hour, min(began_ms) AS seen_ms, min(time_ms) AS look_ms,
        arg_min(position, log_offset) AS position, arg_min(surface, log_offset) AS surface, count(*) AS n_looks,
        max(dwell_ms) AS longest_ms, bool_or(is_whole) AS is_complete
    FROM looks GROUP BY ALL
), rows AS (
    SELECT viewer_id, request, post_id, hour, page_ms, look_ms, seen_ms, coalesce(page_ms, seen_ms) AS from_ms
    FROM pages FULL JOIN seen USING (viewer_id, request, post_id, hour)
), named AS (
    SELECT d.log_offset, r.hour, r.request FROM {DEEDS.name} d JOIN rows r
        ON r.viewer_id = d.viewer_id AND r.request = d.request_id AND r.post_id = d.post_id
        AND d.time_ms BETWEEN r.from_ms - {SLACK_MS} AND coalesce(r.seen_ms, r.page_ms) + {ACT_WITHIN_MS}
    QUALIFY row_number() OVER (PARTITION BY d.log_offset ORDER BY r.from_ms DESC, r.hour DESC) = 1
), looked AS (
    SELECT d.log_offset, r.hour, r.request FROM {DEEDS.name} d ANTI JOIN named USING (log_offset)
        JOIN rows r ON r.viewer_id = d.viewer_id AND r.post_id = d.post_id
        AND d.time_ms BETWEEN r.seen_ms AND r.seen_ms + {ACT_WITHIN_MS}
    QUALIFY row_number() OVER (PARTITION BY d.log_offset ORDER BY r.seen_ms DESC, r.request, r.hour DESC) = 1
), placed AS (SELECT * FROM named UNION ALL SELECT * FROM looked),
deeds AS (
    SELECT d.viewer_id, coalesce(p.request, d.request_id, '') AS request, d.post_id,
        coalesce(p.hour, d.time_ms // {HOUR_MS}) AS hour, d.action, d.log_offset, d.time_ms, d.is_undo, d.amount,
        d.surface
    FROM {DEEDS.name} d LEFT JOIN placed p USING (log_offset)
), words AS (
    SELECT viewer_id, request, post_id, hour, action, min(time_ms) AS deed_ms, min(log_offset) AS deed_offset,
        arg_min(surface, log_offset) AS deed_surface, {LAST_WORD}
    FROM deeds GROUP BY ALL
), done AS (
    SELECT viewer_id, request, post_id, hour, min(deed_ms) AS deed_ms,
        arg_min(deed_surface, deed_offset) AS deed_surface, {DONE_COLUMNS}
    FROM words GROUP BY ALL
)
SELECT coalesce(page_ms, look_ms, deed_ms) AS time_ms, nullif(request, '') AS request_id, viewer_id, post_id,
    s.author_id AS author_id, s.pipeline AS pipeline, coalesce(s.position, v.position) AS position,
    coalesce(s.sources, []) AS sources, s.score AS score, coalesce(v.surface, d.deed_surface) AS surface,
    page_ms IS NOT NULL AS is_served, v.seen_ms IS NOT NULL AS is_seen, v.seen_ms AS seen_ms,
    coalesce(v.n_looks, 0) AS n_looks, least(coalesce(v.longest_ms, 0), {dwell.max_ms}) / 1000 AS watch_s,
    coalesce(v.longest_ms < {dwell.short_ms}, false) AS is_short_view,
    coalesce(v.longest_ms > {dwell.valid_ms}, false) AS is_valid_view,
    coalesce(v.is_complete, false) AS is_complete, {NONE_DONE}
FROM pages p FULL JOIN seen v USING (viewer_id, request, post_id, hour)
FULL JOIN done d USING (viewer_id, request, post_id, hour)
"""  # noqa: S608 - our own names and numbers


def _batches(hours: Iterator[int]) -> Iterator[list[int]]:
    for _, batch in groupby(hours, key=lambda hour: hour // _BATCH_H):
        yield list(batch)
