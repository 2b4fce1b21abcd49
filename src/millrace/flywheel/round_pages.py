"""How a round's pages are parted: learned from, chosen by, judged on; and which older ones are learned from again.

New pages are parted by time, so that the gate judges on pages newer than all that the candidate has seen. Judged pages
stay unlearned for some thousand pages more (*trusted* ones): an hour of a small home has too few to judge or to
calibrate by. Half of them, the same in every round (`earlier_pages`), calibrate and choose beside the round's own; on
the others the gate asks what was forgotten, and, on the newest, what was gained. When newer ones have taken their place
they are learned from as well.

Older pages are drawn newest first, half as often for every half-life of age, and not from a reservoir: that holds all
of history alike, while the world drifts, so that what was true a month ago would weigh as much as yesterday. What
old pages are there for (rare actions, viewers who come once a day, what a poisoned or quiet hour lacks) the last day
gives as well. Rounds whose ranker was withdrawn, or that were refused as not to be believed, are not
replayed: nobody trusts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.learning_config import LearningConfig

HOUR_MS = 3_600_000
_LIES = frozenset({"finite", "surprise", "crowd", "memory"})
"""Rules that say of an hour that it is not to be believed. The others an honest hour may break: little was to be
learned in it, chance was against it in a slice, or the machine was busy."""


class RoundPages(NamedTuple):
    """A round's pages: slates of one set.

    Attributes
    ----------
    new
        All new ones, oldest first: ``fresh``, ``chosen_by`` and ``judged``.
    fresh
        Learned from.
    chosen_by
        Newer, and half of the judged ones of earlier rounds: by their loss weights are chosen, and on them heads are
        calibrated.
    judged
        Newest: the gate judges on them.
    older
        Of earlier rounds, to be learned from again.
    trusted
        The other half of those, never learned from nor chosen by in any round, oldest first: by them the gate tells
        what was forgotten.
    recent
        The newest of those: the gate judges on them beside ``judged``, where these are few.
    """

    new: Int64Array
    fresh: Int64Array
    chosen_by: Int64Array
    judged: Int64Array
    older: Int64Array
    trusted: Int64Array
    recent: Int64Array


class Span(NamedTuple):
    """Pages of a time: from, and up to and without ``until_ms``."""

    from_ms: int
    until_ms: int


def parted(now_ms: Int64Array, chosen_by_frac: float, judged_frac: float) -> RoundPages:
    """Return places of new pages, parted by time; of each kind there is at least one of three, and no earlier ones.

    Pages of one millisecond are never on both sides of the line before the judged ones: these are named by their time.
    """
    order = np.argsort(now_ms, kind="stable")
    n = len(order)
    n_judged, n_chosen = max(round(n * judged_frac), 1), max(round(n * chosen_by_frac), 1)
    first_judged = int(np.searchsorted(now_ms[order], now_ms[order[n - n_judged]], side="left"))
    first_chosen = max(first_judged - n_chosen, 0)
    none = np.empty(0, dtype=np.int64)
    return RoundPages(
        order, order[:first_chosen], order[first_chosen:first_judged], order[first_judged:], none, none, none
    )


def with_earlier(
    pages: RoundPages,
    n_older: int,
    trusted_ms: Int64Array,
    calibrates: np.ndarray[tuple[int], np.dtype[np.bool_]],
    min_judged: int,
) -> RoundPages:
    """Return a round's pages with earlier ones, whose places are behind the new ones': older, then trusted.

    Parameters
    ----------
    pages
        New ones.
    n_older
        How many earlier ones there are to be learned from again.
    trusted_ms, calibrates
        When judged ones were made, and which of them calibrate and choose, shape (n,).
    min_judged
        How many the gate is to judge by, if there are so many.
    """
    n_new = len(pages.new)
    order = np.argsort(trusted_ms, kind="stable")
    trusted = n_new + n_older + order
    asked = trusted[~calibrates[order]]
    n_recent = min(max(min_judged - len(pages.judged), 0), len(asked))
    return pages._replace(
        chosen_by=np.concatenate([trusted[calibrates[order]], pages.chosen_by]),
        older=n_new + np.arange(n_older),
        trusted=asked,
        recent=asked[len(asked) - n_recent :],
    )


def sampled(n: int, n_most: int, rng: np.random.Generator) -> Int64Array:
    """Return the places of at most so many of n pages, evenly drawn, ascending."""
    return np.arange(n) if n <= n_most else np.sort(rng.choice(n, n_most, replace=False))


def replay_odds(now_ms: Int64Array, until_ms: int, half_life_h: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return with what probability each older page is the next one that is drawn, shape (n,); they add up to 1."""
    odds: np.ndarray[tuple[int], np.dtype[np.float64]] = np.exp2(-(until_ms - now_ms) / (half_life_h * HOUR_MS))
    odds /= odds.sum()
    return odds


def drawn_older(now_ms: Int64Array, until_ms: int, config: LearningConfig, rng: np.random.Generator) -> Int64Array:
    """Return the places of at most ``max_replay_pages`` older pages, newer ones rather, ascending."""
    n, n_most = len(now_ms), config.max_replay_pages
    if n <= n_most:
        return np.arange(n)
    odds = replay_odds(now_ms, until_ms, config.replay_half_life_h)
    return np.sort(rng.choice(n, n_most, replace=False, p=odds))


def is_within(now_ms: Int64Array, spans: Iterable[Span]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which moments lie in any of some spans, shape (n,)."""
    found = np.zeros(len(now_ms), dtype=np.bool_)
    for span in spans:
        found |= (now_ms >= span.from_ms) & (now_ms < span.until_ms)
    return found


def untrusted_spans(decisions: Iterable[Decision], withdrawn: frozenset[str]) -> list[Span]:
    """Return the hours, whole, of rounds whose ranker was withdrawn, or that were refused as not to be believed."""
    return [
        Span(each.from_ms, each.until_ms)
        for each in decisions
        if (each.verdict == "refused" and not is_harmless(each))
        or (each.verdict == "promoted" and each.to_version in withdrawn)
    ]


def is_harmless(decision: Decision) -> bool:
    """Whether a round was refused, and for nothing that speaks against its hour."""
    return (
        decision.verdict == "refused"
        and bool(decision.broken)
        and _LIES.isdisjoint(rule.name for rule in decision.broken)
    )


def is_worse(decision: Decision) -> bool:
    """Whether what a round made was refused, and is surely worse on new pages than what serves."""
    return decision.verdict == "refused" and any(
        rule.name in {"entropy", "auc"} and rule.high is not None and rule.high < 0.0 for rule in decision.broken
    )


def judged_spans(decisions: Iterable[Decision]) -> list[Span]:
    """Return the hours that rounds were judged on and that nobody learned from since, whatever became of the rounds.

    Those of a void round are parted anew by the round that takes its hours; a whole training learns from all before
    what it holds out.
    """
    spans: list[Span] = []
    for each in decisions:
        if each.verdict == "seeded":
            learned = Span(each.from_ms, each.judged_from_ms or each.until_ms)
            spans = [left for span in spans for left in _without(span, learned)]
        if each.judged_from_ms and each.verdict != "void":
            spans.append(Span(each.judged_from_ms, each.until_ms))
    return spans


def _without(span: Span, cut: Span) -> list[Span]:
    """Return what is left of a span beside another."""
    before = Span(span.from_ms, min(span.until_ms, cut.from_ms))
    after = Span(max(span.from_ms, cut.until_ms), span.until_ms)
    return [left for left in (before, after) if left.from_ms < left.until_ms]
