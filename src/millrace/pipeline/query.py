"""`Query`: one request's context: who asks, when, with which params, and what query hydrators found out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import PipelineError
from millrace.base.params import ParamSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class QueryField(Generic[T]):
    """One fact about the request, declared once: ``query[FOLLOWING]``.

    Parameters
    ----------
    name
        Unique within a pipeline.
    default
        What stages read if the hydrator that writes it failed or is switched off.
    doc
        One line for ``millrace pipeline show``.
    """

    name: str
    default: T
    doc: str = ""

    def __repr__(self) -> str:
        return f"QueryField({self.name})"


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, in real time, at which an answer must leave.

    Parameters
    ----------
    clock
        Gives monotonic time.
    at_s
        The moment on that clock; infinity for never.
    """

    clock: Clock
    at_s: float = float("inf")

    @classmethod
    def after_ms(cls, clock: Clock, budget_ms: float) -> Deadline:
        """Return the deadline ``budget_ms`` from now."""
        return cls(clock, clock.monotonic_s() + budget_ms / 1000)

    def remaining_s(self) -> float:
        """Return how many seconds are left; negative when it is over."""
        return self.at_s - self.clock.monotonic_s()

    def is_over(self) -> bool:
        """Whether the moment has passed."""
        return self.clock.monotonic_s() >= self.at_s


@dataclass(frozen=True, slots=True)
class Query:
    """What stages know of the request; immutable.

    Parameters
    ----------
    request_id
        Seeds every random choice of the request.
    viewer_id
        Inside id of who asks; 0 for nobody.
    now_ms
        The request's event time: read once, the same for every stage.
    limit
        How many rows the slate should have.
    params
        Values that differ from their defaults.
    deadline
        When the answer must leave; None for no limit.
    state_offset
        The log position that all stores are read at.
    fields
        What query hydrators wrote.
    is_dry_run
        Whether nothing may change because of the request: its page is looked at and not sent. Side effects do not
        run, and stages that take something for the viewer leave it.
    """

    request_id: str
    viewer_id: int
    now_ms: int
    limit: int
    params: ParamSet = field(default_factory=ParamSet)
    deadline: Deadline | None = None
    state_offset: tuple[int, ...] = ()
    fields: Mapping[QueryField[Any], Any] = field(default_factory=dict)
    is_dry_run: bool = False

    def __getitem__(self, wanted: QueryField[T]) -> T:
        return self.fields.get(wanted, wanted.default)  # type: ignore[no-any-return]

    def with_fields(self, new: Mapping[QueryField[Any], Any]) -> Query:
        """Return a query that knows ``new`` too."""
        return replace(self, fields={**self.fields, **new})

    def is_out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.deadline.is_over()

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator seeded by the request's id and ``purpose``: the same on every machine."""
        if not purpose:
            raise PipelineError("purpose of randomness", value=purpose, problem="empty", remedy="give the stage's name")
        digest = hashlib.blake2b(f"{purpose}\0{self.request_id}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
