"""How a round's pages are parted: learned from, chosen by, judged on; and which older ones are learned from again.

New pages are parted by time, so that the gate judges on pages newer than all that the candidate has seen. What is
judged on stays unlearned for ever: later rounds ask on the same pages what a candidate has forgotten.

Older pages are drawn newest first, half as often for every half-life of age, and not from a reservoir: that holds all
of history alike, while the world drifts, so that what was true a month ago would weigh as much as yesterday. What
old pages are there for (rare actions, viewers who come once a day, what a poisoned or quiet hour lacks) the last day
gives as well. Rounds whose ranker was withdrawn, or that were refused for more than having gained nothing, are not
replayed: nobody trusts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.learning_config import LearningConfig
from millrace.flywheel.sample_set import SampleSet

HOUR_MS = 3_600_000
_HARMLESS = frozenset({"entropy", "latency", "size"})
"""Rules that an honest hour may break, when there was nothing to learn in it or the machine was busy."""


class RoundPages(NamedTuple):
    """A round's pages: slates of one set.

    Attributes
    ----------
    new
        All new ones, oldest first: ``fresh``, ``chosen_by`` and ``judged``.
    fresh
        Learned from.
    chosen_by
        Newer: by their loss weights are chosen, and on them heads are calibrated.
    judged
        Newest: the gate judges on them.
    older
        Of earlier rounds, to be learned from again.
    trusted
        Of earlier rounds that serve well, never learned from: by them the gate tells what was forgotten.
    """

    new: Int64Array
    fresh: Int64Array
    chosen_by: Int64Array
    judged: Int64Array
    older: Int64Array
    trusted: Int64Array


class Span(NamedTuple):
    """Pages of a time: from, and up to and without ``until_ms``."""

    from_ms: int
    until_ms: int


def parted(now_ms: Int64Array, chosen_by_frac: float, judged_frac: float) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return places of pages that are learned from, chosen by and judged on, by time; each has at least one of three.

    Pages of one millisecond are never on both sides of the line before the judged ones: these are named by their time.
    """
    order = np.argsort(now_ms, kind="stable")
    n = len(order)
    n_judged, n_chosen = max(round(n * judged_frac), 1), max(round(n * chosen_by_frac), 1)
    first_judged = int(np.searchsorted(now_ms[order], now_ms[order[n - n_judged]], side="left"))
    first_chosen = max(first_judged - n_chosen, 0)
    return order[:first_chosen], order[first_chosen:first_judged], order[first_judged:]


def sampled(samples: SampleSet, n_most: int, rng: np.random.Generator) -> SampleSet:
    """Return at most so many pages of a set, evenly drawn, in their order."""
    if len(samples) <= n_most:
        return samples
    return samples.take(np.sort(rng.choice(len(samples), n_most, replace=False)))


def replay_odds(now_ms: Int64Array, until_ms: int, half_life_h: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return with what probability each older page is the next one that is drawn, shape (n,); they add up to 1."""
    odds: np.ndarray[tuple[int], np.dtype[np.float64]] = np.exp2(-(until_ms - now_ms) / (half_life_h * HOUR_MS))
    odds /= odds.sum()
    return odds


def drawn_older(samples: SampleSet, until_ms: int, config: LearningConfig, rng: np.random.Generator) -> SampleSet:
    """Return at most ``max_replay_pages`` older pages, newer ones rather, in their order."""
    if len(samples) <= config.max_replay_pages:
        return samples
    odds = replay_odds(samples.now_ms, until_ms, config.replay_half_life_h)
    return samples.take(np.sort(rng.choice(len(samples), config.max_replay_pages, replace=False, p=odds)))


def is_within(now_ms: Int64Array, spans: Iterable[Span]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which moments lie in any of some spans, shape (n,)."""
    found = np.zeros(len(now_ms), dtype=np.bool_)
    for span in spans:
        found |= (now_ms >= span.from_ms) & (now_ms < span.until_ms)
    return found


def untrusted_spans(decisions: Iterable[Decision], withdrawn: frozenset[str]) -> list[Span]:
    """Return the hours, whole, of rounds whose ranker was withdrawn, or refused for more than having gained nothing."""
    return [
        Span(each.from_ms, each.until_ms)
        for each in decisions
        if (each.verdict == "refused" and not _HARMLESS.issuperset(rule.name for rule in each.broken))
        or (each.verdict == "promoted" and each.to_version in withdrawn)
    ]


def judged_spans(decisions: Iterable[Decision]) -> list[Span]:
    """Return the hours that rounds were judged on, and nobody learns from, whatever became of the rounds."""
    return [Span(each.judged_from_ms, each.until_ms) for each in decisions if each.judged_from_ms]
