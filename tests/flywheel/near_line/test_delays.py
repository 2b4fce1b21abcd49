"""Actions that come when their row is settled already: their heads are slow, and nobody calibrates by half of them."""

from __future__ import annotations

import numpy as np

from millrace.base.actions import Action
from millrace.events.feed_events import Impression
from millrace.events.packed import unpack_arrays
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.delays import Delays
from millrace.flywheel.near_line.learner import NearLineLearner, SettledRows
from millrace.flywheel.near_line.model_layer import ModelLayer
from millrace.flywheel.near_line.pages import Page
from millrace.testing.builders import an_engagement, an_impression
from millrace.testing.live_traffic import ACTIONS, LiveTraffic, good


class Kept:
    """Remembers what was settled last."""

    rows: SettledRows

    def hear_page(self, page: Page) -> None:
        pass

    def hear_settled(self, rows: SettledRows) -> None:
        self.rows = rows


def test_a_head_is_slow_when_more_than_a_tenth_comes_late_and_that_is_no_chance() -> None:
    delays = Delays(2)
    delays.in_time(np.ones((100, 2)))
    for _ in range(19):
        delays.late(1)
    assert delays.is_slow.tolist() == [False, False]
    delays.late(1)
    assert delays.is_slow.tolist() == [False, True]
    delays.in_time(np.tile([0.0, 1.0], (81, 1)))  # 20 of 201
    assert delays.is_slow.tolist() == [False, False]


def test_counts_fade_so_that_a_head_can_change() -> None:
    delays = Delays(1)
    delays.in_time(np.ones((4_001, 1)))
    assert delays.counts[0, 0] == 2_000.5


def test_the_learner_measures_what_comes_behind_the_settling() -> None:
    traffic, kept = LiveTraffic(3), Kept()
    learner = NearLineLearner(NearLineConfig(wait_s=10), traffic.hasher, ACTIONS, watchers=(kept,))
    for number in range(40):
        page = list(traffic.page(good))
        time_ms, served = page[0][0] + number * 60_000, page[0][1]
        look = page[1][1].payload
        assert isinstance(look, Impression)
        who, what, request = look.viewer_id, look.post_id, f"r{number}"
        learner.hear(time_ms, served)
        learner.hear(time_ms, an_impression(who, what, dwell_ms=4_000, request_id=request))
        learner.hear(time_ms + 1_000, an_engagement(who, what, "like", request_id=request))
        learner.advance(time_ms + 11_000)
        learner.hear(time_ms + 12_000, an_engagement(who, what, "reply", request_id=request))
    assert kept.rows.is_slow is not None
    assert np.flatnonzero(kept.rows.is_slow).tolist() == [Action.REPLY]
    again = NearLineLearner(NearLineConfig(wait_s=10), traffic.hasher, ACTIONS)
    again.load(learner.arrays())
    assert np.array_equal(again.arrays()["delays"], learner.arrays()["delays"])


def test_of_a_slow_head_no_gate_is_open() -> None:
    layer = ModelLayer(NearLineConfig(n_slots=16), np.ones(3, dtype=np.bool_))
    layer.calibration_gain.is_open[:] = True
    (update,) = layer.updates("m", np.array([False, True, False]))
    assert unpack_arrays(update.arrays)["is_calibrated"].tolist() == [1, 0, 1]
