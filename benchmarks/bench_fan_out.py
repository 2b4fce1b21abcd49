"""Following at scale: pull, push and the hybrid at the same reads and writes, in memory and on Redis.

100k users in a power-law follow graph (the most followed have tens of thousands of followers), two days of posts, then
one write to every fifty reads of the newest 200 posts of whom a viewer follows:

* ``pull``: nothing is done at the write; a read asks `FollowGraph` whom the viewer follows and `PostStore` for their
  newest posts. This is what the home feed does;
* ``push``: every post is written to a ring of 256 in each follower's timeline; a read copies the ring's newest end;
* ``hybrid``: authors below 10,000 followers push, the others are pulled at the read and merged in;
* ``redis_pull``, ``redis_push``, ``redis_hybrid``: the same three on a real Redis, one list per author or per timeline,
  trimmed as ours are, commands pipelined, 16-byte members (time, id), merged by NumPy. Whom a viewer follows is one
  packed value. Only what is read in the run is filled beforehand; all timelines are pushed to.

The in-memory strategies are Numba kernels over arrays, and each has the adjacency lists that suit it. Putting the post
into the post store is common to all (somebody must hold it) and is timed once per write. Every answer of every
strategy is compared. The keys named after the strategies are milliseconds per operation: all reads and writes of the
run, divided by their number; they are the cost in one process. Where several workers fold the log, each pays every
write but only its share of the reads.

``celebrity_visible_ms`` is the whole way of a post by one of the most followed authors on the embedded path, in
milliseconds: through the door into a `SqliteLog` on disk (``synchronous=FULL``) in one thread, while another follows
the log as a worker does and reads, until a read shows the post to the follower served last. Its parts: the answer of
the door, and from there to the read. Each post is sent just after the worker has looked at the log, so that the wait
for its next look, the poll interval of 10 ms, counts in full. ``celebrity_store_visible_ms`` leaves log and fold out,
to compare the strategies: the write to the store, the strategy's own write, and the read.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numba import njit

from harness import emit, note, percentile_ms, redis_client, without_options
from millrace.base.clock import ManualClock
from millrace.base.ids import IdHasher, IdKind
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostCreated
from millrace.events.envelope import Event
from millrace.events.registry import EventRegistry
from millrace.stores.checkpoint import Checkpoints
from millrace.stores.config import StoresConfig
from millrace.stores.post_store import PostColumns, PostStore
from millrace.stores.replica import Replica
from millrace.stores.state import State
from millrace.stream.collector import Collector
from millrace.stream.sqlite_log import SqliteLog

N_USERS: Final = 100_000
N_HISTORY: Final = 500_000
N_WRITES: Final = 300
READS_PER_WRITE: Final = 50
N_CELEBRITIES: Final = 7
MAX_POSTS: Final = 200
TIMELINE: Final = 256
CELEBRITY_FOLLOWERS: Final = 10_000
NOW_MS: Final = 1_800_000_000_000
DAY_MS: Final = 86_400_000
CONFIG: Final = StoresConfig()
STRATEGIES: Final = ("pull", "push", "hybrid", "redis_pull", "redis_push", "redis_hybrid")
N_LOGGED_ROUNDS: Final = 6
REDIS_MEMBER: Final = np.dtype([("created_ms", "<i8"), ("post_id", "<i8")])

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
    created_ms: int


class World:
    """The graph and the posts, as every strategy gets them. User ``i`` is ``u<i>`` in events."""

    def __init__(self, rng: np.random.Generator, state: State) -> None:
        self.user_ids = state.hasher.users(f"u{user}" for user in range(N_USERS))
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
        self.graph = state.follow_graph
        self.graph.ingest(self.user_ids[followers], self.user_ids[followees])
        self.n_follows = np.bincount(followers, minlength=N_USERS)
        self.followees, self.followees_start = followees, np.concatenate(([0], np.cumsum(self.n_follows)))
        is_celebrity = self.n_followers >= CELEBRITY_FOLLOWERS
        follows_celebrity = is_celebrity[followees]
        counts = np.bincount(followers[follows_celebrity], minlength=N_USERS)
        self.celebrities_followed = followees[follows_celebrity]
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
        authors = authors[rank < CONFIG.max_originals_per_author - N_LOGGED_ROUNDS - 2]
        n_celebrity = min(N_CELEBRITIES, int(is_celebrity.sum()))
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
            author_id=self.user_ids[self.authors[start:stop]],
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

    def followed_by(self, user: int) -> Array:
        return self.followees[self.followees_start[user] : self.followees_start[user + 1]]

    def celebrities_followed_by(self, user: int) -> Array:
        return self.celebrities_followed[self.celebrities_start[user] : self.celebrities_start[user + 1]]

    def readers(self) -> list[int]:
        """Return everybody whose timeline is read in the run."""
        last = [self.followers_of(author)[-1] for author in self.celebrities]
        return np.unique(np.concatenate((self.viewers.ravel(), last))).tolist()


class Pull:
    """Our rings: reads do the work."""

    def __init__(self, world: World, store: PostStore) -> None:
        self.graph, self.store, self.user_ids = world.graph, store, world.user_ids.tolist()

    def write(self, author: int, post: Post) -> None:
        pass

    def read(self, user: int) -> Array:
        return self.newest(self.graph.following(self.user_ids[user]), user)

    def newest(self, author_ids: Array, user: int) -> Array:
        return self.store.newest(
            author_ids, viewer_id=self.user_ids[user], now_ms=NOW_MS, max_age_ms=2 * DAY_MS, max_posts=MAX_POSTS
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
        self.celebrities_followed = world.user_ids[world.celebrities_followed]

    def read(self, user: int) -> Array:
        start, stop = self.world.celebrities_start[user], self.world.celebrities_start[user + 1]
        pushed = read_timeline(self.timelines, self.n_pushed, user, MAX_POSTS)
        if start == stop:
            return pushed
        pulled = self.pull.newest(self.celebrities_followed[start:stop], user)
        return merge_rows(self.store.arrays()["created_ms"], pulled, pushed, MAX_POSTS)


def redis_fill(client: Any, lists: Sequence[tuple[bytes, Array]]) -> None:
    """Fill lists with members, newest first."""
    size = REDIS_MEMBER.itemsize
    pipe = client.pipeline(transaction=False)
    for i, (key, members) in enumerate(lists):
        data = members.tobytes()
        if data:
            pipe.rpush(key, *(data[k : k + size] for k in range(0, len(data), size)))
        if i % 500 == 499:
            pipe.execute()
    pipe.execute()


def redis_newest(lists: Sequence[Sequence[bytes]]) -> Array:
    """Return the post ids of the newest members of some lists."""
    members = np.frombuffer(b"".join([member for found in lists for member in found]), dtype=REDIS_MEMBER)
    return members["post_id"][np.argsort(-members["created_ms"])[:MAX_POSTS]]


def redis_member(post: Post) -> bytes:
    return np.array((post.created_ms, post.post_id), dtype=REDIS_MEMBER).tobytes()


class RedisPull:
    """Pull on Redis: one list per author, and whom a viewer follows as one packed value; answers are post ids."""

    def __init__(self, world: World, client: Any, store: PostStore) -> None:  # noqa: ARG002 - as the others
        self.client = client
        n = N_HISTORY
        order = np.lexsort((-world.created_ms[:n], world.authors[:n]))
        members = np.empty(n, dtype=REDIS_MEMBER)
        members["created_ms"], members["post_id"] = world.created_ms[:n][order], world.post_ids[:n][order]
        authors, starts = np.unique(world.authors[:n][order], return_index=True)
        parts = np.split(members, starts[1:])
        redis_fill(client, [(b"a%d" % author, part) for author, part in zip(authors.tolist(), parts, strict=True)])
        client.mset({b"f%d" % user: world.followed_by(user).astype("<i4").tobytes() for user in world.readers()})

    def write(self, author: int, post: Post) -> None:
        pipe = self.client.pipeline(transaction=False)
        pipe.lpush(b"a%d" % author, redis_member(post))
        pipe.ltrim(b"a%d" % author, 0, CONFIG.max_originals_per_author - 1)
        pipe.execute()

    def read(self, user: int) -> Array:
        pipe = self.client.pipeline(transaction=False)
        for author in np.frombuffer(self.client.get(b"f%d" % user), dtype="<i4").tolist():
            pipe.lrange(b"a%d" % author, 0, -1)
        return redis_newest(pipe.execute())


class RedisPush:
    """Push on Redis: one list per timeline; answers are post ids."""

    letter = b"t"

    def __init__(self, world: World, client: Any, store: PostStore, push: Push) -> None:
        self.world, self.client = world, client
        lists = []
        for user in world.readers():
            columns = store.gather(read_timeline(push.timelines, push.n_pushed, user, TIMELINE))
            members = np.empty(len(columns.post_id), dtype=REDIS_MEMBER)
            members["created_ms"], members["post_id"] = columns.created_ms, columns.post_id
            lists.append((self.key(user), members))
        redis_fill(client, lists)

    def key(self, user: int) -> bytes:
        return b"%b%d" % (self.letter, user)

    def write(self, author: int, post: Post) -> None:
        value = redis_member(post)
        followers = self.world.followers_of(author).tolist()
        for start in range(0, len(followers), 5_000):
            pipe = self.client.pipeline(transaction=False)
            for follower in followers[start : start + 5_000]:
                key = self.key(follower)
                pipe.lpush(key, value)
                pipe.ltrim(key, 0, TIMELINE - 1)
            pipe.execute()

    def read(self, user: int) -> Array:
        found = self.client.lrange(self.key(user), 0, MAX_POSTS - 1)
        return np.frombuffer(b"".join(found), dtype=REDIS_MEMBER)["post_id"]


class RedisHybrid(RedisPush):
    """Push on Redis below the threshold; celebrities' own lists are read and merged in. Has lists of its own."""

    letter = b"h"

    def __init__(self, world: World, client: Any, store: PostStore, hybrid: Hybrid) -> None:
        super().__init__(world, client, store, hybrid)
        n = N_HISTORY
        lists = []
        for author in np.flatnonzero(world.is_celebrity).tolist():
            rows = np.flatnonzero(world.authors[:n] == author)[::-1]  # the world's posts are in order of time
            members = np.empty(len(rows), dtype=REDIS_MEMBER)
            members["created_ms"], members["post_id"] = world.created_ms[rows], world.post_ids[rows]
            lists.append((b"c%d" % author, members))
        redis_fill(client, lists)
        client.mset(
            {b"g%d" % user: world.celebrities_followed_by(user).astype("<i4").tobytes() for user in world.readers()}
        )

    def write(self, author: int, post: Post) -> None:
        if not self.world.is_celebrity[author]:
            super().write(author, post)
            return
        pipe = self.client.pipeline(transaction=False)
        pipe.lpush(b"c%d" % author, redis_member(post))
        pipe.ltrim(b"c%d" % author, 0, CONFIG.max_originals_per_author - 1)
        pipe.execute()

    def read(self, user: int) -> Array:
        pipe = self.client.pipeline(transaction=False)
        pipe.get(b"g%d" % user)
        pipe.lrange(self.key(user), 0, MAX_POSTS - 1)
        celebrities, pushed = pipe.execute()
        pipe = self.client.pipeline(transaction=False)
        for author in np.frombuffer(celebrities, dtype="<i4").tolist():
            pipe.lrange(b"c%d" % author, 0, -1)
        return redis_newest([pushed, *pipe.execute()])


class Logged(NamedTuple):
    """Seconds on the embedded path, one value per post."""

    door_s: list[float]
    visible_s: list[float]
    equal: bool


async def through_the_log(world: World, state: State, folder: Path) -> Logged:
    """Send posts of celebrities through the door and follow the log, as a worker does, until each can be read."""
    clock = ManualClock(NOW_MS)
    codec = EventCodec(EventRegistry())
    log = SqliteLog(folder / "log.db", clock)
    replica: Replica[State] = Replica(
        log, codec.decode, lambda: state, Checkpoints(folder / "checkpoints", "bench", 2), clock=clock
    )
    collector = Collector(log, codec, clock)
    pull = Pull(world, state.posts)
    following = asyncio.create_task(replica.follow())
    door_s, visible_s, equal = [], [], True
    for number in range(N_LOGGED_ROUNDS * len(world.celebrities)):
        author = int(world.celebrities[number % len(world.celebrities)])
        last = int(world.followers_of(author)[-1])
        clock.advance_ms(1)
        name = f"celebrity-{number}"
        payload = PostCreated(post_id=name, author_id=f"u{author}", text=f"post {number}")
        event = Event(event_id=name, event_time_ms=clock.now_ms(), source="bench", payload=payload)
        lines = [msgspec.json.encode(event)]
        post_id = state.hasher.one(IdKind.POST, name)
        start_s = time.perf_counter()

        def submit(lines: list[bytes] = lines) -> float:
            receipt = collector.submit_json(lines, "bench")
            if receipt.n_accepted != 1:
                raise SystemExit(f"the door refused a post: {receipt.results}")
            return time.perf_counter()

        answer = asyncio.create_task(asyncio.to_thread(submit))
        while True:
            async with replica.read():
                found = state.posts.post_ids(pull.read(last))
            if len(found) and int(found[0]) == post_id:
                break
            if following.done():
                following.result()
            if time.perf_counter() - start_s > 10:
                equal = False
                break
            await asyncio.sleep(0.001)
        visible_s.append(time.perf_counter() - start_s)
        door_s.append(await answer - start_s)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    replica.close()
    log.close()
    return Logged(door_s, visible_s, equal)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def a_post(world: World, store: PostStore, place: int) -> Post:
    row = int(store.find(world.post_ids[place : place + 1])[0])
    return Post(row, int(world.post_ids[place]), int(world.created_ms[place]))


def main() -> None:
    rng = np.random.default_rng(11)
    client = redis_client()
    note("fan-out: building 100k users")
    state = State(CONFIG, IdHasher())
    world, store = World(rng, state), state.posts
    store.ingest(world.columns(0, N_HISTORY))
    note(f"fan-out: {world.n_edges} follows, {int(world.is_celebrity.sum())} celebrities; filling timelines")
    push = Push(world, store, np.ones(N_USERS, dtype=bool))
    hybrid = Hybrid(world, store)
    strategies: dict[str, Any] = {
        "pull": Pull(world, store),
        "push": push,
        "hybrid": hybrid,
        "redis_pull": RedisPull(world, client, store),
        "redis_push": RedisPush(world, client, store, push),
        "redis_hybrid": RedisHybrid(world, client, store, hybrid),
    }

    def answer(name: str, user: int) -> tuple[float, Array]:
        seconds, found = timed(lambda: strategies[name].read(user))
        return seconds, (found if name.startswith("redis_") else store.post_ids(found))

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
        post = a_post(world, store, place)
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
        post = a_post(world, store, place)
        last = int(world.followers_of(author)[-1])
        for name in STRATEGIES:
            written_s, _ = timed(lambda name=name, author=author, post=post: strategies[name].write(author, post))
            read_s, ids = answer(name, last)
            equal = equal and int(ids[0]) == post.post_id
            visible[name].append(stored_s + written_s + read_s)
    client.flushdb()

    note("fan-out: posts of celebrities through the log")
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        logged = asyncio.run(through_the_log(world, state, Path(folder)))
    equal = equal and logged.equal
    fold_s = np.array(logged.visible_s) - np.array(logged.door_s)

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
        celebrity_visible_ms=float(np.median(logged.visible_s)) * 1e3,
        celebrity_visible_p95_ms=percentile_ms(np.array(logged.visible_s), 95),
        celebrity_visible_parts_ms={
            "door": float(np.median(logged.door_s)) * 1e3,
            "fold_and_read": float(np.median(fold_s)) * 1e3,
        },
        celebrity_store_visible_ms={name: float(np.median(visible[name])) * 1e3 for name in STRATEGIES},
        timeline_mb={name: strategies[name].n_bytes / 1e6 for name in ("pull", "push", "hybrid")},
        push_repair_ms=float(np.mean(repairs)) * 1e3,
        push_private_mb={"n_writes": N_WRITES, "per_worker": len(touched) * 4096 / 1e6},
        n_edges=world.n_edges,
        max_followers=int(world.n_followers.max()),
        n_celebrities=int(world.is_celebrity.sum()),
        mean_pushes_per_write=float(world.n_followers[world.authors[N_HISTORY : N_HISTORY + N_WRITES]].mean()),
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
