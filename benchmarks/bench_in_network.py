"""In-network retrieval: the newest 500 posts of 1,000 followed authors, of 100k authors and 1M posts.

Four fifths of the posts are originals, the others reposts and replies; of the replies half answer an original, a third
another reply, the rest a post that is not here. All three contenders apply the same rules: no repost of the viewer's
own posts, and of the replies those that `millrace.stores.post_reads.is_eligible` lets through. Ours is the real
`PostStore` (rings and a k-way merge in Numba). Baselines, both with the same posts and asked in turns:

* ``sqlite``: a WITHOUT ROWID table clustered by (author, newest first) and a covering index by post for the parents of
  replies, on disk with everything cached; the follows lie in a table clustered by viewer, filled outside the timing;
* ``redis``: one list per author, newest first, trimmed as our rings are, and one value per post that somebody replied
  to; one pipeline of 1,000 LRANGE, 41-byte members, merged by NumPy, then one MGET for the parents of the replies among
  the newest. A real server at 127.0.0.1:6379, redis-py with hiredis.

All viewers' answers are compared first. Then everybody answers ten viewers in a row, and it is the next one's turn;
``ours_cold_ms`` is the median of our first answers of a turn, with the processor's caches full of the others' data.

Ingest is measured through `PostStore.ingest` into an empty store, its growth included, in batches of 10,000.
"""

from __future__ import annotations

import sqlite3
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness import emit, interleave, median_ms, note, percentile_ms, redis_client, without_options
from millrace.base.ids import IdHasher
from millrace.mixer.kinds import ORIGINAL, REPLY, REPOST
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.post_store import PostColumns, PostStore

N_AUTHORS: Final = 100_000
N_POSTS: Final = 1_000_000
N_FOLLOWS: Final = 1_000
MAX_POSTS: Final = 500
N_VIEWERS: Final = 60
N_PER_TURN: Final = 10
NOW_MS: Final = 1_800_000_000_000
DAY_MS: Final = 86_400_000
VIEWER_ID: Final = 1
REDIS_COLUMNS: Final = ("created_ms", "post_id", "parent_id", "parent_author_id", "conversation_id")
REDIS_MEMBER: Final = np.dtype([*((name, "<i8") for name in REDIS_COLUMNS), ("kind", "i1")])
REDIS_PARENT: Final = struct.Struct("<bqq")
"""Kind, author and parent of a post that is replied to."""
CONFIG: Final = StoresConfig()
# One query; sorting first and looking for parents only until there is enough takes more than twice as long.
SQLITE_QUERY: Final = f"""
    SELECT p.post_id FROM follows AS f CROSS JOIN posts AS p ON p.author_id = f.author_id
    WHERE f.viewer = :viewer AND p.created_ms >= :oldest_ms
      AND (p.kind != {REPOST} OR p.parent_author_id != :viewer_id)
      AND (p.kind != {REPLY} OR EXISTS (
        SELECT 1 FROM posts AS q WHERE q.post_id = p.parent_id AND (
          q.kind NOT IN ({REPLY}, {REPOST}) OR q.kind = {REPLY} AND q.parent_id = p.conversation_id
          AND EXISTS (SELECT 1 FROM follows AS g WHERE g.viewer = :viewer AND g.author_id = q.author_id))))
    ORDER BY p.created_ms DESC, p.post_id LIMIT :max_posts
"""


def a_world(rng: np.random.Generator) -> PostColumns:
    """Return 1M posts over two days, Zipf-like per author but within our rings' bounds, so that all hold the same."""
    shares = np.arange(1, N_AUTHORS + 1) ** -0.6
    shares /= shares.sum()
    limits = (CONFIG.max_originals_per_author, CONFIG.max_secondary_per_author)
    parts = []
    for n, limit in ((N_POSTS * 8 // 10, limits[0]), (N_POSTS * 2 // 10, limits[1])):
        counts = np.zeros(N_AUTHORS, dtype=np.int64)
        while (missing := n - int(counts.sum())) > 0:
            is_open = counts < limit
            counts += rng.multinomial(missing, shares * is_open / (shares * is_open).sum())
            counts = np.minimum(counts, limit)
        parts.append(np.repeat(np.arange(N_AUTHORS), counts))
    author_ids = np.unique(rng.integers(1, 2**62, N_AUTHORS * 2))[:N_AUTHORS]
    rng.shuffle(author_ids)
    order = rng.permutation(N_POSTS)
    authors = author_ids[np.concatenate(parts)[order]]
    post_ids = np.unique(rng.integers(1, 2**62, N_POSTS + 1_000))[:N_POSTS]
    rng.shuffle(post_ids)
    is_secondary = np.repeat((False, True), [len(part) for part in parts])[order]
    kinds = np.where(is_secondary, np.where(rng.random(N_POSTS) < 0.5, REPLY, REPOST), ORIGINAL).astype(np.int8)
    parents, conversations = the_threads(rng, post_ids, kinds)
    parent_authors = np.where(parents >= 0, authors[parents], author_ids[rng.integers(0, N_AUTHORS, N_POSTS)])
    return PostColumns(
        post_id=post_ids,
        author_id=authors,
        created_ms=NOW_MS - 2 * DAY_MS + np.sort(rng.integers(1, 2 * DAY_MS, N_POSTS)),
        kind=kinds,
        parent_id=np.where(is_secondary, np.where(parents >= 0, post_ids[parents], rng.integers(1, 2**62, N_POSTS)), 0),
        parent_author_id=np.where(is_secondary, parent_authors, 0),
        conversation_id=conversations,
        has_video=np.zeros(N_POSTS, dtype=bool),
        duration_ms=np.zeros(N_POSTS, dtype=np.int32),
        is_sensitive=np.zeros(N_POSTS, dtype=bool),
        language=np.ones(N_POSTS, dtype=np.int32),
        topics=np.ones((N_POSTS, 3), dtype=np.int32),
    )


def the_threads(rng: np.random.Generator, post_ids: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for every post the row of its parent (-1: not here) and its conversation (0: the post itself)."""
    parents = np.full(N_POSTS, -1, dtype=np.int64)
    conversations = np.zeros(N_POSTS, dtype=np.int64)
    replies = np.flatnonzero(kinds == REPLY)
    answered = rng.choice(("original", "reply", "missing"), len(replies), p=(1 / 2, 1 / 3, 1 / 6))
    roots, own = replies[answered == "original"], replies[answered == "reply"]
    originals = np.flatnonzero(kinds == ORIGINAL)
    parents[roots] = older(rng, originals, roots)
    conversations[roots] = np.where(parents[roots] >= 0, post_ids[parents[roots]], 0)
    parents[own] = older(rng, roots, own)
    # Two thirds answer a direct reply to the root of the thread; the rest are deeper or lost their thread.
    is_near = (parents[own] >= 0) & (rng.random(len(own)) < 2 / 3)
    conversations[own] = np.where(is_near, conversations[parents[own]], post_ids[own])
    return parents, conversations


def older(rng: np.random.Generator, pool: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return for every row one of the pool's rows before it, -1 where there is none."""
    n_before = np.searchsorted(pool, rows)
    return np.where(n_before > 0, pool[(rng.random(len(rows)) * n_before).astype(np.int64)], -1)


def build_ours(posts: PostColumns, batch: int = 10_000) -> tuple[PostStore, float]:
    """Return the store and the seconds of its ingest."""
    pieces = [PostColumns(*(column[i : i + batch] for column in posts)) for i in range(0, len(posts.post_id), batch)]
    store = PostStore(CONFIG, IdHasher(), CodeTables(CONFIG))
    start = time.perf_counter()
    for piece in pieces:
        store.ingest(piece)
    return store, time.perf_counter() - start


def build_sqlite(folder: Path, posts: PostColumns, viewers: list[np.ndarray]) -> sqlite3.Connection:
    """Return a connection to the posts and the viewers' follows."""
    base = sqlite3.connect(folder / "posts.db")
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=OFF")
    base.execute("PRAGMA cache_size=-1000000")
    base.execute("PRAGMA mmap_size=2000000000")
    base.execute("PRAGMA temp_store=MEMORY")
    base.execute(
        "CREATE TABLE posts (author_id INTEGER, created_ms INTEGER, post_id INTEGER, kind INTEGER, parent_id INTEGER, "
        "parent_author_id INTEGER, conversation_id INTEGER, "
        "PRIMARY KEY (author_id, created_ms DESC, post_id)) WITHOUT ROWID"
    )
    order = np.lexsort((posts.post_id, -posts.created_ms, posts.author_id))
    columns = (posts.author_id, posts.created_ms, posts.post_id, posts.kind, posts.parent_id, posts.parent_author_id)
    rows = zip(*(column[order].tolist() for column in (*columns, posts.conversation_id)), strict=True)
    base.executemany("INSERT INTO posts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    base.execute("CREATE INDEX posts_by_id ON posts (post_id, kind, parent_id, author_id)")
    base.execute(
        "CREATE TABLE follows (viewer INTEGER, author_id INTEGER, PRIMARY KEY (viewer, author_id)) WITHOUT ROWID"
    )
    for viewer, followed in enumerate(viewers):
        base.executemany("INSERT INTO follows VALUES (?, ?)", ((viewer, author) for author in followed.tolist()))
    base.commit()
    base.execute("ANALYZE")
    base.execute("SELECT sum(post_id & 1) FROM posts").fetchone()
    return base


def build_redis(client: Any, posts: PostColumns) -> None:
    """Fill one list per author, newest first, and one value per post that is replied to."""
    members = np.empty(N_POSTS, dtype=REDIS_MEMBER)
    order = np.lexsort((posts.post_id, -posts.created_ms, posts.author_id))
    for name in REDIS_MEMBER.names or ():
        members[name] = getattr(posts, name)[order]
    authors, starts = np.unique(posts.author_id[order], return_index=True)
    ends = [*starts[1:].tolist(), N_POSTS]
    data, size = members.tobytes(), REDIS_MEMBER.itemsize
    pipe = client.pipeline(transaction=False)
    for i, (author, start, end) in enumerate(zip(authors.tolist(), starts.tolist(), ends, strict=True)):
        pipe.rpush(b"a%d" % author, *(data[k * size : (k + 1) * size] for k in range(start, end)))
        if i % 2_000 == 1_999:
            pipe.execute()
    pipe.execute()
    rows = np.flatnonzero(np.isin(posts.post_id, posts.parent_id[posts.kind == REPLY]))
    facts = (posts.post_id, posts.kind, posts.author_id, posts.parent_id)
    found = list(zip(*(column[rows].tolist() for column in facts), strict=True))
    for i in range(0, len(found), 10_000):
        client.mset({b"p%d" % post: REDIS_PARENT.pack(*fact) for post, *fact in found[i : i + 10_000]})


def read_redis(client: Any, keys: list[bytes], followed: set[int], oldest_ms: int) -> list[int]:
    """Return the newest eligible post ids of some authors' lists."""
    pipe = client.pipeline(transaction=False)
    last = CONFIG.max_originals_per_author + CONFIG.max_secondary_per_author - 1
    for key in keys:
        pipe.lrange(key, 0, last)
    members = np.frombuffer(b"".join([member for found in pipe.execute() for member in found]), dtype=REDIS_MEMBER)
    created = members["created_ms"]
    is_mine = (members["kind"] == REPOST) & (members["parent_author_id"] == VIEWER_ID)
    rows = np.flatnonzero((created >= oldest_ms) & ~is_mine)
    enough = (
        MAX_POSTS * 5 // 4
    )  # replies that are left out must leave a full page; where they do not, all are looked at
    while True:
        newest = rows
        if len(rows) > enough:
            kth = np.partition(created[rows], len(rows) - enough)[len(rows) - enough]
            newest = rows[created[rows] >= kth]
        found = members[newest[np.lexsort((members["post_id"][newest], -created[newest]))]]
        is_kept = np.ones(len(found), dtype=bool)
        replies = np.flatnonzero(found["kind"] == REPLY)
        if len(replies):
            parents = client.mget([b"p%d" % parent for parent in found["parent_id"][replies].tolist()])
            conversations = found["conversation_id"][replies].tolist()
            is_kept[replies] = [
                is_reply_kept(parent, conversation, followed)
                for parent, conversation in zip(parents, conversations, strict=True)
            ]
        kept: list[int] = found["post_id"][is_kept][:MAX_POSTS].tolist()
        if len(kept) == MAX_POSTS or len(newest) == len(rows):
            return kept
        enough = len(rows)


def is_reply_kept(parent: bytes | None, conversation: int, followed: set[int]) -> bool:
    if parent is None:
        return False
    kind, author, parent_of_parent = REDIS_PARENT.unpack(parent)
    if kind not in (REPLY, REPOST):
        return True
    return kind == REPLY and parent_of_parent == conversation and author in followed


def main() -> None:
    rng = np.random.default_rng(7)
    note("in-network: building 1M posts")
    posts = a_world(rng)
    authors = np.unique(posts.author_id)
    viewers = [rng.choice(authors, N_FOLLOWS, replace=False) for _ in range(N_VIEWERS)]
    client = redis_client()
    build_ours(PostColumns(*(column[:20_000] for column in posts)))  # compilation is not ingest
    built = [build_ours(posts) for _ in range(3)]
    ours, ingest_s = built[0][0], float(np.median([seconds for _, seconds in built]))
    del built
    max_age_ms = CONFIG.post_retention_ms
    oldest_ms = NOW_MS - max_age_ms

    with tempfile.TemporaryDirectory() as folder:
        note("in-network: filling SQLite and Redis")
        base = build_sqlite(Path(folder), posts, viewers)
        build_redis(client, posts)
        keys = [[b"a%d" % author for author in followed.tolist()] for followed in viewers]
        followed_sets = [set(followed.tolist()) for followed in viewers]

        def ask_ours(i: int) -> np.ndarray:
            rows = ours.newest(
                viewers[i % N_VIEWERS], viewer_id=VIEWER_ID, now_ms=NOW_MS, max_age_ms=max_age_ms, max_posts=MAX_POSTS
            )
            return ours.post_ids(rows)

        def ask_sqlite(i: int) -> list[int]:
            asked = {"viewer": i % N_VIEWERS, "oldest_ms": oldest_ms, "viewer_id": VIEWER_ID, "max_posts": MAX_POSTS}
            return [row[0] for row in base.execute(SQLITE_QUERY, asked)]

        def ask_redis(i: int) -> list[int]:
            return read_redis(client, keys[i % N_VIEWERS], followed_sets[i % N_VIEWERS], oldest_ms)

        answers = [ask_ours(i).tolist() for i in range(N_VIEWERS)]
        equal = all(answers[i] == ask_sqlite(i) == ask_redis(i) for i in range(N_VIEWERS))
        equal = equal and all(len(answer) == MAX_POSTS for answer in answers)
        kept = ours.gather(ours.find(np.concatenate([np.array(answer) for answer in answers])))
        # Both halves of the rule for replies are met: some pass because they answer an original, some a followed reply.
        parent_rows = ours.find(kept.parent_id[kept.kind == REPLY])
        n_to_originals = int((ours.gather(parent_rows).kind == ORIGINAL).sum())
        n_to_replies = len(parent_rows) - n_to_originals
        equal = equal and n_to_originals > 0 and n_to_replies > 0
        note("in-network: asking in turns")
        seconds = interleave(
            {"ours": ask_ours, "sqlite": ask_sqlite, "redis": ask_redis}, n_rounds=30, n_warmup=2, n_per_turn=N_PER_TURN
        )
        base.close()
    client.flushdb()
    ours_ms = median_ms(seconds["ours"])
    emit(
        "in-network",
        equal=equal,
        ratio={name: median_ms(seconds[name]) / ours_ms for name in ("sqlite", "redis")},
        ours_ms=ours_ms,
        ours_p95_ms=percentile_ms(seconds["ours"], 95),
        ours_cold_ms=median_ms(seconds["ours"][::N_PER_TURN]),
        sqlite_ms=median_ms(seconds["sqlite"]),
        redis_ms=median_ms(seconds["redis"]),
        ingest_per_s=N_POSTS / ingest_s,
        bytes_per_post=ours.n_bytes / ours.n_posts,
        n_posts=ours.n_posts,
        n_replies_to_originals=n_to_originals,
        n_replies_to_replies=n_to_replies,
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
