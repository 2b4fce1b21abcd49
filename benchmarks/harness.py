"""Shared by all benchmarks: what machine and commit, interleaved timing, the one JSON line, baseline servers.

A benchmark is a script that prints exactly one JSON line (`emit`). It checks outputs equal first, times ours and
the baselines in turns (`interleave`), so that a noisy neighbour hits all alike, and reports medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

REDIS_DB: Final = 13
"""The database number that benchmarks may empty."""


def machine() -> str:
    """Return what this ran on: processor, cores, memory, Python, NumPy."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{model}, {n_cores} cores, {memory_gib:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )


def commit() -> str:
    """Return the short commit of the checkout, with ``+`` if files differ from it; ``unknown`` outside git."""
    folder = Path(__file__).resolve().parent
    try:
        head = _git(folder, "rev-parse", "--short", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def interleave(
    runs: Mapping[str, Callable[[int], Any]],
    *,
    n_rounds: int,
    n_warmup: int = 2,
    n_per_turn: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Return the seconds of every run of every contender, taken in turns.

    Parameters
    ----------
    runs
        Name to a function of the run's number (negative while warming up), so that every run may ask something
        else, and the same of everybody.
    n_rounds
        Timed rounds.
    n_warmup
        Rounds before that are not counted (compilation, caches).
    n_per_turn
        Runs of one contender in a row, each timed by itself. The first of a turn finds the processor's caches as the
        others left them, the later ones as in a server that does this work all the time.
    clock
        What tells seconds; `time.thread_time` leaves out waiting for a core that others have.

    Returns
    -------
    dict
        Name to float64 seconds, shape (n_rounds * n_per_turn,), in order.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for round_number in range(-n_warmup, n_rounds):
            # Who goes first changes, so that nobody always finds the caches left by the same other.
            shift = round_number % len(order)
            for name in order[shift:] + order[:shift]:
                for number in range(round_number * n_per_turn, (round_number + 1) * n_per_turn):
                    start = clock()
                    runs[name](number)
                    took = clock() - start
                    if round_number >= 0:
                        seconds[name].append(took)
    finally:
        if was_enabled:
            gc.enable()
    return {name: np.array(values) for name, values in seconds.items()}


def median_ms(seconds: np.ndarray) -> float:
    """Return the median in milliseconds."""
    return float(np.median(seconds)) * 1e3


def percentile_ms(seconds: np.ndarray, percent: float) -> float:
    """Return a percentile in milliseconds."""
    return float(np.percentile(seconds, percent)) * 1e3


def emit(bench: str, *, equal: bool, ratio: Mapping[str, float], **figures: Any) -> None:
    """Print the one JSON line, floats at four significant digits; end with code 1 where outputs differed."""
    line = {
        "bench": bench,
        "equal": bool(equal),
        "machine": machine(),
        "commit": commit(),
        "ratio": _rounded(dict(ratio)),
        **{name: _rounded(value) for name, value in figures.items()},
    }
    print(json.dumps(line))
    if not equal:
        print(f"bench {bench}: outputs differ; no figure of this run counts", file=sys.stderr)
        sys.exit(1)


def without_options(doc: str | None) -> None:
    """Read the command line of a benchmark that takes no options: ``--help`` tells what it is, others are refused."""
    argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def note(text: str) -> None:
    """Tell the person waiting what is going on, on standard error."""
    print(text, file=sys.stderr, flush=True)


def redis_client(db: int = REDIS_DB) -> Any:
    """Return a client of the real Redis on this machine, its database ``db`` emptied; a missing server is an error."""
    try:
        import redis
        from redis.utils import HIREDIS_AVAILABLE
    except ImportError as error:
        sys.exit(f"baseline redis: not installed ({error}); run `pip install -e '.[redis]'`")
    if not HIREDIS_AVAILABLE:
        sys.exit("baseline redis: hiredis is not installed; run `pip install -e '.[redis]'`")
    client = redis.Redis(host="127.0.0.1", port=6379, db=db)
    try:
        client.flushdb()
    except redis.exceptions.ConnectionError as error:
        sys.exit(f"baseline redis at 127.0.0.1:6379: {error}; start `redis-server`, figures need the real one")
    return client


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number) or number == 0:
            return None if not math.isfinite(number) else 0.0
        rounded = round(number, 3 - math.floor(math.log10(abs(number))))
        return int(rounded) if abs(rounded) >= 10_000 else rounded
    if isinstance(value, np.integer):
        return int(value)
    return value
