"""The join rate is of the newest looks, and an alarm when it is low, or falls."""

from __future__ import annotations

from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_watch import JoinRate, JoinWatch
from millrace.flywheel.sample_config import SampleConfig

CONFIG = SampleConfig(alarm_looks=100, min_join_rate=0.8, max_join_rate_fall=0.1)


def after(watch: JoinWatch, *epochs: tuple[int, int]) -> JoinRate:
    """Let epochs pass: looks, and how many found their page, since the one before."""
    n_looks = watch.points[-1].n_looks if watch.points else 0
    n_joined = watch.points[-1].n_looks_joined if watch.points else 0
    for looks, joined in epochs:
        n_looks, n_joined = n_looks + looks, n_joined + joined
        watch.hear(JoinStats(n_looks_of_pages=n_looks, n_looks_joined=n_joined))
    return watch.rate()


def test_a_bad_hour_does_not_hide_behind_a_good_month() -> None:
    watch = JoinWatch(CONFIG)
    assert after(watch, *[(100, 99)] * 50).alarm == ""
    rate = after(watch, (100, 10))
    assert rate.looks_frac == 0.1
    assert rate.before_frac == 0.99
    assert "10.0% found their page, less than 80%" in rate.alarm
    assert after(watch, (100, 100)).alarm == ""


def test_a_fall_is_an_alarm_above_the_threshold_too() -> None:
    watch = JoinWatch(CONFIG)
    rate = after(watch, *[(100, 100)] * 5, (100, 85))
    assert "85.0% found their page, of those before 100.0%" in rate.alarm


def test_of_too_few_looks_nothing_is_said() -> None:
    assert after(JoinWatch(CONFIG), (99, 0)).alarm == ""
    assert after(JoinWatch(CONFIG)).looks_frac == 1.0


def test_looks_that_found_their_page_an_epoch_later_make_no_more_than_all() -> None:
    assert after(JoinWatch(CONFIG), (100, 98), (100, 102)).looks_frac == 1.0


def test_what_was_seen_is_known_after_a_restart_and_forgotten_when_the_log_is_heard_anew() -> None:
    watch = JoinWatch(CONFIG)
    after(watch, *[(100, 100)] * 3)
    again = JoinWatch(CONFIG, watch.points)
    assert again.rate() == watch.rate()
    again.hear(JoinStats(n_looks_of_pages=5, n_looks_joined=5))
    assert len(again.points) == 1


def test_actions_that_find_no_look_are_an_alarm_of_their_own_over_as_many_of_the_newest() -> None:
    watch = JoinWatch(CONFIG)
    for number in range(1, 51):  # ten actions an epoch, of which the newest hundred find nothing
        n_joined = 10 * min(number, 40)
        rate = watch.hear(JoinStats(n_deeds=10 * number, n_deeds_joined=n_joined))
    assert (rate.n_deeds, rate.deeds_frac) == (100, 0.0)
    assert rate.alarm == "of the newest 100 actions 0.0% found a look, less than 80%"


def test_where_half_of_the_pages_are_logged_half_of_the_looks_are_all_that_can_find_theirs() -> None:
    watch = JoinWatch(CONFIG)
    watch.hear(JoinStats(n_looks_of_pages=100, n_looks_joined=100), n_pages=10, n_made=10)
    rate = watch.hear(JoinStats(n_looks_of_pages=300, n_looks_joined=190), n_pages=30, n_made=50)
    assert (rate.looks_frac, rate.alarm) == (0.9, "")
    assert "45.0%" in watch.hear(JoinStats(n_looks_of_pages=500, n_looks_joined=235), n_pages=50, n_made=90).alarm
