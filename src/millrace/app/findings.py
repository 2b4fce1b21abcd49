"""`Finding`: what a check of ``millrace doctor`` found; `each_once`: one fault, met by several checks, told once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

Verdict = Literal["ok", "warning", "problem"]

_N_SHOWN: Final = 3
"""So many alike (damaged files, say) are told one by one; of more, the first stands for all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer.

    Attributes
    ----------
    check
        What was looked at.
    verdict
        ``"ok"``, ``"warning"`` (works, but look at it) or ``"problem"`` (does not work).
    detail
        What was found.
    remedy
        What to do; empty where all is well.
    count
        How often it was met.
    also
        The other checks that met it, in their order.
    others
        Details of those alike that this one stands for.
    """

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""
    count: int = 1
    also: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The detail, with how often and where else the fault was met."""
        told = [self.detail]
        if self.others:
            told.append(f"and {len(self.others):,} more like it")
        if self.also:
            told.append(f"met {self.count} times, also by {', '.join(self.also)}")
        elif self.count > 1 + len(self.others):
            told.append(f"met {self.count} times")
        return f"{told[0]} ({'; '.join(told[1:])})" if told[1:] else told[0]


def each_once(findings: Iterable[Finding]) -> list[Finding]:
    """Return every fault once, at its first place, with how often it was met; what is well stays as it is.

    A fault is the same whichever check met it: a log that does not answer fails all who need it. Faults of one check
    that differ in the detail alone (files that cannot be read) are told one by one up to three.
    """
    told: dict[object, Finding] = {}
    for number, finding in enumerate(findings):
        if finding.verdict == "ok":
            told[number] = finding
            continue
        key = finding.verdict, finding.detail, finding.remedy
        if key not in told:
            told[key] = finding
            continue
        first = told[key]
        is_new = finding.check not in (first.check, *first.also)
        told[key] = replace(first, count=first.count + 1, also=(*first.also, *([finding.check] * is_new)))
    return _few_alike(list(told.values()))


def _few_alike(findings: list[Finding]) -> list[Finding]:
    def alike(finding: Finding) -> list[Finding]:
        key = finding.check, finding.verdict, finding.remedy
        if finding.verdict == "ok" or finding.also:
            return [finding]
        return [other for other in findings if (other.check, other.verdict, other.remedy) == key and not other.also]

    left: list[Finding] = []
    for finding in findings:
        same = alike(finding)
        if len(same) <= _N_SHOWN:
            left.append(finding)
        elif same[0] is finding:
            others = tuple(other.detail for other in same[1:])
            left.append(replace(finding, count=sum(other.count for other in same), others=others))
    return left
