"""The closed loop: `simulate run` at ``demo`` size, people of the world before the real home pipeline.

`millrace.app.simulation.run.run` itself, for some virtual hours: pages are made, looked at, answered; what happened
goes through the real door into the real log and is folded; records and regret are kept as in any run. Prints how many
impressions and pages a second that gives, ``pipeline_frac`` (share of the wall time inside `Pipeline.execute`), and a
profile: ``profile_frac`` by part, each without the parts called within it. Parts are timed by wrapping methods here,
which costs about a microsecond a call; nothing in ``src`` knows of it.

There is no baseline: the figure and the profile are what is asked for. The timed part begins with the first whole
slice, after a run of one slice that compiles what is compiled; making the world's history is not in it.

``--processes 2`` shares the making of pages; the profile is then the first process's, with what it waits for.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, Final

from harness import emit, note
from millrace.app.simulation import local_client, team
from millrace.app.simulation import run as run_module
from millrace.app.simulation.homes import START_MS
from millrace.app.simulation.run import Hooks, Progress, RunSpec
from millrace.pipeline import pipeline
from millrace.simulator import delivery, encounters, loop, recorder, records, world
from millrace.simulator.config import WorldConfig
from millrace.simulator.policies import Policy

PARTS: Final[tuple[tuple[Any, str, str], ...]] = (
    (pipeline.Pipeline, "execute", "pipeline"),
    (local_client.LocalFeedClient, "_page", "page"),  # the service around the pipeline, claims, `Served`
    (local_client.LocalFeedClient, "advance", "fold"),
    (local_client.LocalFeedClient, "_begin_slice", "services"),
    (local_client.LocalFeedClient, "send", "send"),
    (delivery.Delivery, "take", "delivery"),
    (encounters.Encounters, "look", "look"),
    (world.World, "absorb", "absorb"),
    (world.World, "open_slice", "slices"),
    (world.World, "close_slice", "slices"),
    (world.World, "visitors", "slices"),
    (loop.Atlas, "extend", "slices"),
    (recorder.Recorder, "hear", "records"),
    (recorder.Recorder, "close", "records"),
    (records.RecordWriter, "write", "records"),
    (recorder.Recorder, "_add_regret", "regret"),
    (run_module, "write_snapshot", "snapshot"),
    (team.Team, "gather", "waiting"),
    (loop.Loop, "run_slice", "rest"),
)
"""Owner, method, part."""


class Stopwatch:
    """Time by part, each without the parts within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._stack: list[list[float]] = []

    def clear(self) -> None:
        self.seconds.clear()
        self.calls.clear()

    def begin(self) -> None:
        self._stack.append([time.perf_counter(), 0.0])

    def end(self, part: str) -> None:
        began, within = self._stack.pop()
        took = time.perf_counter() - began
        self.seconds[part] += took - within
        self.calls[part] += 1
        if self._stack:
            self._stack[-1][1] += took

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Put a timed method in a method's place."""
        plain = getattr(owner, name)
        # Generators are timed where they are used up, at once.
        is_generator = name in ("absorb", "open_slice", "close_slice")

        @wraps(plain)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.begin()
            try:
                result = plain(*args, **kwargs)
                return _whole(result) if is_generator else result
            finally:
                self.end(part)

        @wraps(plain)
        async def timed_async(*args: Any, **kwargs: Any) -> Any:
            self.begin()
            try:
                return await plain(*args, **kwargs)
            finally:
                self.end(part)

        setattr(owner, name, timed_async if name == "execute" else timed)


def _whole(told: Iterator[Any]) -> Iterator[Any]:
    return iter(list(told))


class Heard:
    """What a run told of its slices, and when it began the first."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.progress: list[Progress] = []
        self._on_first = on_first
        self.began_s = self.ended_s = self.began_cpu_s = self.ended_cpu_s = 0.0

    def begin(self) -> None:
        self._on_first()
        self.began_s, self.began_cpu_s = time.perf_counter(), time.process_time()

    def hear(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.ended_s, self.ended_cpu_s = time.perf_counter(), time.process_time()


def timed_run(spec: RunSpec, n_processes: int, watch: Stopwatch) -> tuple[Heard, float]:
    """Make a run; return what it told, and the seconds before its first slice."""
    heard = Heard(watch.clear)
    plain = loop.Loop.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        heard.begin()

    loop.Loop.__init__ = made  # type: ignore[method-assign]
    start = time.perf_counter()
    try:
        run_module.run(spec, n_processes, Hooks(on_progress=heard.hear))
    finally:
        loop.Loop.__init__ = plain  # type: ignore[method-assign]
    return heard, heard.began_s - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1, help="that share the making of pages")
    parser.add_argument("--hours", type=float, default=6.0, help="virtual hours")
    parser.add_argument("--size", choices=("tiny", "demo"), default="demo", help="of the world")
    chosen = parser.parse_args()
    watch = Stopwatch()
    for owner, name, part in PARTS:
        watch.wrap(owner, name, part)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-loop-") as folder:
        spec = RunSpec(
            folder=str(Path(folder, "run")),
            worlds=str(Path(folder, "worlds")),
            world=WorldConfig(size=chosen.size),
            policies=(Policy(name="home"),),
            hours=chosen.hours,
        )
        note("making the world's history …")
        run_module.prepare(spec)
        note("warming up …")
        warm = RunSpec(
            folder=str(Path(folder, "warm")), worlds=spec.worlds, world=spec.world, policies=spec.policies, hours=0.5
        )
        run_module.run(warm)
        note(f"running {chosen.hours} virtual hours from {START_MS} …")
        heard, start_s = timed_run(spec, chosen.processes, watch)
    wall_s, cpu_s = heard.ended_s - heard.began_s, heard.ended_cpu_s - heard.began_cpu_s
    n_pages = sum(p.n_pages for p in heard.progress)
    n_looks = sum(p.n_looks for p in heard.progress)
    n_events = sum(p.n_events for p in heard.progress)
    seconds = dict(watch.seconds)
    seconds["rest"] = seconds.get("rest", 0.0) + wall_s - sum(seconds.values())
    n_made = max(watch.calls["page"], 1)
    emit(
        "loop",
        equal=n_pages > 0 and (chosen.processes > 1 or watch.calls["page"] == n_pages),
        ratio={},
        impressions_per_s=n_looks / wall_s,
        pages_per_s=n_pages / wall_s,
        pipeline_frac=seconds["pipeline"] / wall_s,
        page_ms=(seconds["pipeline"] + seconds["page"]) / n_made * 1e3,
        pipeline_ms=seconds["pipeline"] / n_made * 1e3,
        all_cpu_ms_per_page=cpu_s / n_pages * 1e3,
        cpu_frac=cpu_s / wall_s,
        profile_frac={
            part: took / wall_s for part, took in sorted(seconds.items(), key=lambda kv: -kv[1]) if part != "pipeline"
        },
        wall_s=wall_s,
        start_s=start_s,
        n_pages=n_pages,
        n_impressions=n_looks,
        n_events=n_events,
        virtual_hours=chosen.hours,
        size=chosen.size,
        n_processes=chosen.processes,
    )


if __name__ == "__main__":
    main()
