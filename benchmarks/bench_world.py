"""Simulated impressions per second on two cores: the world's engine of behaviour beside a plain per-user loop.

Both let the same people of a ``demo`` world look at the same pages of 20 live posts, round after round: what drives
them (interest, quality, acquaintance, social proof, freshness, stories), what follows from it, how far they scroll,
which of 19 actions they do, how long they look, and what they and the posts remember (meetings, tiredness of authors
and topics, likers). As where a world makes its history, what nobody gets to is not computed: viewers
scroll down to where they stop, in the engine and in the loop alike.

* An *impression* is a post that was looked at, as everywhere in Millrace. Telling it as events is not part of it (see
  `bench_loop.py`). ``with_truth_impressions_per_s`` is the engine as the judge needs it: with the truth of all 20 posts
  of each page, looked at or not.
* ``per_user_loop`` is `per_user_loop.PerUserLoop` drawing from ``random.Random``. With the world's own draws it must do
  the same actions and dwell as the engine, which is checked first, for every mechanism.
* Both have two processes, each with half of the viewers and the world as it was before. Times end with the slower
  process, both started at once; medians of interleaved rounds.

``cpu_us`` and ``per_user_loop_cpu_us`` are processor time an impression: on a busy machine they tell more than the
clock.

The headline is the mechanism ``gate``; ``multi_…`` and ``shifted_…`` are the others.
"""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from harness import emit, note, without_options
from millrace.base.actions import Action
from millrace.simulator.config import HOUR_MS, MechanismName, WorldConfig
from millrace.simulator.encounters import Looks, Slates
from millrace.simulator.mechanisms import MECHANISMS
from millrace.simulator.mechanisms.situation import COLUMN
from millrace.simulator.world import World, occasion_key
from per_user_loop import FreeDraws, HashedDraws, Look, PerUserLoop

NOW_MS: Final = 1_767_571_200_000
N_PROCESSES: Final = 2
PAGE: Final = 20
N_ROUNDS: Final = 5
N_WARMUP: Final = 2
ENGINE_PAGES: Final = 8
"""Pages a viewer and timed round of the engine; the loop's are fewer, so that both take about as long."""
LOOP_PAGES: Final = 1
N_CHECKED: Final = 60
LIVE_MS: Final = 48 * HOUR_MS


def a_world(mechanism: MechanismName, **shape: Any) -> World:
    """Return a world whose history is over."""
    world = World(WorldConfig(mechanism=mechanism, **shape), NOW_MS)
    for _ in world.history():
        pass
    return world


def slates_of(world: World, viewers: np.ndarray, number: int) -> Slates:
    """Return a page of live posts for each viewer, none twice on a page: an even share of the live posts, strided."""
    live = np.flatnonzero(world.posts["created_ms"] >= world.now_ms - LIVE_MS)
    n, began_ms = len(viewers), world.now_ms + 1_000 * (number + 1)
    start = np.random.default_rng((number, 7)).integers(0, len(live), n)
    stride = max(1, len(live) // PAGE)
    row = live[(start[:, None] + stride * np.arange(PAGE)) % len(live)]
    return Slates(
        viewer=np.repeat(viewers, PAGE),
        row=row.ravel(),
        page=np.repeat(np.arange(n), PAGE),
        position=np.tile(np.arange(PAGE), n),
        began_ms=np.full(n * PAGE, began_ms),
        occasion_key=occasion_key(np.full(n, began_ms), 0),
    )


def remember(world: World, looks: Looks) -> int:
    """Remember what came of pages as `World.absorb` does, and tell nobody; return the number of impressions."""
    examined = np.flatnonzero(looks.is_examined)
    viewer, row = looks.slates.viewer[examined], looks.slates.row[examined]
    world.memory.meet(viewer, row)
    world.memory.looked(viewer, looks.situation.author[examined], looks.situation.topic[examined])
    liked = looks.did[examined, COLUMN[Action.LIKE]]
    world.memory.liked(viewer[liked], row[liked], world.posts.n_posts)
    return len(examined)


def loop_round(loop: PerUserLoop, slates: Slates) -> list[list[Look]]:
    """Let the loop go through the pages of a round, viewer by viewer."""
    n = len(slates.occasion_key)
    rows = slates.row.reshape(n, PAGE).tolist()
    viewers, began = slates.viewer[::PAGE].tolist(), slates.began_ms[::PAGE].tolist()
    looks = [
        loop.look(viewer, page, began_ms, key)
        for viewer, page, began_ms, key in zip(viewers, rows, began, slates.occasion_key.tolist(), strict=True)
    ]
    loop.round_is_over()
    return looks


def differences(world: World, viewers: np.ndarray, n_rounds: int) -> tuple[int, int]:
    """Return in how many looks the loop differs from the engine on the same draws, and how many looks there were.

    The world goes on meanwhile, in both in the same way.
    """
    loop = PerUserLoop(world, HashedDraws(world.draws, world.posts["key"]))
    n_different = n_looks = 0
    for number in range(n_rounds):
        # The first page comes again in the end: somebody meets the same posts for the second time.
        slates = slates_of(world, viewers, number if number < n_rounds - 1 else 0)
        looks = world.encounters.look_without_rest(slates)
        n_looks += remember(world, looks)
        engine: list[list[Look]] = [[] for _ in viewers]
        seen = looks.slates
        for item in np.flatnonzero(looks.is_examined).tolist():
            did = np.flatnonzero(looks.did[item]).tolist()
            engine[seen.page[item]].append((int(seen.row[item]), did, int(looks.dwell_ms[item])))
        for ours, theirs in zip(engine, loop_round(loop, slates), strict=True):
            n_different += abs(len(ours) - len(theirs)) + sum(a != b for a, b in zip(ours, theirs, strict=False))
    return n_different, n_looks


def serve(way: Connection, world: World, viewers: np.ndarray) -> None:
    """Do rounds as asked, as a process: contender, first page's number, pages; tell CPU seconds and looks."""
    loop = PerUserLoop(world, FreeDraws(int(viewers[0])))
    while (asked := way.recv()) is not None:
        contender, first, n_pages = asked
        slates = [slates_of(world, viewers, first + i) for i in range(n_pages)]
        way.send("ready")
        way.recv()
        start = time.process_time()
        encounters = world.encounters
        if contender == "engine":
            n = sum(remember(world, encounters.look_without_rest(s)) for s in slates)
        elif contender == "truth":
            n = sum(remember(world, encounters.look(s)) for s in slates)
        else:
            n = sum(len(looks) for s in slates for looks in loop_round(loop, s))
        way.send((time.process_time() - start, n))


class Pair:
    """Two processes with half of the viewers each."""

    def __init__(self, world: World) -> None:
        # Forked, so that both have the world as it is; this process runs no threads.
        context = get_context("fork")
        self._ways = []
        n_users = world.config.shape().n_users
        for part in np.array_split(np.arange(n_users), N_PROCESSES):
            ours, theirs = context.Pipe()
            context.Process(target=serve, args=(theirs, world, part), daemon=True).start()
            self._ways.append(ours)

    def run(self, contender: str, first: int, n_pages: int) -> tuple[float, float, int]:
        """Return wall-clock seconds of a round, begun by both at once, its CPU seconds, and its impressions."""
        for way in self._ways:
            way.send((contender, first, n_pages))
        for way in self._ways:
            way.recv()
        start = time.perf_counter()
        for way in self._ways:
            way.send("go")
        done = [way.recv() for way in self._ways]
        return time.perf_counter() - start, sum(cpu_s for cpu_s, _ in done), sum(n for _, n in done)

    def close(self) -> None:
        for way in self._ways:
            way.send(None)


def measured(world: World) -> dict[str, float]:
    """Return figures of one mechanism."""
    pair = Pair(world)
    contenders = ("engine", "loop", "truth")
    per_s: dict[str, list[float]] = {name: [] for name in contenders}
    cpu_us: dict[str, list[float]] = {name: [] for name in contenders}
    n_impressions = 0
    for number in range(-N_WARMUP, N_ROUNDS):
        for contender in contenders if number % 2 else contenders[::-1]:
            n_pages = LOOP_PAGES if contender == "loop" else ENGINE_PAGES
            took_s, cpu_s, n = pair.run(contender, (number + N_WARMUP) * ENGINE_PAGES, n_pages)
            if number < 0:
                continue
            per_s[contender].append(n / took_s)
            cpu_us[contender].append(cpu_s / n * 1e6)
            if contender == "engine":
                n_impressions += n
    pair.close()
    ours, loop = float(np.median(per_s["engine"])), float(np.median(per_s["loop"]))
    return {
        "impressions_per_s": ours,
        "with_truth_impressions_per_s": float(np.median(per_s["truth"])),
        "per_user_loop_impressions_per_s": loop,
        "ratio": ours / loop,
        "cpu_us": float(np.median(cpu_us["engine"])),
        "per_user_loop_cpu_us": float(np.median(cpu_us["loop"])),
        "n_impressions": n_impressions,
    }


def main() -> None:
    figures: dict[str, dict[str, float]] = {}
    n_different = n_compared = 0
    for mechanism in MECHANISMS:
        note(f"world {mechanism} …")
        world = a_world(mechanism)
        n, of = differences(world, np.arange(N_CHECKED), 4)
        n_different, n_compared = n_different + n, n_compared + of
        world.encounters.look(slates_of(world, np.arange(10), 0))
        figures[mechanism] = measured(world)
    gate = figures["gate"]
    others = {f"{m}_{key}": figures[m][key] for m in MECHANISMS if m != "gate" for key in gate if key != "ratio"}
    emit(
        "world",
        equal=n_different == 0,
        ratio={
            "per_user_loop": gate["ratio"],
            "per_user_loop_cpu": gate["per_user_loop_cpu_us"] / gate["cpu_us"],
            **{f"{m}_per_user_loop": figures[m]["ratio"] for m in MECHANISMS if m != "gate"},
        },
        **{key: value for key, value in gate.items() if key != "ratio"},
        **others,
        n_compared=n_compared,
        n_different=n_different,
        n_users=world.config.shape().n_users,
        n_posts=world.posts.n_posts,
        n_processes=N_PROCESSES,
        page=PAGE,
        n_rounds=N_ROUNDS,
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
