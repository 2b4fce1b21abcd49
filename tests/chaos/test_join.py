"""The join, killed a hundred times while events come late, twice and out of order: 0 lost, 0 doubled, 0 wrong."""

from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from millrace.testing.join_house import JoinHouse, differences
from millrace.testing.join_traffic import Traffic, traffic
from millrace.testing.join_victim import join_for_ever

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

N_KILLS = 100
WINDOW = 256

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["millrace.testing.join_victim"])


def test_a_hundred_kills_lose_double_and_mislabel_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    house = JoinHouse(tmp_path, duplicate_window=WINDOW)
    events = traffic(Traffic(n_pages=700, n_viewers=60, n_posts=400, span_ms=600 * 60_000))
    # Delivered once more by a producer that had no answer: the same ids, some beyond what the log remembers.
    again = [event for event in events[: -WINDOW // 4] if rng.random() < 0.05]
    parts = np.array_split(np.arange(len(events)), N_KILLS)
    n_killed, n_began, epochs = 0, 0, 0
    while n_killed < N_KILLS:
        part = [events[i] for i in parts[n_killed]]
        house.put(part)
        if n_killed % 5 == 4:
            house.put([again[i] for i in rng.integers(0, len(again), 20).tolist()])
        said, its_end = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=join_for_ever, args=(its_end, tmp_path, WINDOW))
        process.start()
        its_end.close()
        # It is killed while it begins, or between two epochs, or in one: counted in what it says, for a machine may be
        # slow, and then a moment later.
        n_wanted = int(rng.integers(4))
        for number in range(n_wanted):
            if (word := said.recv()) < 0:
                break
            epochs, n_began = max(epochs, word), n_began + (number == 0)
        time.sleep(float(rng.random()) ** 2 * 0.05)
        process.kill()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL, "it ended by itself"
        said.close()
        n_killed += 1
    house.join_all()
    truth = house.truth()
    in_files = differences(house.in_files(), truth)
    topic, n_repeated = house.on_topic()
    on_topic = differences(topic, truth)
    print(
        f"\n{N_KILLS} kills ({n_began} after it had begun, {epochs} epochs committed), {len(truth):,} samples: lost, "
        f"doubled, wrong in files {in_files}, on the topic {on_topic}; {n_repeated:,} rows repeated on the topic"
    )
    assert len(truth) > 3_000
    assert in_files == (0, 0, 0)
    assert on_topic == (0, 0, 0)
    assert epochs > 10
