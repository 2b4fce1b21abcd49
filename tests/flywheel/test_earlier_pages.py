"""Over rounds of uneven hours no page judges that anything was learned from or calibrated by."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.earlier_pages import EarlierPages, calibrates
from millrace.flywheel.learning_config import LearningConfig
from millrace.flywheel.round_pages import HOUR_MS, parted, with_earlier

CONFIG = LearningConfig(max_trusted_pages=20, min_judged_pages=12, max_replay_pages=30, replay_half_life_h=6)
VERDICTS = ("promoted", "refused", "void")


def played(sizes: list[int], verdicts: list[str], withdrawn: set[int], seed: int) -> tuple[Counter[str], list[int]]:
    """Play rounds of so many pages each; return on how many pages each thing was done, and any page on both sides."""
    rng = np.random.default_rng(seed)
    now_ms = np.concatenate([hour * HOUR_MS + np.sort(rng.integers(0, HOUR_MS, n)) for hour, n in enumerate(sizes)])
    viewers = rng.integers(1, 2**62, len(now_ms))
    decisions: list[Decision] = []
    used: set[int] = set()
    done: Counter[str] = Counter()
    both: list[int] = []
    from_ms = 0
    for number, verdict in enumerate(verdicts, 1):
        until_ms = number * HOUR_MS
        gone = frozenset(f"v{bad}" for bad in withdrawn if bad < number)
        earlier = EarlierPages(decisions, gone, from_ms, CONFIG, rng)
        before = np.flatnonzero(now_ms < from_ms)
        kept = before[earlier.keep(now_ms[before])]
        is_trusted = earlier.is_trusted(now_ms[kept])
        older, trusted = kept[~is_trusted], kept[is_trusted]
        new = np.flatnonzero((now_ms >= from_ms) & (now_ms < until_ms))
        sides = calibrates(viewers[trusted], now_ms[trusted])
        pages = with_earlier(
            parted(now_ms[new], CONFIG.chosen_by_frac, CONFIG.judged_frac),
            len(older),
            now_ms[trusted],
            sides,
            CONFIG.min_judged_pages,
        )
        among = np.concatenate([new, older, trusted])
        judging = named(among, pages.judged) | named(among, pages.trusted) | named(among, pages.recent)
        learning = named(among, pages.fresh) | named(among, pages.chosen_by) | named(among, pages.older)
        both += sorted(judging & (used | learning))
        if verdict != "void":  # nothing is left of such a round
            used |= learning
            from_ms = until_ms
        done += Counter(judging=len(judging), calibrating=len(named(among, pages.chosen_by)), trusted=len(trusted))
        decisions.append(
            Decision(
                number=number,
                at_ms=0,
                from_ms=int(now_ms[new].min()),
                until_ms=until_ms,
                judged_from_ms=int(now_ms[new[pages.judged]].min()),
                trusted_from_ms=earlier.trusted_from_ms,
                verdict=verdict,  # type: ignore[arg-type]
                why="",
                to_version=f"v{number}" if verdict == "promoted" else "",
            )
        )
    return done, both


def named(among: Int64Array, places: Int64Array) -> set[int]:
    return set(among[places].tolist())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(5, 40), st.sampled_from(VERDICTS)), min_size=3, max_size=14), st.data())
def test_no_page_judges_that_was_learned_from_or_calibrated_by(
    rounds: list[tuple[int, str]], data: st.DataObject
) -> None:
    withdrawn = data.draw(st.sets(st.integers(1, len(rounds)), max_size=3))
    _, both = played(
        [n for n, _ in rounds], [verdict for _, verdict in rounds], withdrawn, data.draw(st.integers(0, 9))
    )
    assert both == []


def test_uneven_hours_swap_nobody_and_both_sides_have_pages() -> None:
    done, both = played([20, 21, 33, 24, 37, 28, 11, 40, 23], ["promoted"] * 9, {6, 7}, seed=3)
    assert both == []
    assert done["trusted"] > 60
    assert done["judging"] > 60
    assert done["calibrating"] > 60


def test_about_every_second_page_calibrates_and_always_the_same() -> None:
    rng = np.random.default_rng(5)
    viewers, now_ms = rng.integers(-(2**62), 2**62, 4_000), np.arange(4_000) * 977
    sides = calibrates(viewers, now_ms)
    assert abs(sides.mean() - 0.5) < 0.03
    assert np.array_equal(calibrates(viewers[::-1], now_ms[::-1]), sides[::-1])
    assert abs(calibrates(np.full(4_000, 7), now_ms).mean() - 0.5) < 0.03
    assert abs(calibrates(viewers, np.zeros(4_000, dtype=np.int64)).mean() - 0.5) < 0.03


def test_a_page_that_left_the_trusted_ones_does_not_come_back() -> None:
    now_ms = np.arange(100)
    decision = Decision(
        number=1, at_ms=0, from_ms=0, until_ms=100, judged_from_ms=10, trusted_from_ms=90, verdict="promoted", why=""
    )
    earlier = EarlierPages([decision], frozenset(), 100, CONFIG, np.random.default_rng(1))
    earlier.keep(now_ms)
    assert np.flatnonzero(earlier.is_trusted(now_ms)).tolist() == list(range(90, 100))
