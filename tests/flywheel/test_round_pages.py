"""How a round's pages are parted, and which older ones are learned from again."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

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
    with_earlier,
)


def test_pages_are_parted_by_time_and_the_newest_are_judged_on() -> None:
    now_ms = np.array([50, 10, 40, 20, 30, 60, 80, 70, 90, 100])
    pages = parted(now_ms, 0.2, 0.3)
    assert now_ms[pages.fresh].tolist() == [10, 20, 30, 40, 50]
    assert now_ms[pages.chosen_by].tolist() == [60, 70]
    assert now_ms[pages.judged].tolist() == [80, 90, 100]
    assert now_ms[pages.new].tolist() == sorted(now_ms.tolist())


def test_some_trusted_pages_calibrate_and_the_newest_others_judge_where_new_ones_are_few() -> None:
    new = parted(np.array([100, 110, 120, 130]), 0.25, 0.25)
    calibrates = np.array([True, False, True, False, True])
    pages = with_earlier(new, 2, np.array([50, 40, 30, 60, 70]), calibrates, 2)
    at = np.array([100, 110, 120, 130, 10, 20, 50, 40, 30, 60, 70])
    assert at[pages.older].tolist() == [10, 20]
    assert at[pages.chosen_by].tolist() == [30, 50, 70, 120]
    assert at[pages.trusted].tolist() == [40, 60]
    assert at[pages.judged].tolist() == [130]
    assert at[pages.recent].tolist() == [60]
    none = np.empty(0, dtype=np.int64)
    assert len(with_earlier(new, 0, none, none.astype(np.bool_), 600).trusted) == 0
    assert len(with_earlier(new, 0, np.arange(9), np.zeros(9, dtype=np.bool_), 1).recent) == 0


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=5, max_size=60))
def test_no_judged_page_is_as_old_as_one_that_is_learned_from(times: list[int]) -> None:
    now_ms = np.array(times)
    pages = parted(now_ms, 0.15, 0.25)
    assert sorted([*pages.fresh, *pages.chosen_by, *pages.judged]) == list(range(len(times)))
    assert len(pages.judged) >= 1
    others = now_ms[np.concatenate([pages.fresh, pages.chosen_by])]
    assert others.max(initial=-1) < now_ms[pages.judged].min()


def test_a_sample_keeps_order_and_size() -> None:
    assert sampled(20, 20, np.random.default_rng(1)).tolist() == list(range(20))
    some = sampled(20, 7, np.random.default_rng(1))
    assert len(some) == 7
    assert (np.diff(some) > 0).all()
    assert some.max() < 20


def test_an_older_page_is_half_as_likely_for_every_half_life_of_age() -> None:
    odds = replay_odds(np.array([0, 10 * HOUR_MS, 20 * HOUR_MS]), 20 * HOUR_MS, 10.0)
    assert np.allclose(odds * 7, [1, 2, 4])


def test_newer_pages_are_drawn_rather_than_older_ones() -> None:
    now_ms = np.arange(400) * HOUR_MS
    config = LearningConfig(max_replay_pages=100, replay_half_life_h=50)
    drawn = drawn_older(now_ms, 400 * HOUR_MS, config, np.random.default_rng(1))
    assert len(drawn) == 100
    assert (np.diff(drawn) > 0).all()
    assert np.median(now_ms[drawn]) > 300 * HOUR_MS
    assert len(drawn_older(now_ms, 400 * HOUR_MS, LearningConfig(), np.random.default_rng(1))) == 400


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


def test_hours_of_refused_and_rolled_back_rounds_are_not_trusted_and_judged_pages_are_known() -> None:
    decisions = [a_round(1, "promoted", "a"), a_round(2, "refused"), a_round(3, "promoted", "b"), a_round(4, "void")]
    assert untrusted_spans([a_round(5, "refused", broken="entropy")], frozenset()) == []  # nothing was gained: no lie
    assert untrusted_spans(decisions, frozenset({"b"})) == [Span(20, 30), Span(30, 40)]
    assert judged_spans(decisions) == [Span(18, 20), Span(28, 30), Span(38, 40)]  # of the void one the next round tells
    assert is_within(np.array([17, 18, 19, 20, 30]), judged_spans(decisions)).tolist() == [0, 1, 1, 0, 0]


def test_what_a_whole_training_learned_from_judges_no_more() -> None:
    rounds = [a_round(number, "promoted") for number in (1, 2, 3)]
    whole = replace(a_round(4, "seeded"), from_ms=19, judged_from_ms=39)
    assert judged_spans([*rounds, whole]) == [Span(18, 19), Span(39, 40), Span(39, 50)]
    assert judged_spans([*rounds, replace(whole, judged_from_ms=0)]) == [Span(18, 19)]
