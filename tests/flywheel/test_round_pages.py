"""How a round's pages are parted, and which older ones are learned from again."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.flywheel.decisions import Decision, RuleOutcome
from millrace.flywheel.learning_config import LearningConfig
from millrace.flywheel.round_pages import (
    HOUR_MS,
    Span,
    drawn_older,
    is_within,
    judged_spans,
    parted,
    replay_odds,
    sampled,
    untrusted_spans,
)
from millrace.testing.sample_builders import planted_samples


def test_pages_are_parted_by_time_and_the_newest_are_judged_on() -> None:
    now_ms = np.array([50, 10, 40, 20, 30, 60, 80, 70, 90, 100])
    fresh, chosen_by, judged = parted(now_ms, 0.2, 0.3)
    assert now_ms[fresh].tolist() == [10, 20, 30, 40, 50]
    assert now_ms[chosen_by].tolist() == [60, 70]
    assert now_ms[judged].tolist() == [80, 90, 100]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=5, max_size=60))
def test_no_judged_page_is_as_old_as_one_that_is_learned_from(times: list[int]) -> None:
    now_ms = np.array(times)
    fresh, chosen_by, judged = parted(now_ms, 0.15, 0.25)
    assert sorted([*fresh, *chosen_by, *judged]) == list(range(len(times)))
    assert len(judged) >= 1
    others = now_ms[np.concatenate([fresh, chosen_by])]
    assert others.max(initial=-1) < now_ms[judged].min()


def test_a_sample_keeps_order_and_size() -> None:
    samples = planted_samples(20)
    assert sampled(samples, 20, np.random.default_rng(1)) is samples
    some = sampled(samples, 7, np.random.default_rng(1))
    assert len(some) == 7
    assert (np.diff(some.now_ms) > 0).all()


def test_an_older_page_is_half_as_likely_for_every_half_life_of_age() -> None:
    odds = replay_odds(np.array([0, 10 * HOUR_MS, 20 * HOUR_MS]), 20 * HOUR_MS, 10.0)
    assert np.allclose(odds * 7, [1, 2, 4])


def test_newer_pages_are_drawn_rather_than_older_ones() -> None:
    samples = planted_samples(400)
    config = LearningConfig(max_replay_pages=100, replay_half_life_h=50)
    drawn = drawn_older(samples, 400 * HOUR_MS, config, np.random.default_rng(1))
    assert len(drawn) == 100
    assert np.median(drawn.now_ms) > 300 * HOUR_MS
    assert len(drawn_older(samples, 400 * HOUR_MS, LearningConfig(), np.random.default_rng(1))) == 400


def test_hours_of_refused_and_rolled_back_rounds_are_not_trusted_and_judged_pages_are_known() -> None:
    def a_round(number: int, verdict: str, version: str = "", broken: str = "surprise") -> Decision:
        rule = RuleOutcome(name=broken, value=1.0, threshold=0.0, is_kept=verdict == "promoted", words="")
        return Decision(
            number=number,
            at_ms=0,
            from_ms=number * 10,
            until_ms=number * 10 + 10,
            judged_from_ms=number * 10 + 8,
            verdict=verdict,  # type: ignore[arg-type]
            why="",
            to_version=version,
            rules=(rule,),
        )

    decisions = [a_round(1, "promoted", "a"), a_round(2, "refused"), a_round(3, "promoted", "b"), a_round(4, "void")]
    assert untrusted_spans([a_round(5, "refused", broken="entropy")], frozenset()) == []  # nothing was gained: no lie
    assert untrusted_spans(decisions, frozenset({"b"})) == [Span(20, 30), Span(30, 40)]
    assert judged_spans(decisions)[:2] == [Span(18, 20), Span(28, 30)]
    assert is_within(np.array([17, 18, 19, 20, 30]), judged_spans(decisions)).tolist() == [0, 1, 1, 0, 0]
