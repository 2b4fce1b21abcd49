"""The streaming join in memory, beside a dictionary and SQLite that join the same.

A page with features of 35 posts, 30 impressions of it and 3 engagements are 34 events; pages come from 20,000 viewers
over six hours, so that windows (20 minutes, 30 more for disorder) open and close all along. A third of the engagements
name no request, one in thirty comes after its row is out, one in ten takes another back, and one event in fifty comes
twice. Both read the same decoded, hashed columns in batches of 4,096 and are asked for what is due after each.

The baseline ``dict_sqlite`` is what a good engineer would write in an afternoon: pages in a dictionary, looks and
actions in SQLite (in memory, indexed, one transaction a batch), what is due and what belongs to it by SQL. It lets out
one revision a batch where ours lets out one a change. The newest revisions must be equal before anything is timed.

``durable_per_s`` is the whole process on an SQLite log (`durable_join`), by real time, its samples checked against
those of the join in memory; ``redis_per_s`` is the same on a log of Redis Streams (a server of its own that waits for
its disk at every append), null where there is no ``redis-server``.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import durable_join
import harness
from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import IdHasher
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_columns import DEED, LOOK, OTHER, PAGE, JoinColumns
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_rows import JoinedRows
from millrace.stores.engagement_config import DwellThresholds

N_PAGES = 30_000
N_PAGES_BASELINE = 3_000
ITEMS, LOOKS, DEEDS = 35, 30, 3
SPAN_MS = 6 * 3_600_000
NOW_MS = 1_800_000_000_000
BATCH = 4_096
ROUNDS = 5

Row = tuple[int, ...]


def make_columns(n_pages: int, span_ms: int, seed: int = 7) -> JoinColumns:
    """Return the records of so many pages in the order of their arrival."""
    rng = np.random.default_rng(seed)
    n = 1 + LOOKS + DEEDS
    page_ms = NOW_MS + np.sort(rng.integers(0, span_ms, n_pages))
    posts = (rng.zipf(1.2, (n_pages, ITEMS)) % 100_000 + 1) * 64 + np.arange(ITEMS)  # no post twice on a page
    kinds = np.tile(np.repeat([PAGE, LOOK, DEED], [1, LOOKS, DEEDS]), n_pages)
    table = np.zeros((6, n_pages, n), dtype=np.int64)
    times, requests, of, dwells, positions, codes = table
    times[:, 0] = page_ms
    times[:, 1 : 1 + LOOKS] = page_ms[:, None] + 1_000 + np.cumsum(rng.integers(500, 9_000, (n_pages, LOOKS)), axis=1)
    seen = rng.integers(0, LOOKS, (n_pages, DEEDS))
    rows = np.arange(n_pages)[:, None]
    delays = np.where(rng.random((n_pages, DEEDS)) < 1 / 30, 5_000_000, rng.integers(500, 30_000, (n_pages, DEEDS)))
    times[:, 1 + LOOKS :] = times[rows, 1 + seen] + delays
    requests[:] = (np.arange(n_pages) + 1)[:, None]
    requests[:, 1 + LOOKS :][rng.random((n_pages, DEEDS)) < 1 / 3] = 0
    of[:, 1 : 1 + LOOKS], of[:, 1 + LOOKS :] = posts[:, :LOOKS], posts[rows, seen]
    dwells[:, 1 : 1 + LOOKS] = rng.integers(0, 9_000, (n_pages, LOOKS))
    positions[:] = -1
    positions[:, 1 : 1 + LOOKS] = np.arange(LOOKS)
    codes[:] = rng.integers(0, int(Action.DWELL), (n_pages, n))
    viewers = np.repeat(rng.integers(1, 20_000, n_pages), n)
    flags = (rng.random(n_pages * n) < 0.1).astype(np.uint8)
    # On the way some are held up, and some are sent twice.
    flat = table.reshape(6, -1)
    again = np.flatnonzero((rng.random(n_pages * n) < 0.02) & (kinds != PAGE))
    arrived = flat[0] + rng.integers(0, 60_000, n_pages * n)
    order = np.concatenate([np.arange(n_pages * n), again])
    order = order[np.argsort(np.concatenate([arrived, arrived[again] + 5_000]), kind="stable")]
    pages = order[kinds[order] == PAGE] // n
    return JoinColumns(
        kinds=kinds[order].astype(np.uint8),
        offsets=np.arange(len(order), dtype=np.int64),
        times_ms=flat[0][order],
        viewers=viewers[order],
        requests=flat[1][order],
        posts=flat[2][order],
        dwells_ms=flat[3][order],
        positions=flat[4][order],
        codes=flat[5][order].astype(np.int32),
        flags=flags[order],
        page_starts=np.arange(len(pages) + 1, dtype=np.int64) * ITEMS,
        page_posts=np.ascontiguousarray(posts[pages].ravel()),
    )


def closing(columns: JoinColumns, config: JoinConfig) -> JoinColumns:
    """Return what ends a log: a few records from when all windows are over."""
    n = config.n_witnesses
    none = np.zeros(n, dtype=np.int64)
    return JoinColumns(
        kinds=np.full(n, OTHER, dtype=np.uint8),
        offsets=len(columns) + np.arange(n),
        times_ms=np.full(n, int(columns.times_ms.max()) + 2 * 3_600_000),
        viewers=none,
        requests=none,
        posts=none,
        dwells_ms=none,
        positions=none,
        codes=none.astype(np.int32),
        flags=none.astype(np.uint8),
        page_starts=np.zeros(1, dtype=np.int64),
        page_posts=none[:0],
    )


def batches_of(columns: JoinColumns, config: JoinConfig) -> list[JoinColumns]:
    """Return the log as batches."""
    return [*(columns.slice(i, i + BATCH) for i in range(0, len(columns), BATCH)), closing(columns, config)]


def join_ours(batches: list[JoinColumns], config: JoinConfig) -> list[JoinedRows]:
    """Join with ours."""
    join = StreamJoin(IdHasher(), ActionSpace(), config=config)
    found = []
    for batch in batches:
        join.hear_columns(batch)
        found.append(join.let_out())
    return found


class DictSqliteJoin:
    """The baseline: pages in a dictionary, looks and actions in SQLite."""

    def __init__(self, config: JoinConfig, dwell: DwellThresholds) -> None:
        self.config, self.dwell = config, dwell
        self.pages: dict[tuple[int, int], tuple[int, dict[int, int]]] = {}
        self.newest = {PAGE: [0], LOOK: [0] * config.n_witnesses, OTHER: [0] * config.n_witnesses}
        self.watermark_ms = 0
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(
            """
            CREATE TABLE looks (id INTEGER PRIMARY KEY, viewer INT, post INT, request INT, began INT, dwell INT,
                position INT, complete INT, due INT, is_out INT DEFAULT 0, UNIQUE (viewer, post, request));
            CREATE INDEX looks_due ON looks (due) WHERE is_out = 0;
            CREATE TABLE deeds (viewer INT, post INT, request INT, time INT, action INT, is_undo INT,
                UNIQUE (viewer, post, request, time, action, is_undo)) ;
            CREATE TEMP TABLE told (id INTEGER PRIMARY KEY);
            """
        )

    def hear(self, batch: JoinColumns) -> list[Row]:
        """Take in a batch and return what is out."""
        looks, deeds, window_ms = [], [], self.config.window_ms
        starts, items, page = batch.page_starts.tolist(), batch.page_posts.tolist(), 0
        columns = (batch.kinds, batch.times_ms, batch.viewers, batch.requests, batch.posts, batch.dwells_ms)
        more = (batch.positions, batch.codes, batch.flags)
        newest = {kind: list(times) for kind, times in self.newest.items()}
        for kind, at, viewer, request, post, dwell, position, code, flag in zip(
            *(c.tolist() for c in columns + more), strict=True
        ):
            if kind == PAGE:
                posts = items[starts[page] : starts[page + 1]]
                page += 1
                self.pages.setdefault((viewer, request), (at, {p: row for row, p in enumerate(posts)}))
                newest[PAGE].append(at)
            elif kind == LOOK:
                began = at - min(dwell, self.dwell.max_ms)
                looks.append((viewer, post, request, began, dwell, position, flag, (began + window_ms) // 1000 + 1))
                newest[LOOK].append(at)
            elif kind == DEED:
                deeds.append((viewer, post, request, at, code, flag))
                newest[LOOK].append(at)
            else:
                newest[OTHER].append(at)
        self.newest = {kind: sorted(times)[-len(self.newest[kind]) :] for kind, times in newest.items()}
        others = self.newest[OTHER][0]
        reached = min(max(self.newest[PAGE][0], others), max(self.newest[LOOK][0], others))
        self.watermark_ms = max(self.watermark_ms, reached - self.config.out_of_order_ms)
        return list(self.join(looks, deeds))

    def join(self, looks: Sequence[Row], deeds: Sequence[Row]) -> Iterator[Row]:
        """Write what is new, then read what is due or has changed."""
        execute, many = self.db.execute, self.db.executemany
        execute("BEGIN")
        many(
            "INSERT INTO looks (viewer, post, request, began, dwell, position, complete, due) VALUES (?,?,?,?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET began = min(began, excluded.began), dwell = max(dwell, excluded.dwell), "
            "complete = max(complete, excluded.complete), position = min(position, excluded.position)",
            looks,
        )
        many("INSERT OR IGNORE INTO deeds VALUES (?,?,?,?,?,?)", deeds)
        execute("DELETE FROM told")
        cursor = self.watermark_ms // 1000
        execute("INSERT INTO told SELECT id FROM looks WHERE is_out = 0 AND due <= ?", (cursor,))
        touched = {(row[0], row[1]) for row in looks} | {(row[0], row[1]) for row in deeds}
        again = "INSERT OR IGNORE INTO told SELECT id FROM looks WHERE viewer = ? AND post = ? AND is_out = 1"
        many(again, list(touched))
        execute("UPDATE looks SET is_out = 1 WHERE id IN told")
        words: dict[int, dict[int, int]] = {}
        found = execute(
            "SELECT l.id, d.action, max(d.time * 2 + d.is_undo) FROM told JOIN looks l USING (id) "
            "JOIN deeds d ON d.viewer = l.viewer AND d.post = l.post WHERE l.id = coalesce("
            "(SELECT k.id FROM looks k WHERE k.viewer = d.viewer AND k.post = d.post AND k.request = d.request "
            "AND d.request <> 0 AND abs(d.time - k.began) <= :late), "
            "(SELECT k.id FROM looks k WHERE k.viewer = d.viewer AND k.post = d.post "
            "AND d.time - k.began BETWEEN 0 AND :late ORDER BY k.began DESC, k.request DESC LIMIT 1)) "
            "GROUP BY l.id, d.action",
            {"late": self.config.late_ms},
        )
        for look, action, word in found:
            words.setdefault(look, {})[action] = word
        rows = execute(
            "SELECT l.id, l.request, l.viewer, l.post, l.began, l.dwell, l.position, l.complete "
            "FROM told JOIN looks l USING (id)"
        ).fetchall()
        execute("COMMIT")
        for look, request, viewer, post, began, dwell, position, complete in rows:
            page_ms, posts = self.pages.get((viewer, request), (0, {}))
            if post in posts:
                held = sum(1 << action for action, word in words.get(look, {}).items() if not word & 1)
                held |= (dwell < self.dwell.short_ms) << int(Action.NOT_DWELLED)
                held |= (dwell > self.dwell.valid_ms) << int(Action.DWELL)
                held |= complete << int(Action.COMPLETE)
                yield request, viewer, post, held, dwell, position, began, page_ms, posts[post]


def join_baseline(batches: list[JoinColumns], config: JoinConfig) -> list[list[Row]]:
    """Join with the baseline."""
    join = DictSqliteJoin(config, DwellThresholds())
    return [join.hear(batch) for batch in batches]


def newest_of_ours(found: list[JoinedRows]) -> dict[Row, Row]:
    """Return the newest revisions by key."""
    newest: dict[Row, Row] = {}
    for out in found:
        bits = out.labels.astype(np.int64).clip(0, 1)
        bits[:, Action.DWELL_TIME] = 0
        held = (bits << np.arange(bits.shape[1])).sum(axis=1)
        dwells = np.round(out.labels[:, Action.DWELL_TIME].astype(np.float64) * 1000).astype(np.int64)
        columns: list[Any] = [out.requests, out.viewers, out.posts, held, dwells, out.positions, out.looked_ms]
        for row in zip(*(c.tolist() for c in [*columns, out.page_ms, out.page_rows]), strict=True):
            newest[row[:3]] = row
    return newest


def main() -> None:
    config = JoinConfig()
    harness.note("making events")
    batches = batches_of(make_columns(N_PAGES, SPAN_MS), config)
    # The baseline is asked less, or it would take minutes a round; ours is measured on that too, for the ratio.
    fewer = batches_of(make_columns(N_PAGES_BASELINE, SPAN_MS), config)
    ours = newest_of_ours(join_ours(fewer, config))
    theirs = {row[:3]: row for rows in join_baseline(fewer, config) for row in rows}
    is_equal = ours == theirs and len(ours) == N_PAGES_BASELINE * LOOKS
    harness.note(f"{len(ours)} rows are equal: {is_equal}")
    seconds = harness.interleave(
        {
            "ours": lambda _: join_ours(batches, config),
            "ours_fewer": lambda _: join_ours(fewer, config),
            "dict_sqlite": lambda _: join_baseline(fewer, config),
        },
        n_rounds=ROUNDS,
        n_warmup=1,
        clock=time.thread_time,
    )
    median_s = {name: float(np.median(times)) for name, times in seconds.items()}
    n_events, n_fewer = (sum(len(batch) for batch in some) for some in (batches, fewer))
    harness.note("the durable join: log, decoding, files, checkpoints")
    durable_per_s, is_durable_equal = durable_join.measured()
    redis_per_s: float | None = None
    if shutil.which("redis-server"):
        harness.note("the same on Redis Streams")
        redis_per_s, is_redis_equal = durable_join.measured(make_log=durable_join.open_redis_log)
        is_durable_equal &= is_redis_equal
    harness.emit(
        "join",
        equal=is_equal and is_durable_equal,
        ratio={"dict_sqlite": median_s["dict_sqlite"] / median_s["ours_fewer"]},
        ours_per_s=n_events / median_s["ours"],
        ours_fewer_per_s=n_fewer / median_s["ours_fewer"],
        dict_sqlite_per_s=n_fewer / median_s["dict_sqlite"],
        durable_per_s=durable_per_s,
        redis_per_s=redis_per_s,
        n_events=n_events,
        n_events_baseline=n_fewer,
        events_per_page=1 + LOOKS + DEEDS,
        batch=BATCH,
    )


if __name__ == "__main__":
    harness.without_options(__doc__)
    main()
