"""Facts: raw events with their JSON read. The queries that make them of the view ``raw``; `Facts` appends them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from millrace.events.codec import EventCodec
from millrace.events.envelope import Payload
from millrace.events.feed_events import Engagement, Impression, Served
from millrace.events.user_events import FollowChanged, ProfileUpdated
from millrace.flywheel.tables.schema import DEEDS, FOLLOWS, LOOKS, PROFILES, REQUESTS, SERVED, Table
from millrace.flywheel.tables.workbench import Workbench

if TYPE_CHECKING:
    import duckdb

_CONTEXT: Final = '"context": {"surface": "VARCHAR"}'
_PAGE: Final = (
    '{"request_id": "VARCHAR", "viewer_id": "VARCHAR", "pipeline": "VARCHAR", "plan": "VARCHAR", '
    '"n_candidates": "INTEGER", "params": "MAP(VARCHAR, DOUBLE)", "param_levels": "MAP(VARCHAR, VARCHAR)", '
    '"models": "MAP(VARCHAR, VARCHAR)", "outcomes": ["JSON"], "items": [{"post_id": "VARCHAR", '
    '"author_id": "VARCHAR", "position": "INTEGER", "sources": ["VARCHAR"], "scores": {"score": "DOUBLE"}}], '
    f"{_CONTEXT}}}"
)
_LOOK: Final = (
    '{"request_id": "VARCHAR", "viewer_id": "VARCHAR", "post_id": "VARCHAR", "position": "INTEGER", '
    f'"dwell_ms": "BIGINT", "duration_ms": "BIGINT", {_CONTEXT}}}'
)
_DEED: Final = (
    '{"request_id": "VARCHAR", "viewer_id": "VARCHAR", "post_id": "VARCHAR", "action": "VARCHAR", '
    f'"is_undo": "BOOLEAN", "amount": "DOUBLE", {_CONTEXT}}}'
)
_PROFILE: Final = (
    '{"user_id": "VARCHAR", "name": "VARCHAR", "languages": ["VARCHAR"], "interests": ["VARCHAR"], '
    '"is_verified": "BOOLEAN"}'
)
_FOLLOW: Final = '{"follower_id": "VARCHAR", "followee_id": "VARCHAR", "list_id": "VARCHAR", "is_following": "BOOLEAN"}'

LOOKS_QUERY: Final = """SELECT log_offset, time_ms, p.request_id, p.viewer_id, p.post_id, p.position,
    coalesce(p.dwell_ms, 0) AS dwell_ms, coalesce(p.duration_ms, 0) AS duration_ms, p.context.surface
    FROM read_looks"""
DEEDS_QUERY: Final = """SELECT log_offset, time_ms, p.request_id, p.viewer_id, p.post_id, p.action,
    coalesce(p.is_undo, false) AS is_undo, p.amount, p.context.surface FROM read_deeds"""

_QUERIES: Final[tuple[tuple[Table, str], ...]] = (
    (
        REQUESTS,
        """SELECT log_offset, time_ms, p.request_id, p.viewer_id, p.pipeline, coalesce(p.plan, 'full') AS plan,
        coalesce(len(p.items), 0) AS n_items, coalesce(p.n_candidates, 0) AS n_candidates,
        coalesce(len(p.outcomes), 0) AS n_failed, p.context.surface, p.models, p.params, p.param_levels
        FROM read_pages""",
    ),
    (
        SERVED,
        """SELECT log_offset, time_ms, p.request_id, p.viewer_id, i.post_id, i.author_id, p.pipeline, i.position,
        coalesce(i.sources, []) AS sources, i.scores.score FROM (SELECT *, unnest(p.items) AS i FROM read_pages)""",
    ),
    (LOOKS, LOOKS_QUERY),
    (DEEDS, DEEDS_QUERY),
    (
        PROFILES,
        "SELECT log_offset, time_ms, p.user_id, p.name, p.languages, p.interests, p.is_verified FROM read_profiles",
    ),
    (
        FOLLOWS,
        """SELECT log_offset, time_ms, p.follower_id, p.followee_id, p.list_id,
        coalesce(p.is_following, true) AS is_following FROM read_follows""",
    ),
)


class FactReader:
    """Reads raw events as facts.

    Parameters
    ----------
    codec
        Knows the events' topics.
    """

    def __init__(self, codec: EventCodec) -> None:
        topic = {kind: codec.registry.by_name(kind.__name__).topic for kind in _SHAPES}
        self._reads = {
            kind: f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT log_offset, "  # noqa: S608 - our own names
            f"greatest(least(event_time_ms, appended_ms), 0) AS time_ms, json_transform(payload, '{shape}') AS p "
            f"FROM raw WHERE topic = '{topic[kind]}' AND type = '{kind.__name__}' AND log_offset >= $first "
            "AND log_offset < $end"
            for kind, (name, shape) in _SHAPES.items()
        }

    def read(
        self, db: duckdb.DuckDBPyConnection, first: int, end: int, kinds: Collection[type[Payload]] | None = None
    ) -> None:
        """Read the raw events between two log offsets (view ``raw``) into the tables ``read_pages`` and so on.

        ``kinds`` are the events wanted; None: all that facts are made of.
        """
        for kind in self._reads if kinds is None else kinds:
            db.execute(self._reads[kind], {"first": first, "end": end})

    def append(self, bench: Workbench) -> dict[str, int]:
        """Append what was read to the fact tables; return how many rows each got."""
        n_rows = {}
        for table, query in _QUERIES:
            source = query.split()[-1].rstrip(")")
            is_any = bench.db.execute(f"SELECT 1 FROM {source} LIMIT 1").fetchall()  # noqa: S608 - our own names
            n_rows[table.name] = bench.append(table, query) if is_any else 0
        return n_rows


_SHAPES: Final[dict[type[Payload], tuple[str, str]]] = {
    Served: ("read_pages", _PAGE),
    Impression: ("read_looks", _LOOK),
    Engagement: ("read_deeds", _DEED),
    ProfileUpdated: ("read_profiles", _PROFILE),
    FollowChanged: ("read_follows", _FOLLOW),
}
