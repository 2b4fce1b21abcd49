"""Skew is zero: what a world's pages logged when they were served is what a replay makes of them, array for array.

People of a simulated world use the real feed, which logs what models saw; then the log is read as a training reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from millrace.app.settings import Settings, load_settings
from millrace.app.simulation.local_client import LOGS_FEATURES
from millrace.app.simulation.run import RunSpec, run, run_home
from millrace.app.training import home_samples
from millrace.base.actions import Action
from millrace.base.ids import NO_ID
from millrace.events.packed import PackedArrays, unpack_arrays
from millrace.flywheel.sample_set import SampleSet
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.policies import Policy
from millrace.testing.progress import in_silence

pytestmark = [pytest.mark.timeout(600)]

WORLD = WorldConfig(size="tiny", n_users=150, history_ms=18 * HOUR_MS)
HOURS = 4
PAGES = HOURS - 1.0
"""No look of the world's history is so young: all pages within have logged what they were made from."""

NOT_LOGGED_EXACTLY = ("meta", "baseline")
"""Counters lean towards the rates of all candidates, whom a replay of the page alone does not have."""

COLUMN_BY_ARRAY = {
    "h_posts": "history_posts",
    "h_authors": "history_authors",
    "h_actions": "history_actions",
    "h_dense": "history_dense",
    "h_surfaces": "history_surfaces",
    "v_newest_ms": "newest_ms",
    "v_languages": "languages",
    "v_bio": "bios",
    "v_dense": "profile_dense",
    "contents": "post_ids",
    "authors": "author_ids",
    "languages": "row_languages",
    "dense": "dense",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the home of a run whose pages are logged with features."""
    folder = tmp_path_factory.mktemp("run")
    policy = Policy(name="home", settings={LOGS_FEATURES: "true"})
    n_pages = run(
        RunSpec(
            folder=str(folder / "run"),
            worlds=str(folder / "worlds"),
            world=WORLD,
            policies=(policy,),
            hours=HOURS,
            regret_frac=0.0,
        )
    )
    assert n_pages > 5
    return load_settings(run_home(folder / "run"))


def read(home: Settings, hours: float | None, *, replays: bool = False) -> tuple[SampleSet, list[str]]:
    """Return what a training learns from, and what one is told meanwhile."""
    steps: list[str] = []

    def telling(what: str) -> Any:
        steps.append(what)
        return in_silence(what)

    return home_samples(home, telling, hours=hours, replays=replays), steps


@pytest.fixture(scope="module")
def replayed(home: Settings) -> SampleSet:
    return read(home, PAGES, replays=True)[0]


def differences(one: SampleSet, other: SampleSet) -> list[str]:
    """Return the columns that are not the same, byte for byte."""
    names = [field.name for field in fields(SampleSet) if field.name not in NOT_LOGGED_EXACTLY]
    return [
        name
        for name in names
        if getattr(one, name).shape != getattr(other, name).shape
        or getattr(one, name).tobytes() != getattr(other, name).tobytes()
    ]


def test_what_was_logged_is_what_a_replay_makes_of_it(home: Settings, replayed: SampleSet) -> None:
    logged, steps = read(home, PAGES)
    assert "replaying the log (records)" not in steps
    assert differences(logged, replayed) == []
    assert logged.meta == replayed.meta
    assert (logged.requests != NO_ID).all()
    assert logged.n_rows > 30
    assert len(logged.history_posts) > 100
    assert logged.labels[:, Action.DWELL_TIME].any()
    assert (logged.newest_ms <= logged.now_ms).all()


def test_pages_of_before_are_replayed_among_those_that_were_logged(home: Settings) -> None:
    mixed, steps = read(home, None)
    assert "replaying the log (records)" in steps
    assert differences(mixed, read(home, None, replays=True)[0]) == []
    assert (mixed.requests == NO_ID).any()
    assert (np.diff(mixed.now_ms) >= 0).mean() > 0.5


@pytest.mark.parametrize("array", sorted(COLUMN_BY_ARRAY))
def test_it_shows_if_one_array_was_logged_otherwise(
    home: Settings, replayed: SampleSet, monkeypatch: pytest.MonkeyPatch, array: str
) -> None:
    monkeypatch.setattr("millrace.features.encoding.logged.unpack_arrays", perturbed(array))
    logged, _ = read(home, PAGES)
    assert COLUMN_BY_ARRAY[array] in differences(logged, replayed)


def perturbed(name: str) -> Callable[[bytes], PackedArrays]:
    """Return what reads an event whose last number of one array is another."""

    def read_otherwise(data: bytes) -> PackedArrays:
        arrays = unpack_arrays(data)
        array = arrays[name].copy()
        array[-1:] += 1
        return {**arrays, name: array}

    return read_otherwise
