"""The durable join, end to end, for `bench_join`: read, decode, join, commit as Parquet.

The log (SQLite, or Redis Streams) holds pages of 35 posts with features as a home logs them (`Served` and
`FeaturesLogged`: one event of the mix), 30 impressions and 3 engagements each: 34 events a page. What is timed is one
process over all of it, from the opened log to the last commit, with epochs as by default: polling, decoding, hashing
ids, joining, sample files and checkpoints flushed to disk, and the samples' topic appended to the log. Pages are made
over hours, so that nearly all rows fall due.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from millrace.base.actions import ActionSpace
from millrace.base.clock import ManualClock
from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.codec import EventCodec
from millrace.events.envelope import Context, Event, Payload
from millrace.events.feature_events import FeaturesLogged
from millrace.events.feed_events import Engagement, Impression, Served, ServedItem
from millrace.events.packed import pack_arrays
from millrace.events.registry import EventRegistry
from millrace.features.encoding.candidates import CandidateInputs, dense_fields, schema_hash
from millrace.features.encoding.history import MAX_HISTORY, N_HISTORY_DENSE, HistoryTokens
from millrace.features.encoding.logged import SERVED, LoggedRows, row_arrays, viewer_arrays
from millrace.features.encoding.viewers import PROFILE_DENSE, ViewerInputs
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_process import JoinProcess
from millrace.flywheel.join_records import JoinRecords
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.sample_config import SampleConfig
from millrace.flywheel.sample_files import SampleFiles
from millrace.flywheel.sample_store import SampleStore
from millrace.flywheel.sample_tables import newest
from millrace.flywheel.warehouse import Warehouse
from millrace.stream.log import Log, Message
from millrace.stream.redis_log import RedisLog
from millrace.stream.server_config import RedisLogConfig
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.redis_process import RedisProcess

MakeLog = Callable[[Path], contextlib.AbstractContextManager[Log]]

NOW_MS = 1_800_000_000_000
N_ITEMS, N_LOOKS, N_DEEDS = 35, 30, 3
EVENTS_PER_PAGE = 1 + N_LOOKS + N_DEEDS
SPAN_MS = 6 * 3_600_000
N_VIEWERS, N_POSTS = 20_000, 200_000
CODEC = EventCodec(EventRegistry())


def make_messages(n_pages: int, seed: int = 5) -> list[Message]:
    """Return the records of pages and of what was done on them, in the order of time."""
    rng = np.random.default_rng(seed)
    actions = ActionSpace()
    schema, n_dense = schema_hash(actions), len(dense_fields(actions))
    ids = {f"p{i}": hash_id(IdKind.POST, f"p{i}") for i in range(N_POSTS)}
    timed: list[tuple[int, Payload]] = []
    for number in range(n_pages):
        at_ms = NOW_MS + SPAN_MS * number // n_pages
        viewer, request = f"u{rng.integers(N_VIEWERS)}", f"{rng.integers(1 << 62):016x}"
        drawn = [*(rng.zipf(1.2, N_ITEMS) % N_POSTS).tolist(), *rng.integers(0, N_POSTS, 2 * N_ITEMS).tolist()]
        posts = [f"p{i}" for i in dict.fromkeys(drawn)][:N_ITEMS]
        inside = np.array([ids[post] for post in posts], dtype=np.int64)
        timed.append((at_ms, _served(viewer, request, posts)))
        timed.append((at_ms, _features(rng, viewer, request, inside, schema, n_dense, len(actions))))
        seen = posts[:N_LOOKS]
        context = Context(session_id=f"s{viewer}", device="phone", app_version="1.0", surface="home")
        for place, post in enumerate(seen):
            look = Impression(
                viewer_id=viewer,
                post_id=post,
                dwell_ms=int(rng.integers(12_000)),
                request_id=request,
                position=place,
                context=context,
            )
            timed.append((at_ms + 2_000 * (place + 1), look))
        for post in rng.choice(seen, N_DEEDS, replace=False).tolist():
            deed = Engagement(viewer_id=viewer, post_id=post, action="like", request_id=request, context=context)
            timed.append((at_ms + int(rng.integers(90_000)), deed))
    timed.sort(key=lambda pair: pair[0])
    return [_message(number, at_ms, payload) for number, (at_ms, payload) in enumerate(timed)]


def fill(log: Log, messages: list[Message], batch: int = 1_000) -> None:
    """Append messages; features in appends of their own, as a server writes them."""
    for start in range(0, len(messages), batch):
        part = messages[start : start + batch]
        for wants_features in (False, True):
            chosen = [m for m in part if (m.topic == "events.features") == wants_features]
            if chosen:
                log.append(chosen)


@contextlib.contextmanager
def open_log(folder: Path) -> Iterator[Log]:
    """Open an SQLite log whose appends are stamped long after all events."""
    with contextlib.closing(SqliteLog(folder / "log.db", ManualClock(NOW_MS + 10 * SPAN_MS), min_free_bytes=0)) as log:
        yield log


@contextlib.contextmanager
def open_redis_log(folder: Path) -> Iterator[Log]:
    """Open the same on a Redis server of its own, which loses nothing that it acknowledges."""
    with (
        RedisProcess(folder, "--appendonly", "yes", "--appendfsync", "always") as server,
        contextlib.closing(RedisLog(RedisLogConfig(url=server.url), ManualClock(NOW_MS + 10 * SPAN_MS))) as log,
    ):
        yield log


def joined(log: Log, folder: Path) -> tuple[float, JoinProcess]:
    """Let a fresh process join a log; return the seconds it took, and the process, closed."""
    actions, hasher = CODEC.actions, IdHasher()
    files = SampleFiles(folder)
    start_s = time.perf_counter()
    process = JoinProcess(
        log,
        StreamJoin(hasher, actions, config=JoinConfig()),
        JoinRecords(CODEC, hasher, actions),
        files,
        JoinCheckpoints(files.state_folder),
        CODEC,
        ManualClock(NOW_MS + 10 * SPAN_MS),
        SampleConfig(),
        actions=actions.names,
        hold_ms=JoinConfig().late_ms,
    )
    process.start()
    while process.turn():
        pass
    process.stop()
    return time.perf_counter() - start_s, process


def _served(viewer: str, request: str, posts: list[str]) -> Served:
    items = tuple(
        ServedItem(
            post_id=post,
            author_id=f"a{post}",
            position=place,
            sources=("in_network",),
            scores={"score": 0.5, "value": 1.25},
        )
        for place, post in enumerate(posts)
    )
    return Served(request_id=request, viewer_id=viewer, pipeline="home", state_offset=(0,), items=items)


def _features(
    rng: np.random.Generator,
    viewer: str,
    request: str,
    posts: np.ndarray,
    schema: str,
    n_dense: int,
    n_actions: int,
) -> FeaturesLogged:
    n, m = len(posts), MAX_HISTORY
    big = rng.integers(1, 1 << 62, (4, m))
    inputs = CandidateInputs(posts, rng.integers(1, 1 << 62, n), _bytes(rng, n), _bytes(rng, (n, n_dense), 40))
    rows = LoggedRows(
        posts,
        inputs,
        rng.random((n, n_actions), dtype=np.float32) / np.float32(10),
        rng.random((n, n_actions), dtype=np.float32) / np.float32(10),
        rng.random(n).astype(np.float32),
        np.ones(n, dtype=np.float32),
        np.full(n, SERVED, dtype=np.uint8),
    )
    history = HistoryTokens(
        post_ids=big[0],
        author_ids=big[1],
        actions=(1 << rng.integers(0, 8, m)).astype(np.uint64),
        dense=_bytes(rng, (m, N_HISTORY_DENSE)),
        surfaces=_bytes(rng, m, 3),
        newest_ms=NOW_MS,
    )
    profile = ViewerInputs(
        0,
        history,
        languages=np.ones(4, dtype=np.uint8),
        bio=np.zeros(64, dtype=np.uint16),
        dense=np.zeros(len(PROFILE_DENSE), dtype=np.uint8),
    )
    arrays = pack_arrays({**row_arrays(rows), **viewer_arrays(profile)})
    return FeaturesLogged(
        request_id=request, viewer_id=viewer, pipeline="home", schema=schema, state_offset=(0,), arrays=arrays
    )


def _bytes(rng: np.random.Generator, shape: int | tuple[int, int], high: int = 8) -> np.ndarray:
    return rng.integers(0, high, shape).astype(np.uint8)


def _message(number: int, at_ms: int, payload: Payload) -> Message:
    event = Event(event_id=f"e{number:016x}", event_time_ms=at_ms, source="web", payload=payload)
    topic = CODEC.registry.of(payload).topic
    return Message(topic, "k", event.event_id, at_ms, CODEC.encode(event))


def measured(n_pages: int = 6_000, n_rounds: int = 3, make_log: MakeLog = open_log) -> tuple[float, bool]:
    """Return how many events a second the durable join takes, and whether its samples are those of the join in memory.

    The first round is not counted: kernels are loaded, files are cached.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        log = stack.enter_context(make_log(folder))
        fill(log, make_messages(n_pages))
        seconds = [joined(log, folder / f"samples-{number}")[0] for number in range(n_rounds + 1)][1:]
        found = SampleStore(SampleFiles(folder / "samples-0"), Warehouse(folder / "none", CODEC), CODEC, IdHasher())
        is_equal = _same(found.rows(), _in_memory(log))
    return n_pages * EVENTS_PER_PAGE / float(np.median(seconds)), is_equal


def _in_memory(log: Log) -> JoinedRows:
    """Return what the join makes of whole events, one by one, without files."""
    join = StreamJoin(IdHasher(), CODEC.actions, config=JoinConfig())
    without = set(CODEC.registry.unfolded_topics) - {CODEC.registry.by_name(FeaturesLogged.__name__).topic}
    consumer = log.subscribe("check", without=without, start=(0,))
    while len(records := consumer.poll(4_096)):
        for offset, data in zip(records.offsets.tolist(), records.data, strict=True):
            event = CODEC.decode(data)
            join.hear(offset, event.event_time_ms, event)
    consumer.close()
    return join.let_out()


def _same(one: JoinedRows, other: JoinedRows) -> bool:
    """Whether the newest revisions are the same."""
    other = other.take(np.flatnonzero(newest(other, np.zeros(len(other), dtype=np.int64))))
    first, second = (rows.take(np.lexsort((rows.posts, rows.requests))) for rows in (one, other))
    return len(first) > 0 and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in JoinedRows.__slots__
    )
