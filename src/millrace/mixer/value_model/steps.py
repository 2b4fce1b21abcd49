"""Steps: what happens to the offset value on its way to the score, read off a pipeline's rankers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from millrace.pipeline.column import Column
from millrace.pipeline.stages import Ranker

StepKind = Literal["multiply", "add"]

DEFAULT_KIND: Final[StepKind] = "multiply"


class Step(NamedTuple):
    """One step.

    Attributes
    ----------
    name
        The ranker's.
    kind
        What ``column`` does to the score.
    column
        Where each candidate's amount is kept.
    """

    name: str
    kind: StepKind
    column: Column[Any]

    def apply(self, score: float, amount: float) -> float:
        """Return the score after the step."""
        return score * amount if self.kind == "multiply" else score + amount


def steps_of(rankers: Sequence[Ranker]) -> tuple[Step, ...]:
    """Return the steps of a pipeline in their order: every ranker that keeps its amount in a ``factor_column``.

    Such a ranker multiplies, unless its ``step_kind`` says that it adds.
    """
    return tuple(
        Step(ranker.name, getattr(ranker, "step_kind", DEFAULT_KIND), column)
        for ranker in rankers
        if (column := getattr(ranker, "factor_column", None)) is not None
    )
