"""Which slates are old enough for what came of them to be known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.base.actions import ActionSpace
from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.flywheel.maturity import mature_until_ms, maturity_ms
from millrace.flywheel.slate_join import HOUR_MS, SlateJoin
from millrace.flywheel.slates import Slates
from millrace.testing.builders import NOW_MS, an_engagement, an_impression

S = 1000


def joined(events: Sequence[AnyEvent]) -> Slates:
    join = SlateJoin(IdHasher(), ActionSpace())
    for offset, event in enumerate(events):
        join.hear(offset, event.event_time_ms, event)
    return join.join()


def looks(n: int, apart_ms: int = S) -> list[AnyEvent]:
    return [
        an_impression(
            "a", f"p{i}", request_id=f"r{i}", position=0, dwell_ms=0, at_ms=NOW_MS + i * apart_ms, event_id=f"i{i}"
        )
        for i in range(n)
    ]


def likes(delays_ms: Sequence[int], apart_ms: int = S) -> list[AnyEvent]:
    return [
        an_engagement(
            "a", f"p{i}", "like", request_id=f"r{i}", at_ms=NOW_MS + i * apart_ms + delay_ms, event_id=f"e{i}"
        )
        for i, delay_ms in enumerate(delays_ms)
    ]


def test_the_wait_is_what_all_but_a_hundredth_of_the_actions_took() -> None:
    delays = [*range(1, 100), HOUR_MS]
    assert maturity_ms(joined([*looks(100), *likes(delays)])) == HOUR_MS  # 1 of 100: the next higher one
    assert maturity_ms(joined([*looks(200), *likes([*range(1, 200), HOUR_MS])])) == 199


def test_actions_that_belong_to_no_look_or_come_after_the_window_make_nobody_wait() -> None:
    late = an_engagement("a", "p0", "reply", request_id="r0", at_ms=NOW_MS + 25 * HOUR_MS, event_id="late")
    stray = an_engagement("b", "p0", "reply", at_ms=NOW_MS + 20 * HOUR_MS, event_id="stray")
    assert maturity_ms(joined([*looks(2), *likes([7, 5]), late, stray])) == 7
    assert maturity_ms(joined(looks(2))) == 0


def test_slates_count_once_the_wait_is_over_by_their_last_look() -> None:
    at_ms = NOW_MS + 50 * S
    second = an_impression("a", "q", request_id="r0", position=1, dwell_ms=0, at_ms=at_ms, event_id="second")
    slates = joined([*looks(4, 20 * S), second, *likes([5 * S] * 4, 20 * S)])
    assert slates.began_ms.tolist() == [NOW_MS + i * 20 * S for i in range(4)]
    assert slates.ended_ms.tolist() == [NOW_MS + at * S for at in (50, 20, 40, 60)]
    assert mature_until_ms(slates, NOW_MS + 65 * S) == NOW_MS + 60 * S + 1
    assert mature_until_ms(slates, NOW_MS + 60 * S) == NOW_MS + 55 * S + 1


def test_the_older_half_of_a_young_log_counts_however_long_actions_take() -> None:
    slates = joined([*looks(5), *likes([3 * HOUR_MS] * 5)])
    until_ms = mature_until_ms(slates, NOW_MS + 4 * S)
    assert (slates.ended_ms < until_ms).tolist() == [True, True, True, False, False]
    nothing = slates.take(np.empty(0, dtype=np.int64))
    assert mature_until_ms(nothing, NOW_MS) == NOW_MS - 3 * HOUR_MS + 1
