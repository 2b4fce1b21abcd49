"""`Distillation`: what came of distilling the pre-ranker anew; `DistillationLog`: all of them, on disk, one a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from millrace.base.errors import StoreError
from millrace.registry.json_lines import JsonLines
from millrace.registry.pointer import DEFAULT_LANE, Change

DISTILLATIONS_FILE: Final = "distillations.jsonl"

Verdict = Literal["promoted", "refused", "void"]
"""promoted, refused: by what it loses of its ranker's AUC. void: somebody changed meanwhile what serves."""


class Distillation(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes
    ----------
    number
        Counts from 1.
    serial
        Of the registry's pointer when it began: rankers that are promoted later count for the next one.
    at_ms
        When it was decided, real time.
    from_ms, until_ms
        When its pages were made, event time.
    n_pages, n_measured
        Pages that it learned from and was chosen by; newer ones that it was measured on, which no ranker has learned
        from either.
    ranker
        The teacher: what served.
    from_version, to_version
        The pre-ranker that served, and the new one; empty: none.
    verdict, why
        Whether it serves, and the reason in a line.
    auc_lost, kept_500
        What of the ranker's AUC it lacks, mean over the heads, and what of its best 500 it keeps; None: not measured.
    """

    number: int
    serial: int
    at_ms: int
    from_ms: int
    until_ms: int
    verdict: Verdict
    why: str
    n_pages: int = 0
    n_measured: int = 0
    ranker: str = ""
    from_version: str = ""
    to_version: str = ""
    auc_lost: float | None = None
    kept_500: float | None = None


class DistillationLog(JsonLines[Distillation]):
    """The distillations of a home.

    Parameters
    ----------
    path
        A file of JSON lines.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, Distillation, what="the flywheel's distillations", error=StoreError)


def rankers_since(history: Iterable[Change], serial: int) -> int:
    """Return how many rankers everybody's lane was given since its pre-ranker changed, and behind a serial.

    Parameters
    ----------
    history
        Of the registry, oldest first.
    serial
        Of the last distillation, whatever came of it.
    """
    n, before = 0, dict[str, str]()
    for change in history:
        if change.lane != DEFAULT_LANE or change.what == "refused":
            continue
        after = {str(kind): version for kind, version in change.versions.items()}
        if after.get("pre_ranker") != before.get("pre_ranker"):
            n = 0
        elif change.what == "promoted" and change.serial > serial:
            n += after.get("ranker") not in (None, before.get("ranker"))
        before = after
    return n
