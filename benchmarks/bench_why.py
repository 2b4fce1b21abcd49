"""`millrace bench why`: what always-on explanation costs a home request.

Both sides are the real home service in process over a simulated world of 20,000 people and more than 100,000 live
posts: hydration, sources, filters, ranking, claims, content, the response, and its encoding as JSON. ``with`` packs
and writes the trace of every request and tells with every post how its score came about; ``without`` keeps no trace
and tells nothing (the columns that explanations are read off are made by ranking either way). Both get the same
requests, by the same viewers under the same ids, in turns, and must give the same slates; what is explained must add
up. CPU is user and system time of this process.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harness import emit, median_ms, note, without_options
from millrace.app import wiring
from millrace.app.checkpoints import write_now
from millrace.app.intake import Intake, batches
from millrace.app.settings import MillraceConfig, Settings
from millrace.app.viewers import active_viewers
from millrace.base.actions import ActionSpace
from millrace.base.clock import ManualClock, SystemClock
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.service import FeedService
from millrace.mixer.trace import Trace, TracePacker
from millrace.mixer.trace_reading import TraceReading
from millrace.simulator.config import WorldConfig
from millrace.stores.claims import MemoryClaims
from millrace.stores.replica import Replica
from millrace.stores.state import State
from millrace.stores.trace_store import FileTraces

N_USERS = 20_000
N_VIEWERS = 48
N_ROUNDS = 60
N_PER_TURN = 8
RING_BYTES = 10_000_000
"""Overwritten every hundred pages, so that what is timed is a store that has been full for long, as a server's is."""
MORE = {"popular.max_posts": 900, "recent.only_below": 100_000}
"""Each of these two sources gives more posts where the home feed has few others, so that pages are as dear."""

Run = Callable[[int], FeedResponse]
encode = msgspec.json.Encoder().encode


class Forgetful(MemoryClaims):
    """Grants everything and remembers nothing: the same request gives the same page again."""

    def claim(self, viewer_id: int, content_ids: Any, created_ms: Any, **_more: Any) -> Any:  # noqa: ARG002
        return np.ones(len(content_ids), dtype=np.bool_)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, a_replica(Path(folder)) as (settings, replica, clock):
        traces = FileTraces(settings.traces_dir, clock, RING_BYTES)
        settings = with_params(settings, MORE)
        explaining = wiring.build_feed_service(settings, replica, claims=Forgetful(), traces=traces, clock=clock)
        silent = wiring.build_feed_service(settings, replica, claims=Forgetful(), clock=clock)
        viewers = [viewer.user_id for viewer in active_viewers(replica, N_VIEWERS)]
        ids = [traces.next_request_id() for _ in viewers]
        # Not `asyncio.Runner`: it makes the text of each answer for a signal handler, which costs by its size.
        with closing(asyncio.new_event_loop()) as loop:

            def run(service: FeedService, *, why: bool) -> Run:
                def page(number: int) -> FeedResponse:
                    n = number % len(viewers)
                    request = FeedRequest(viewer_id=viewers[n], request_id=ids[n], why=why)
                    found = loop.run_until_complete(service.home(request))
                    encode(found)
                    return found

                return page

            runs = {"with": run(explaining, why=True), "without": run(silent, why=False)}
            equal = same_slates(runs, len(viewers)) and all(adds_up(Trace(traces.read(name))) for name in ids)
            for number in range(4 * len(viewers)):
                runs["with"](number)
            seconds = interleaved_cpu(runs)
            request = FeedRequest(viewer_id=viewers[0], request_id=ids[0])
            results = [
                loop.run_until_complete(silent.execute(msgspec.structs.replace(request, viewer_id=viewer)))
                for viewer in viewers
            ]
        packer = TracePacker(silent.pipeline, ActionSpace().names)
        records = [packer.pack(result) for result in results]
        traces_s = []
        for number in range(len(viewers) * 10):
            start = time.process_time()
            traces.write(ids[number % len(ids)], packer.pack(results[number % len(ids)]))
            traces_s.append(time.process_time() - start)
        traces.close()
    with_ms, without_ms = (median_ms(seconds[name]) / N_PER_TURN for name in ("with", "without"))
    # Turn by turn, for turns differ by their viewers.
    overhead_frac = float(np.median(seconds["with"] / seconds["without"])) - 1
    emit(
        "why",
        equal=equal,
        ratio={"without_why": 1 / (1 + overhead_frac)},
        overhead_frac=overhead_frac,
        with_ms=with_ms,
        without_ms=without_ms,
        trace_ms=median_ms(np.array(traces_s)),
        trace_bytes=float(np.mean([len(record) for record in records])),
        candidates=float(np.mean([result.candidates.n for result in results])),
        ranked=float(np.mean([result.ranked.n for result in results])),
        n_requests=N_ROUNDS * N_PER_TURN,
    )


@contextmanager
def a_replica(folder: Path) -> Iterator[tuple[Settings, Replica[State], ManualClock]]:
    """Give a simulated world, taken in through the door, folded, its content in the keeper's file."""
    world = WorldConfig(size="100k", n_users=N_USERS)
    home = HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, is_strict=True)
    settings = Settings(folder, MillraceConfig(world=world, home=home))
    clock = ManualClock(SystemClock().now_ms())
    with Intake(settings, clock) as intake:
        for batch in batches(wiring.build_world(settings, clock.now_ms())):
            intake.take(batch)
    note(f"{intake.n_accepted:,} events taken in; folding them …")
    write_now(settings, timeout_s=600)
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock)
    replica.restore()
    replica.catch_up()
    note(f"{replica.state.posts.n_posts:,} live posts")
    yield settings, replica, clock
    replica.close()
    log.close()


def with_params(settings: Settings, params: Mapping[str, Any]) -> Settings:
    return Settings(settings.home, msgspec.structs.replace(settings.config, params=dict(params)))


def same_slates(runs: Mapping[str, Run], n: int) -> bool:
    """Whether both sides put the same posts with the same scores on every page."""
    for number in range(n):
        pages = [[(post.post_id, post.score) for post in run(number).posts] for run in runs.values()]
        if not pages[0] or any(page != pages[0] for page in pages):
            note(f"the pages of request {number} differ")
            return False
    return True


def adds_up(trace: Trace) -> bool:
    """Whether the page's explanations give its values and scores."""
    for row in trace.page_rows.tolist():
        why = TraceReading(trace, None).why(row, "")
        parts = [part.contribution for part in why.actions]
        size = sum(map(abs, parts))
        if why.value is None or abs(sum(parts) - why.value) > 1e-6 * max(size, 1e-9):
            note(f"values differ: {sum(parts)} and {why.value}")
            return False
        if why.score is None or abs(why.steps[-1].score_after / why.score - 1) > 1e-6:
            note(f"scores differ: {why.steps[-1].score_after} and {why.score}")
            return False
    return True


def interleaved_cpu(runs: Mapping[str, Run]) -> dict[str, np.ndarray]:
    """Return the CPU seconds of every turn of requests, both sides in turns with the same requests."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    gc.disable()
    try:
        for round_number in range(-2, N_ROUNDS):
            shift = round_number % len(order)
            for name in order[shift:] + order[:shift]:
                gc.collect()
                start = time.process_time()
                for number in range(round_number * N_PER_TURN, (round_number + 1) * N_PER_TURN):
                    runs[name](number)
                if round_number >= 0:
                    seconds[name].append(time.process_time() - start)
    finally:
        gc.enable()
    return {name: np.array(values) for name, values in seconds.items()}


if __name__ == "__main__":
    without_options(__doc__)
    main()
