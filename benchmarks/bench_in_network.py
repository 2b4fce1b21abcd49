"""In-network retrieval: the newest 500 posts of 1,000 followed authors, of 100k authors and 1M posts.

Ours is the real `PostStore` (rings and a k-way merge in Numba). Baselines, both with the same posts and asked in turns:

* ``sqlite``: a WITHOUT ROWID table clustered by (author, newest first), on disk with everything cached; the follows go
  into an indexed temporary table once per viewer, outside the timing, as a follow table would hold them;
* ``redis``: one list per author, newest first, trimmed as our rings are; one pipeline of 1,000 LRANGE, 16-byte members,
  merged by NumPy. A real server at 127.0.0.1:6379, redis-py with hiredis.

Everybody answers ten viewers in a row, then it is the next one's turn; ``ours_cold_ms`` is the median of our first
answers of a turn, with the processor's caches full of the others' data.

Ingest is measured through `PostStore.ingest` into an empty store, its growth included, in batches of 10,000.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness import emit, interleave, median_ms, note, percentile_ms, redis_client
from millrace.base.ids import IdHasher
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
REDIS_MEMBER: Final = np.dtype([("created_ms", "<i8"), ("post_id", "<i8")])
CONFIG: Final = StoresConfig()
SQLITE_QUERY: Final = """
    SELECT p.post_id FROM follows AS f CROSS JOIN posts AS p ON p.author_id = f.author_id
    WHERE f.viewer = ? AND p.created_ms >= ? AND (p.kind != 2 OR p.parent_author_id != ?)
    ORDER BY p.created_ms DESC, p.post_id LIMIT ?
"""


def a_world(rng: np.random.Generator) -> PostColumns:
    """Return 1M posts over two days, Zipf-like per author but within our rings' bounds, so that all hold the same."""
    shares = np.arange(1, N_AUTHORS + 1) ** -0.6
    shares /= shares.sum()
    limits = (CONFIG.max_originals_per_author, CONFIG.max_secondary_per_author)
    parts = []
    for n, limit, kind in ((N_POSTS * 8 // 10, limits[0], 0), (N_POSTS * 2 // 10, limits[1], 2)):
        counts = np.zeros(N_AUTHORS, dtype=np.int64)
        while (missing := n - int(counts.sum())) > 0:
            is_open = counts < limit
            counts += rng.multinomial(missing, shares * is_open / (shares * is_open).sum())
            counts = np.minimum(counts, limit)
        parts.append((np.repeat(np.arange(N_AUTHORS), counts), np.full(n, kind, dtype=np.int8)))
    author_ids = np.unique(rng.integers(1, 2**62, N_AUTHORS * 2))[:N_AUTHORS]
    rng.shuffle(author_ids)
    order = rng.permutation(N_POSTS)
    authors = author_ids[np.concatenate([part[0] for part in parts])[order]]
    kinds = np.concatenate([part[1] for part in parts])[order]
    post_ids = np.unique(rng.integers(1, 2**62, N_POSTS + 1_000))[:N_POSTS]
    rng.shuffle(post_ids)
    zeros = np.zeros(N_POSTS, dtype=np.int64)
    return PostColumns(
        post_id=post_ids,
        author_id=authors,
        created_ms=NOW_MS - 2 * DAY_MS + np.sort(rng.integers(1, 2 * DAY_MS, N_POSTS)),
        kind=kinds,
        parent_id=np.where(kinds == 2, rng.integers(1, 2**62, N_POSTS), 0),
        parent_author_id=np.where(kinds == 2, author_ids[rng.integers(0, N_AUTHORS, N_POSTS)], 0),
        conversation_id=zeros,
        has_video=np.zeros(N_POSTS, dtype=bool),
        duration_ms=zeros.astype(np.int32),
        is_sensitive=np.zeros(N_POSTS, dtype=bool),
        language=np.ones(N_POSTS, dtype=np.int32),
        topics=np.ones((N_POSTS, 3), dtype=np.int32),
    )


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
        "CREATE TABLE posts (author_id INTEGER, created_ms INTEGER, post_id INTEGER, kind INTEGER, "
        "parent_author_id INTEGER, PRIMARY KEY (author_id, created_ms DESC, post_id)) WITHOUT ROWID"
    )
    order = np.lexsort((posts.post_id, -posts.created_ms, posts.author_id))
    columns = (posts.author_id, posts.created_ms, posts.post_id, posts.kind, posts.parent_author_id)
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    base.executemany("INSERT INTO posts VALUES (?, ?, ?, ?, ?)", rows)
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
    """Fill one list per author, newest first."""
    members = np.empty(N_POSTS, dtype=REDIS_MEMBER)
    order = np.lexsort((posts.post_id, -posts.created_ms, posts.author_id))
    members["created_ms"], members["post_id"] = posts.created_ms[order], posts.post_id[order]
    authors, starts = np.unique(posts.author_id[order], return_index=True)
    ends = [*starts[1:].tolist(), N_POSTS]
    data, size = members.tobytes(), REDIS_MEMBER.itemsize
    pipe = client.pipeline(transaction=False)
    for i, (author, start, end) in enumerate(zip(authors.tolist(), starts.tolist(), ends, strict=True)):
        pipe.rpush(b"a%d" % author, *(data[k * size : (k + 1) * size] for k in range(start, end)))
        if i % 2_000 == 1_999:
            pipe.execute()
    pipe.execute()


def read_redis(client: Any, keys: list[bytes], oldest_ms: int) -> list[int]:
    """Return the newest post ids of some authors' lists."""
    pipe = client.pipeline(transaction=False)
    last = CONFIG.max_originals_per_author + CONFIG.max_secondary_per_author - 1
    for key in keys:
        pipe.lrange(key, 0, last)
    members = np.frombuffer(b"".join([member for found in pipe.execute() for member in found]), dtype=REDIS_MEMBER)
    created, post_ids = members["created_ms"], members["post_id"]
    rows = np.flatnonzero(created >= oldest_ms)
    if len(rows) > MAX_POSTS:
        kth = np.partition(created[rows], len(rows) - MAX_POSTS)[len(rows) - MAX_POSTS]
        rows = rows[created[rows] >= kth]
    order = np.lexsort((post_ids[rows], -created[rows]))
    return post_ids[rows[order[:MAX_POSTS]]].tolist()


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

        def ask_ours(i: int) -> np.ndarray:
            rows = ours.newest(
                viewers[i % N_VIEWERS], viewer_id=VIEWER_ID, now_ms=NOW_MS, max_age_ms=max_age_ms, max_posts=MAX_POSTS
            )
            return ours.post_ids(rows)

        def ask_sqlite(i: int) -> list[int]:
            found = base.execute(SQLITE_QUERY, (i % N_VIEWERS, oldest_ms, VIEWER_ID, MAX_POSTS)).fetchall()
            return [row[0] for row in found]

        def ask_redis(i: int) -> list[int]:
            return read_redis(client, keys[i % N_VIEWERS], oldest_ms)

        equal = all(ask_ours(i).tolist() == ask_sqlite(i) == ask_redis(i) for i in range(0, N_VIEWERS, 3))
        equal = equal and len(ask_ours(0)) == MAX_POSTS
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
    )


if __name__ == "__main__":
    main()
