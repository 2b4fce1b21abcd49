"""Steps from the offset value to the score: each multiplies by an amount or adds one, and keeps it in a column.

So the whole way can be told afterwards, for any ranked candidate, from the columns alone: `value_steps` lists the
steps of a pipeline in their order, `ValueStep.apply` is their arithmetic.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from millrace.features.columns import SCORE
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import Column
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Ranker, ValueModel

Operation = Literal["multiply", "add"]


class ValueStep(ValueModel):
    """One step: works an amount into the score and keeps the amount.

    Attributes
    ----------
    operation
        What is done with the amount.
    amount_column
        Where the amount is kept for explanations; its fill (1 or 0) changes nothing.
    """

    operation: ClassVar[Operation]
    amount_column: Column[np.float32]

    @abstractmethod
    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the amount of each candidate, shape (n,), float32, finite and at least 0."""

    def apply(self, score: Float32Array, amount: Float32Array) -> Float32Array:
        """Return the scores after this step."""
        return score * amount if self.operation == "multiply" else score + amount

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the amount and the score so far."""
        amount = self.amount(query, batch)
        return {self.amount_column: amount, SCORE: self.apply(batch[SCORE], amount)}


class Multiplier(ValueStep):
    """Multiplies the score by a factor."""

    operation = "multiply"


class Bonus(ValueStep):
    """Adds to the score."""

    operation = "add"


def value_steps(rankers: Sequence[Ranker]) -> tuple[ValueStep, ...]:
    """Return the steps among a pipeline's rankers, in their order."""
    return tuple(ranker for ranker in rankers if isinstance(ranker, ValueStep))


class Step(NamedTuple):
    """What a step is to those who tell of it later.

    Attributes
    ----------
    name
        The ranker's.
    kind
        What is done with the amount.
    column
        Where each candidate's amount is kept.
    """

    name: str
    kind: Operation
    column: Column[Any]

    def apply(self, score: float, amount: float) -> float:
        """Return one candidate's score after the step."""
        return score * amount if self.kind == "multiply" else score + amount


def steps_of(rankers: Sequence[Ranker]) -> tuple[Step, ...]:
    """Return `value_steps` as what is told of them."""
    return tuple(Step(step.name, step.operation, step.amount_column) for step in value_steps(rankers))
