"""Guards take a broken ranker away and leave a good one alone, whatever the dice say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.monitor import GuardMonitor
from millrace.flywheel.guards.readings import Trip
from millrace.flywheel.near_line.learner import SettledRows
from millrace.testing.live_traffic import ACTIONS, LiveTraffic, Predict, blind, fair, good, scrambled, threefold

CONFIG = GuardsConfig()
FAULTS = {"auc_drop": scrambled, "calibration": threefold, "auc_deficit": blind}


def settled(traffic: LiveTraffic, predict: Predict, model: str, n: int) -> SettledRows:
    """Return rows of a ranker; rows of a viewer hang together as they come in pages of ten."""
    z, labels = traffic.rows(n)
    pages = np.arange(n) // 10
    return SettledRows(
        model=model,
        pages=pages,
        viewers=traffic.rng.integers(0, 300, int(pages[-1]) + 1)[pages],
        deep=predict(z, traffic.rng).astype(np.float32),
        counted=fair(z, traffic.rng).astype(np.float32),
        labels=labels,
    )


def run(
    monitor: GuardMonitor, seed: int, steps: Sequence[tuple[str, Predict]], *, n_looks: int = 12, rows: int = 400
) -> list[tuple[int, Trip]]:
    """Serve rankers one after the other; return what tripped, with the rows that version had had by then."""
    traffic, found = LiveTraffic(seed), []
    for model, predict in steps:
        for look in range(1, n_looks + 1):
            monitor.hear_settled(settled(traffic, predict, model, rows))
            for trip in monitor.look()[1]:
                found.append((look * rows, trip))
                monitor.take_away(trip.model)
    return found


@pytest.mark.slow
def test_a_good_ranker_after_a_good_one_is_left_alone() -> None:
    tripped = [run(GuardMonitor(CONFIG, ACTIONS), seed, [("old", good), ("new", good)], n_looks=8) for seed in range(6)]
    assert tripped == [[]] * 6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_good_ranker_is_left_alone_over_forty_worlds() -> None:
    n_false = sum(
        bool(run(GuardMonitor(CONFIG, ACTIONS), seed, [("old", good), ("new", good)], n_looks=15)) for seed in range(40)
    )
    assert n_false == 0


@pytest.mark.parametrize("fault", [scrambled, threefold, blind])
def test_a_broken_ranker_is_taken_away_within_some_thousand_rows(fault: Predict) -> None:
    for seed in range(2):
        found = run(GuardMonitor(CONFIG, ACTIONS), seed, [("old", good), ("new", fault)])
        assert [trip.model for _, trip in found] == ["new"]
        assert found[0][0] <= 4_400
        assert found[0][1].reading.threshold is not None
        assert "guard" in found[0][1].reason


def test_a_broken_first_ranker_has_the_counters_to_be_measured_by() -> None:
    ((_, trip),) = run(GuardMonitor(CONFIG, ACTIONS), 1, [("first", scrambled)])
    assert trip.reading.guard in ("auc_deficit", "auc")
    assert "counters" in trip.reason or "AUC" in trip.reason


def test_a_ranker_that_breaks_while_it_serves_is_taken_away() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(2)
    trips: list[Trip] = []
    for predict in [good] * 6 + [scrambled] * 10:
        monitor.hear_settled(settled(traffic, predict, "m", 1_000))
        trips = trips or monitor.look()[1]
    assert trips[0].model == "m"


def test_little_evidence_says_nothing_and_a_look_without_new_rows_confirms_nothing() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(1)
    monitor.hear_settled(settled(traffic, threefold, "m", 400))
    (model,), trips = monitor.look()
    assert {reading.state for reading in model.readings} == {"waiting"}
    monitor.hear_settled(settled(traffic, threefold, "m", 8_000))
    states = []
    for _ in range(5):
        (model,), trips = monitor.look()
        states.append(next(r.state for r in model.readings if (r.guard, r.of) == ("calibration", "dwell")))
        assert not trips
    assert states == ["confirming"] * 5 or states == ["warning"] * 5
    for _ in range(3):
        monitor.hear_settled(settled(traffic, threefold, "m", 500))
        trips = monitor.look()[1]
    assert [trip.model for trip in trips] == ["m"]


def test_of_a_head_whose_actions_come_late_no_calibration_is_said() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(1)
    slow = np.zeros(len(ACTIONS), dtype=np.bool_)
    slow[Action.LIKE] = True
    for _ in range(6):
        monitor.hear_settled(replace(settled(traffic, good, "m", 400), is_slow=slow))
    (found,), _ = monitor.look()
    states = {(reading.guard, reading.of): reading.state for reading in found.readings}
    assert states["calibration", "like"] == "waiting"
    assert states["calibration", "dwell"] == "ok"
    assert states["auc", "like"] == "ok"


def test_what_was_taken_away_is_not_spoken_of_and_can_come_back() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(1)
    for _ in range(12):
        monitor.hear_settled(settled(traffic, scrambled, "m", 500))
        if trips := monitor.look()[1]:
            break
    assert trips
    monitor.take_away("m")
    monitor.hear_settled(settled(traffic, scrambled, "m", 500))  # still in flight
    assert monitor.look() == ([], [])
    monitor.begin_again("m")
    monitor.hear_settled(settled(traffic, good, "m", 500))
    assert [model.model for model in monitor.look()[0]] == ["m"]


def test_one_viewer_alone_proves_nothing_and_all_figures_are_finite() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(1)
    for _ in range(6):
        rows = settled(traffic, scrambled, "m", 1_000)
        monitor.hear_settled(replace(rows, viewers=np.zeros(1_000, np.int64), deep=rows.deep * 0))
        (model,), trips = monitor.look()
        assert not trips
        assert np.isfinite([[r.value, r.low, r.high] for r in model.readings]).all()


def test_whose_rows_they_are_is_forgotten_with_the_viewer() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(1)
    rows = settled(traffic, good, "m", 100)
    monitor.hear_settled(replace(rows, viewers=np.where(np.arange(100) < 40, 77, 78)))
    monitor.forget(77)
    assert monitor.arrays()["0.viewers"].tolist() == [0] * 40 + [78] * 60


def test_what_is_kept_of_another_space_or_damaged_changes_nothing() -> None:
    monitor, traffic = GuardMonitor(CONFIG, ACTIONS), LiveTraffic(1)
    monitor.hear_settled(settled(traffic, good, "m", 700))
    kept, said = monitor.arrays(), monitor.look()
    other = GuardMonitor(CONFIG, ACTIONS)
    for wrong in ({}, {**kept, "0.viewers": kept["0.viewers"][:-1]}, {**kept, "told": kept["told"][:-1]}):
        with pytest.raises((KeyError, ValueError)):
            other.load(wrong)
        assert other.look() == ([], [])
    other.load(kept)
    assert other.arrays().keys() == kept.keys()
    assert [model.readings for model in other.look()[0]] == [model.readings for model in said[0]]
