"""Following at scale: pull, push and the hybrid at the same reads and writes, in memory and on Redis.

100k users in a power-law follow graph (the most followed have tens of thousands of followers), two days of posts, then
one write to every fifty reads of the newest 200 posts of whom a viewer follows:

* ``pull``: nothing is done at the write; a read asks `FollowGraph` whom the viewer follows and `PostStore` for their
  newest posts. This is what the home feed does;
* ``push``: every post is written to a ring of 256 in each follower's timeline; a read copies the ring's newest end;
* ``hybrid``: authors below 10,000 followers push, the others are pulled at the read and merged in;
* ``redis_push``: push on a real Redis, one list per user, pipelined LPUSH and LTRIM, LRANGE to read. Only timelines
  that are read in the run are filled beforehand; all are pushed to.

The in-memory strategies are Numba kernels over arrays, and each has the adjacency lists that suit it. Putting the post
into the post store is common to all (somebody must hold it) and is timed once per write. Every answer of every
strategy is compared. ``pull``, ``push``, ``hybrid`` and ``redis_push`` are milliseconds per operation: all reads and
writes of the run, divided by their number; they are the cost in one process. Where several workers fold the log, each
pays every write but only its share of the reads. ``celebrity_visible_ms`` is the median time from the beginning of the
write of a post by one of the most followed authors to the end of a read that shows it to the follower served last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from harness import emit, note, percentile_ms, redis_client
from millrace.base.ids import IdHasher
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.post_store import PostColumns, PostStore

N_USERS: Final = 100_000
N_HISTORY: Final = 500_000
N_WRITES: Final = 300
READS_PER_WRITE: Final = 50
N_CELEBRITY_POSTS: Final = 7
MAX_POSTS: Final = 200
TIMELINE: Final = 256
CELEBRITY_FOLLOWERS: Final = 10_000
NOW_MS: Final = 1_800_000_000_000
DAY_MS: Final = 86_400_000
CONFIG: Final = StoresConfig()
STRATEGIES: Final = ("pull", "push", "hybrid", "redis_push")

Array = np.ndarray


@njit
def push_post(timelines: Array, n_pushed: Array, followers: Array, post: int) -> None:
    for follower in followers:
        timelines[follower, n_pushed[follower] % TIMELINE] = post
        n_pushed[follower] += 1


@njit
def push_history(
    timelines: Array, n_pushed: Array, authors: Array, posts: Array, starts: Array, followers: Array
) -> None:
    for i in range(len(posts)):
        author = authors[i]
        push_post(timelines, n_pushed, followers[starts[author] : starts[author + 1]], posts[i])


@njit
def read_timeline(timelines: Array, n_pushed: Array, user: int, max_posts: int) -> Array:
    n = min(n_pushed[user], max_posts)
    out = np.empty(n, dtype=np.int32)
    for i in range(n):
        out[i] = timelines[user, (n_pushed[user] - 1 - i) % TIMELINE]
    return out


@njit
def merge_rows(created_ms: Array, first: Array, second: Array, max_posts: int) -> Array:
    n = min(len(first) + len(second), max_posts)
    out = np.empty(n, dtype=np.int32)
    a = b = 0
    for i in range(n):
        is_first = b == len(second) or (a < len(first) and created_ms[first[a]] > created_ms[second[b]])
        out[i] = first[a] if is_first else second[b]
        a += is_first
        b += not is_first
    return out


class Post(NamedTuple):
    """A post that was just put into the post store."""

    row: int
    post_id: int


class World:
    """The graph and the posts, as every strategy gets them. User ``i`` has the id ``i + 1``."""

    def __init__(self, rng: np.random.Generator) -> None:
        popularity = np.arange(1, N_USERS + 1) ** -0.8
        popularity /= popularity.sum()
        n_follows = np.clip(rng.lognormal(np.log(35), 0.9, N_USERS), 5, 2_000).astype(np.int64)
        followers = np.repeat(np.arange(N_USERS), n_follows)
        followees = rng.permutation(N_USERS)[rng.choice(N_USERS, len(followers), p=popularity)]
        pairs = np.unique(followers * N_USERS + followees)
        followers, followees = pairs // N_USERS, pairs % N_USERS
        is_other = followers != followees
        followers, followees = followers[is_other], followees[is_other]
        self.n_edges = len(followers)
        self.n_followers = np.bincount(followees, minlength=N_USERS)
        order = np.argsort(followees, kind="stable")
        self.followers = followers[order].astype(np.int32)
        self.followers_start = np.concatenate(([0], np.cumsum(self.n_followers)))
        self.graph = FollowGraph(IdHasher())
        self.graph.ingest(followers + 1, followees + 1)
        is_celebrity = self.n_followers >= CELEBRITY_FOLLOWERS
        follows_celebrity = is_celebrity[followees]
        counts = np.bincount(followers[follows_celebrity], minlength=N_USERS)
        self.celebrities_followed = (followees[follows_celebrity] + 1).astype(np.int64)
        self.celebrities_start = np.concatenate(([0], np.cumsum(counts)))
        self.is_celebrity = is_celebrity
        # The more followers, the more posts, but never more than a ring of originals holds: all strategies then have
        # the same posts.
        activity = np.sqrt(self.n_followers + 1.0)
        authors = rng.choice(N_USERS, int(N_HISTORY * 1.6), p=activity / activity.sum())
        rank = np.empty(len(authors), dtype=np.int64)
        by_author = np.argsort(authors, kind="stable")
        sorted_authors = authors[by_author]
        rank[by_author] = np.arange(len(authors)) - np.searchsorted(sorted_authors, sorted_authors)
        authors = authors[rank < CONFIG.max_originals_per_author - N_CELEBRITY_POSTS - 1]
        n_celebrity = min(N_CELEBRITY_POSTS, int(is_celebrity.sum()))
        self.celebrities = np.argsort(-self.n_followers, kind="stable")[:n_celebrity]
        n = N_HISTORY + N_WRITES
        self.authors = np.concatenate((authors[:n], self.celebrities))
        self.created_ms = NOW_MS - 2 * DAY_MS + 1 + np.linspace(0, 2 * DAY_MS - 2, len(self.authors)).astype(np.int64)
        self.post_ids = 1 + rng.permutation(len(self.authors)).astype(np.int64)
        self.viewers = rng.integers(0, N_USERS, (N_WRITES, READS_PER_WRITE))

    def columns(self, start: int, stop: int) -> PostColumns:
        n = stop - start
        zeros, none = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
        small = np.zeros(n, dtype=np.int32)
        return PostColumns(
            post_id=self.post_ids[start:stop],
            author_id=self.authors[start:stop] + 1,
            created_ms=self.created_ms[start:stop],
            kind=np.zeros(n, dtype=np.int8),
            parent_id=zeros,
            parent_author_id=zeros,
            conversation_id=zeros,
            has_video=none,
            duration_ms=small,
            is_sensitive=none,
            language=small,
            topics=np.zeros((n, 3), dtype=np.int32),
        )

    def followers_of(self, author: int) -> Array:
        return self.followers[self.followers_start[author] : self.followers_start[author + 1]]


class Pull:
    """Our rings: reads do the work."""

    def __init__(self, world: World, store: PostStore) -> None:
        self.graph, self.store = world.graph, store

    def write(self, author: int, post: Post) -> None:
        pass

    def read(self, user: int) -> Array:
        return self.newest(self.graph.following(user + 1), user)

    def newest(self, author_ids: Array, user: int) -> Array:
        return self.store.newest(
            author_ids, viewer_id=user + 1, now_ms=NOW_MS, max_age_ms=2 * DAY_MS, max_posts=MAX_POSTS
        )

    n_bytes = 0


class Push:
    """Timelines per user: writes do the work. ``pushes`` says whose posts are pushed."""

    def __init__(self, world: World, store: PostStore, pushes: Array) -> None:
        self.world, self.pushes = world, pushes
        self.timelines = np.zeros((N_USERS, TIMELINE), dtype=np.int32)
        self.n_pushed = np.zeros(N_USERS, dtype=np.int64)
        authors = world.authors[:N_HISTORY]
        posts = store.find(world.post_ids[:N_HISTORY])
        is_pushed = pushes[authors]
        push_history(
            self.timelines, self.n_pushed, authors[is_pushed], posts[is_pushed], world.followers_start, world.followers
        )
        self.n_bytes = self.timelines.nbytes + self.n_pushed.nbytes

    def write(self, author: int, post: Post) -> None:
        if self.pushes[author]:
            push_post(self.timelines, self.n_pushed, self.world.followers_of(author), post.row)

    def read(self, user: int) -> Array:
        return read_timeline(self.timelines, self.n_pushed, user, MAX_POSTS)


class Hybrid(Push):
    """Push below the threshold; celebrities are pulled and merged in."""

    def __init__(self, world: World, store: PostStore) -> None:
        super().__init__(world, store, ~world.is_celebrity)
        self.pull = Pull(world, store)
        self.store = store

    def read(self, user: int) -> Array:
        start, stop = self.world.celebrities_start[user], self.world.celebrities_start[user + 1]
        pushed = read_timeline(self.timelines, self.n_pushed, user, MAX_POSTS)
        if start == stop:
            return pushed
        pulled = self.pull.newest(self.world.celebrities_followed[start:stop], user)
        return merge_rows(self.store.arrays()["created_ms"], pulled, pushed, MAX_POSTS)


class RedisPush:
    """Push on Redis; answers are post ids."""

    def __init__(self, world: World, client: Any, push: Push, store: PostStore) -> None:
        self.world, self.client = world, client
        pipe = client.pipeline(transaction=False)
        celebrity_fans = [world.followers_of(author)[-1] for author in world.celebrities]
        for i, user in enumerate(np.unique(np.concatenate((world.viewers.ravel(), celebrity_fans))).tolist()):
            posts = read_timeline(push.timelines, push.n_pushed, user, TIMELINE)
            if len(posts):
                pipe.rpush(b"t%d" % user, *(b"%d" % post_id for post_id in store.post_ids(posts).tolist()))
            if i % 500 == 499:
                pipe.execute()
        pipe.execute()

    def write(self, author: int, post: Post) -> None:
        value = b"%d" % post.post_id
        followers = self.world.followers_of(author).tolist()
        for start in range(0, len(followers), 5_000):
            pipe = self.client.pipeline(transaction=False)
            for follower in followers[start : start + 5_000]:
                key = b"t%d" % follower
                pipe.lpush(key, value)
                pipe.ltrim(key, 0, TIMELINE - 1)
            pipe.execute()

    def read(self, user: int) -> Array:
        found = self.client.lrange(b"t%d" % user, 0, MAX_POSTS - 1)
        return np.array(found, dtype="S20").astype(np.int64)

    n_bytes = 0


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    rng = np.random.default_rng(11)
    client = redis_client()
    note("fan-out: building 100k users")
    world = World(rng)
    store = PostStore(CONFIG, IdHasher(), CodeTables(CONFIG))
    store.ingest(world.columns(0, N_HISTORY))
    note(f"fan-out: {world.n_edges} follows, {int(world.is_celebrity.sum())} celebrities; filling timelines")
    push = Push(world, store, np.ones(N_USERS, dtype=bool))
    strategies: dict[str, Any] = {
        "pull": Pull(world, store),
        "push": push,
        "hybrid": Hybrid(world, store),
        "redis_push": RedisPush(world, client, push, store),
    }

    def answer(name: str, user: int) -> tuple[float, Array]:
        seconds, found = timed(lambda: strategies[name].read(user))
        return seconds, (found if name == "redis_push" else store.post_ids(found))

    push_post(push.timelines, push.n_pushed, world.followers[:0], 0)
    for name in STRATEGIES:  # compilation and connections
        for user in range(50):
            answer(name, int(world.viewers[0, user]))
    reads: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    writes: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    equal = True
    note("fan-out: one write to fifty reads, in turns")
    for step in range(N_WRITES):
        place = N_HISTORY + step
        author = int(world.authors[place])
        stored_s, _ = timed(lambda place=place: store.ingest(world.columns(place, place + 1)))
        post = Post(int(store.find(world.post_ids[place : place + 1])[0]), int(world.post_ids[place]))
        answers: dict[str, list[Array]] = {}
        for turn in range(len(STRATEGIES)):
            name = STRATEGIES[(turn + step) % len(STRATEGIES)]
            seconds, _ = timed(lambda name=name, author=author, post=post: strategies[name].write(author, post))
            writes[name].append(stored_s + seconds)
            found = [answer(name, user) for user in world.viewers[step].tolist()]
            reads[name] += [seconds for seconds, _ in found]
            answers[name] = [ids for _, ids in found]
        equal = equal and all(
            np.array_equal(answers["pull"][i], answers[name][i]) for name in STRATEGIES for i in range(READS_PER_WRITE)
        )

    note("fan-out: posts of celebrities")
    visible: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    for k, author in enumerate(world.celebrities.tolist()):
        place = N_HISTORY + N_WRITES + k
        stored_s, _ = timed(lambda place=place: store.ingest(world.columns(place, place + 1)))
        post = Post(int(store.find(world.post_ids[place : place + 1])[0]), int(world.post_ids[place]))
        last = int(world.followers_of(author)[-1])
        for name in STRATEGIES:
            written_s, _ = timed(lambda name=name, author=author, post=post: strategies[name].write(author, post))
            read_s, ids = answer(name, last)
            equal = equal and int(ids[0]) == post.post_id
            visible[name].append(stored_s + written_s + read_s)
    client.flushdb()

    # A follow or unfollow: the pull needs nothing more than the graph; a timeline must be made anew to stay right.
    repairs = []
    for user in world.viewers[:4].ravel().tolist():
        seconds, rows = timed(lambda user=user: strategies["pull"].read(user)[::-1])
        start = time.perf_counter()
        push.timelines[user, : len(rows)] = rows
        push.n_pushed[user] = len(rows)
        repairs.append(seconds + time.perf_counter() - start)
    # Timelines mapped copy-on-write from a checkpoint: every page that is pushed to becomes a worker's own.
    written = world.authors[N_HISTORY : N_HISTORY + N_WRITES].tolist()
    touched = np.unique(np.concatenate([world.followers_of(author) for author in written]) * (4 * TIMELINE) // 4096)

    n_operations = N_WRITES * (1 + READS_PER_WRITE)
    cost_ms = {name: (sum(reads[name]) + sum(writes[name])) * 1e3 / n_operations for name in STRATEGIES}
    emit(
        "fan-out",
        equal=equal,
        ratio={name: cost_ms[name] / cost_ms["pull"] for name in STRATEGIES if name != "pull"},
        **cost_ms,
        read_ms={name: float(np.mean(reads[name])) * 1e3 for name in STRATEGIES},
        read_p99_ms={name: percentile_ms(np.array(reads[name]), 99) for name in STRATEGIES},
        write_ms={name: float(np.mean(writes[name])) * 1e3 for name in STRATEGIES},
        write_p99_ms={name: percentile_ms(np.array(writes[name]), 99) for name in STRATEGIES},
        celebrity_visible_ms={name: float(np.median(visible[name])) * 1e3 for name in STRATEGIES},
        timeline_mb={name: strategies[name].n_bytes / 1e6 for name in ("pull", "push", "hybrid")},
        push_repair_ms=float(np.mean(repairs)) * 1e3,
        push_private_mb={"n_writes": N_WRITES, "per_worker": len(touched) * 4096 / 1e6},
        n_edges=world.n_edges,
        max_followers=int(world.n_followers.max()),
        n_celebrities=int(world.is_celebrity.sum()),
        mean_pushes_per_write=float(world.n_followers[world.authors[N_HISTORY : N_HISTORY + N_WRITES]].mean()),
    )


if __name__ == "__main__":
    main()
