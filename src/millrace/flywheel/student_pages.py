"""Which pages a student that is distilled anew learns from, and on which newer ones it is measured.

It is measured on pages that no ranker has learned from either: those that rounds were judged on, and those since. A
teacher that had learned from them would flatter itself, and the student would seem to lose what was never known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.round_pages import is_within, judged_spans, untrusted_spans

MAX_MEASURED: Final = 500
"""Pages that a student is measured on: more would leave fewer new ones to learn from."""


def student_pages(
    made_ms: Int64Array,
    decisions: Iterable[Decision],
    withdrawn: frozenset[str],
    unlearned_ms: int,
    measured_frac: float,
) -> tuple[Int64Array, Int64Array]:
    """Return the pages that a student may learn from, and the newer ones that it is measured on, each oldest first.

    Parameters
    ----------
    made_ms
        When each page was made, shape (n,).
    decisions, withdrawn
        Of rounds; rankers that were taken back.
    unlearned_ms
        The ranker that serves has learned from nothing since.
    measured_frac
        Most of the pages to be measured on; never more than `MAX_MEASURED`.

    Raises
    ------
    SourceDataError
        If one of the two would be empty.
    """
    order = np.argsort(made_ms, kind="stable")
    now_ms, decisions = made_ms[order], list(decisions)
    is_sound = ~is_within(now_ms, untrusted_spans(decisions, withdrawn))
    is_judge = is_within(now_ms, judged_spans(decisions))
    n_most = min(MAX_MEASURED, max(int(len(order) * measured_frac), 1))
    measured = np.flatnonzero(is_sound & (is_judge | (now_ms >= unlearned_ms)))[-n_most:]
    edge_ms = now_ms[measured[0]] if len(measured) else 0
    learned = np.flatnonzero(is_sound & ~is_judge & (now_ms < edge_ms))
    if not len(measured) or not len(learned):
        raise SourceDataError(
            "pages",
            value=len(order),
            problem=f"{len(learned):,} to learn from and {len(measured):,} newer ones to measure on are too few",
            remedy="wait: every round leaves some",
        )
    return order[learned], order[measured]
