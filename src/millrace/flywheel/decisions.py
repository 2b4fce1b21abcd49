"""`Decision`: what a round came to, with its reasons; `DecisionLog`: all of them, on disk, one a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from millrace.base.errors import StoreError
from millrace.registry.json_lines import JsonLines

DECISIONS_FILE: Final = "decisions.jsonl"

Verdict = Literal["seeded", "promoted", "refused", "void"]
"""seeded: trained from nothing, by a whole training. promoted, refused: by the gate. void: somebody else changed
meanwhile what serves, or forgot what was read; nothing was decided."""


class RuleOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of the gate: what was found, against what is asked.

    Attributes
    ----------
    name
        ``entropy``, ``slice language en``, ...
    value, low, high
        What was found, with its interval; None where there is nothing to judge by, and then the rule is kept.
    threshold
        What it is held against.
    is_kept
        Whether the rule lets the candidate serve.
    words
        All of it, for people.
    """

    name: str
    value: float | None
    threshold: float
    is_kept: bool
    words: str
    low: float | None = None
    high: float | None = None


class HeadMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How the live model predicted one action on pages before it learned from them.

    Attributes
    ----------
    n_positive
        How often it was done.
    auc, normalised_entropy, calibration
        See `millrace.flywheel.metrics`.
    """

    action: str
    n_positive: int
    auc: float
    normalised_entropy: float
    calibration: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a round came to.

    Attributes
    ----------
    number
        Counts rounds from 1.
    at_ms
        When it was decided, real time.
    from_ms, until_ms
        When its new pages were made, event time.
    judged_from_ms
        The newest of them, from here on, were judged on and are not learned from while they are trusted; 0: none.
    trusted_from_ms
        Pages that earlier rounds were judged on were not learned from if they were made from here on; 0: all were not.
    n_pages, n_rows
        New pages, and posts seen on them.
    n_learned, n_replayed, n_judged, n_trusted
        Pages that were learned from, older ones among which it was drawn again, and those judged on: new, earlier.
    n_steps, best_step
        Steps that were gone, and after how many it was best; 0: recalibrated only.
    n_carried
        Rounds that were refused before without harm, and whose learning this one went on from.
    from_version, to_version
        What served, and what was made of it; empty: none.
    verdict, why
        Whether it serves, and the reason in a line.
    rules
        Of the gate; none where there was none.
    prequential
        How the live model predicted the new pages before anything was learned from them, head by head.
    seconds
        What took how long, by stage.
    """

    number: int
    at_ms: int
    from_ms: int
    until_ms: int
    verdict: Verdict
    why: str
    judged_from_ms: int = 0
    trusted_from_ms: int = 0
    n_pages: int = 0
    n_rows: int = 0
    n_learned: int = 0
    n_replayed: int = 0
    n_judged: int = 0
    n_trusted: int = 0
    n_steps: int = 0
    best_step: int = 0
    n_carried: int = 0
    from_version: str = ""
    to_version: str = ""
    rules: tuple[RuleOutcome, ...] = ()
    prequential: tuple[HeadMetrics, ...] = ()
    seconds: dict[str, float] = {}

    @property
    def broken(self) -> tuple[RuleOutcome, ...]:
        """The rules that kept it from serving."""
        return tuple(rule for rule in self.rules if not rule.is_kept)


class DecisionLog(JsonLines[Decision]):
    """The decisions of a home.

    Parameters
    ----------
    path
        A file of JSON lines.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, Decision, what="the flywheel's decisions", error=StoreError)

    def append(self, decision: Decision) -> None:
        """Write a decision down, unless its number is there already: whoever was killed behind it says it again."""
        last = self.newest(1)
        if not last or last[0].number < decision.number:
            super().append(decision)
