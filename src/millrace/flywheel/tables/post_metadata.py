"""``post_metadata``: posts as they are now, in the partition of the day of their creation.

A fold: the rows of posts of which new events tell are made of what the rows say and of the events, in log order.
What the log says of a post before it says that it was created is left out; so the result does not depend on where
builds ended.
"""

from __future__ import annotations

from typing import Any, Final

from millrace.events.codec import EventCodec
from millrace.events.content_events import LabelChanged, PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.flywheel.tables.schema import POST_METADATA
from millrace.flywheel.tables.workbench import DAY, Workbench

_MEDIA: Final = '"media": [{"kind": "VARCHAR", "duration_ms": "BIGINT"}]'
_SHAPES: Final[dict[type, tuple[str, str]]] = {
    PostCreated: (
        "read_posts",
        (
            '{"post_id": "VARCHAR", "author_id": "VARCHAR", "kind": "VARCHAR", "text": "VARCHAR", '
            '"parent_id": "VARCHAR", "parent_author_id": "VARCHAR", "conversation_id": "VARCHAR", '
            '"is_sensitive": "BOOLEAN", "link": "VARCHAR", '
            f'"created_at_ms": "BIGINT", {_MEDIA}}}'
        ),
    ),
    PostEdited: ("read_edits", f'{{"post_id": "VARCHAR", "text": "VARCHAR", "is_sensitive": "BOOLEAN", {_MEDIA}}}'),
    PostDeleted: ("read_deletes", '{"post_id": "VARCHAR"}'),
    PostAnnotated: ("read_notes", '{"post_id": "VARCHAR", "language": "VARCHAR", "topics": ["VARCHAR"]}'),
    LabelChanged: ("read_labels", '{"post_id": "VARCHAR", "label": "VARCHAR", "is_set": "BOOLEAN"}'),
}

_MEDIA_KINDS: Final = "list_transform(coalesce({0}.media, []), lambda m: m.kind)"
_DURATION: Final = "coalesce(list_max(list_transform(coalesce({0}.media, []), lambda m: m.duration_ms)), 0)"

_NEW: Final = f"""
SELECT p.post_id AS post_id, p.author_id AS author_id,
    least(coalesce(p.created_at_ms, time_ms), time_ms) AS created_ms, coalesce(p.kind, 'original') AS kind,
    p.parent_id AS parent_id, p.parent_author_id AS parent_author_id,
    coalesce(p.conversation_id, p.post_id) AS conversation_id, length(coalesce(p.text, '')) AS n_chars,
    {_MEDIA_KINDS.format("p")} AS media, {_DURATION.format("p")} AS duration_ms,
    coalesce(p.link, '') <> '' AS has_link, NULL::VARCHAR AS language, []::VARCHAR[] AS topics,
    []::VARCHAR[] AS labels, coalesce(p.is_sensitive, false) AS is_sensitive, false AS is_deleted,
    log_offset AS created_offset, log_offset AS changed_offset
FROM read_posts ANTI JOIN old_posts o ON o.post_id = p.post_id
QUALIFY row_number() OVER (PARTITION BY p.post_id ORDER BY log_offset) = 1
"""  # noqa: S608 - our own names

_CHANGES: Final = f"""
SELECT log_offset, p.post_id AS post_id, length(p.text) AS n_chars,
    CASE WHEN p.media IS NOT NULL THEN {_MEDIA_KINDS.format("p")} END AS media,
    CASE WHEN p.media IS NOT NULL THEN {_DURATION.format("p")} END AS duration_ms,
    p.is_sensitive AS is_sensitive, NULL::BOOLEAN AS is_deleted, NULL::VARCHAR AS language, NULL::VARCHAR[] AS topics,
    NULL::VARCHAR AS label, NULL::BOOLEAN AS is_set FROM read_edits
UNION ALL BY NAME SELECT log_offset, p.post_id AS post_id, true AS is_deleted FROM read_deletes
UNION ALL BY NAME SELECT log_offset, p.post_id AS post_id, p.language AS language, p.topics AS topics FROM read_notes
UNION ALL BY NAME SELECT log_offset, p.post_id AS post_id, p.label AS label, coalesce(p.is_set, true) AS is_set
    FROM read_labels WHERE p.post_id IS NOT NULL
"""  # noqa: S608 - our own names

_FOLDED: Final = """
WITH told AS (
    SELECT c.* FROM changes c JOIN base b ON b.post_id = c.post_id AND c.log_offset > b.created_offset
), last AS (
    SELECT post_id, arg_max(n_chars, log_offset) AS n_chars, arg_max(media, log_offset) AS media,
        arg_max(duration_ms, log_offset) AS duration_ms, arg_max(is_sensitive, log_offset) AS is_sensitive,
        bool_or(is_deleted) AS is_deleted, arg_max(language, log_offset) AS language,
        arg_max(topics, log_offset) AS topics, max(log_offset) AS changed_offset
    FROM told GROUP BY post_id
), words AS (
    SELECT post_id, label, arg_max(is_set, log_offset) AS is_set FROM told WHERE label IS NOT NULL GROUP BY ALL
), labelled AS (
    SELECT post_id, list(label) AS said, coalesce(list(label) FILTER (is_set), []) AS set FROM words GROUP BY post_id
)
SELECT post_id, author_id, created_ms, kind, parent_id, parent_author_id, conversation_id,
    coalesce(l.n_chars, b.n_chars) AS n_chars, coalesce(l.media, b.media) AS media,
    coalesce(l.duration_ms, b.duration_ms) AS duration_ms, has_link, coalesce(l.language, b.language) AS language,
    coalesce(l.topics, b.topics) AS topics,
    list_sort(list_concat(list_filter(b.labels, lambda x: NOT list_contains(coalesce(w.said, []), x)),
        coalesce(w.set, []))) AS labels,
    coalesce(l.is_sensitive, b.is_sensitive) AS is_sensitive, coalesce(l.is_deleted, b.is_deleted) AS is_deleted,
    created_offset, coalesce(l.changed_offset, b.changed_offset) AS changed_offset
FROM base b LEFT JOIN last l USING (post_id) LEFT JOIN labelled w USING (post_id)
"""


class PostFold:
    """Folds raw events into ``post_metadata``.

    Parameters
    ----------
    codec
        Knows the events' topics.
    """

    def __init__(self, codec: EventCodec) -> None:
        topic = {kind: codec.registry.by_name(kind.__name__).topic for kind in _SHAPES}
        self._reads = [
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT log_offset, "  # noqa: S608 - our own names
            f"greatest(least(event_time_ms, appended_ms), 0) AS time_ms, json_transform(payload, '{shape}') AS p "
            f"FROM raw WHERE topic = '{topic[kind]}' AND type = '{kind.__name__}' AND log_offset >= $first "
            "AND log_offset < $end"
            for kind, (name, shape) in _SHAPES.items()
        ]

    def fold(self, bench: Workbench, first: int, end: int) -> set[str]:
        """Fold the events between two log offsets (view ``raw``); return the days on which new posts were created."""
        db = bench.db
        for query in self._reads:
            db.execute(query, {"first": first, "end": end})
        db.execute(f"CREATE OR REPLACE TEMP TABLE changes AS {_CHANGES}")
        table = bench.view(POST_METADATA)
        told = "SELECT p.post_id FROM read_posts UNION SELECT post_id FROM changes"
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE old_posts AS SELECT * FROM {table} WHERE post_id IN ({told})"  # noqa: S608
        )
        floor = bench.manifest.floors.get(POST_METADATA.name, "")
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE base AS SELECT * EXCLUDE (dt) FROM old_posts "  # noqa: S608 - our own names
            f"UNION ALL BY NAME SELECT * FROM ({_NEW}) WHERE {DAY.format('created_ms')} >= '{floor}'"
        )
        days = _column(db, f"SELECT DISTINCT {DAY.format('created_ms')} FROM base")  # noqa: S608
        if not days:
            return set()
        new_days = _column(
            db,
            f"SELECT DISTINCT {DAY.format('created_ms')} FROM base WHERE created_offset >= {first}",  # noqa: S608
        )
        bench.view(POST_METADATA, lambda file: file.day in days)
        bench.replace(
            POST_METADATA,
            [f"dt={day}" for day in days],
            f"SELECT * REPLACE (strftime(dt, '%Y-%m-%d') AS dt) FROM {table} ANTI JOIN base USING (post_id) "  # noqa: S608
            f"UNION ALL BY NAME SELECT *, {DAY.format('created_ms')} AS dt FROM ({_FOLDED}) ORDER BY created_offset",
        )
        return new_days


def forget_author(bench: Workbench, user: str, before: int) -> int:
    """Remove a user's posts of before a log offset, and their name from answers; return how many posts."""
    table = bench.view(POST_METADATA)
    is_theirs = "author_id = $user AND created_offset < $before"
    about = {"user": user, "before": before}
    days = _column(
        bench.db,
        f"SELECT DISTINCT strftime(dt, '%Y-%m-%d') FROM {table} "  # noqa: S608 - our own names
        f"WHERE ({is_theirs}) OR parent_author_id = $user",
        about,
    )
    if not days:
        return 0
    bench.view(POST_METADATA, lambda file: file.day in days)
    bench.db.execute(
        f"CREATE OR REPLACE TEMP TABLE kept_posts AS SELECT * REPLACE ("  # noqa: S608 - our own names
        "CASE WHEN parent_author_id = $user AND changed_offset < $before THEN NULL ELSE parent_author_id END "
        f"AS parent_author_id, strftime(dt, '%Y-%m-%d') AS dt) FROM {table} WHERE NOT ({is_theirs})",
        about,
    )
    n_before = sum(file.n_rows for file in bench.manifest.of(POST_METADATA.name) if file.day in days)
    return n_before - bench.replace(POST_METADATA, [f"dt={day}" for day in days], "FROM kept_posts")


def _column(db: Any, query: str, values: dict[str, object] | None = None) -> set[str]:
    return {row[0] for row in db.execute(query, values or {}).fetchall()}
