"""`PipelineResult`: the slate and everything that is needed to explain it, as the arrays the stages made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import PROVENANCE, Attachment, Column, IntArray
from millrace.pipeline.outcome import PipelineReport
from millrace.pipeline.query import Query

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """One request's answer.

    Attributes
    ----------
    query
        The hydrated query.
    slate
        The page in its final order, with all columns.
    candidates
        Every merged candidate with the hydrators' columns; its row numbers are used by all that follows.
    dropped_by
        Shape (n_candidates,), int16: 0, or the code of the stage that dropped the row (`drop_names`).
    ranked, ranked_rows
        Those that passed filters and pre-ranking, with every score; and their rows in ``candidates``.
    pre_ranked, pre_ranked_rows
        The same of those that passed the filters, as the pre-rankers left them: before the last of them cut any, with
        what it wrote; without a pre-ranker those that were ranked.
    slate_rows
        The page's rows in ``candidates``.
    retrieved
        Per source that answered: its name and the keys it returned, its best first.
    attachments
        What late hydrators attached to rows of the slate, by attachment and key.
    report
        Timings, counts and outcomes.
    key
        The column that says which candidate a row is.
    source_names, drop_names
        Names of the provenance bits and of the codes in ``dropped_by``.
    """

    query: Query
    slate: CandidateBatch
    candidates: CandidateBatch
    dropped_by: npt.NDArray[np.int16]
    ranked: CandidateBatch
    ranked_rows: IntArray
    pre_ranked: CandidateBatch
    pre_ranked_rows: IntArray
    slate_rows: IntArray
    retrieved: tuple[tuple[str, Int64Array], ...]
    attachments: Mapping[Attachment[Any], dict[int, Any]]
    report: PipelineReport
    key: Column[Any]
    source_names: tuple[str, ...]
    drop_names: tuple[str, ...]

    def attached(self, attachment: Attachment[T]) -> Mapping[int, T]:
        """Return the objects of one attachment by key."""
        return self.attachments.get(attachment, {})

    def sources_of(self, provenance: int) -> tuple[str, ...]:
        """Return the names of a provenance mask's bits, in order of declaration."""
        return tuple(name for bit, name in enumerate(self.source_names) if provenance >> bit & 1)

    def slate_sources(self) -> list[tuple[str, ...]]:
        """Return for each row of the slate which sources found it."""
        return [self.sources_of(mask) for mask in self.slate[PROVENANCE].tolist()]

    def n_dropped_by_name(self) -> dict[str, int]:
        """Return how many candidates each stage dropped, stages that dropped none left out."""
        counts = np.bincount(self.dropped_by, minlength=len(self.drop_names)).tolist()
        return {name: count for name, count in zip(self.drop_names, counts, strict=True) if name and count}

    def row_of(self, key: int) -> int:
        """Return a candidate's row in ``candidates``, or -1 if no source returned it."""
        found = np.flatnonzero(self.candidates[self.key] == key)
        return int(found[0]) if len(found) else -1
