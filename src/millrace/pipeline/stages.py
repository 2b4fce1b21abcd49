"""The stage contracts: what each kind gets and the one shape it returns.

========================  ====================================  =============================================
kind                      method                                returns
========================  ====================================  =============================================
`QueryHydrator`           ``hydrate(query)``                    values of the query fields it writes
`Source`                  ``retrieve(query)``                   a batch: the key and the columns it writes
`Hydrator`                ``hydrate(query, batch)``             the columns it writes, one row a candidate
`Filter`                  ``keep(query, batch)``                bool mask, True = keep
`PreRanker`               ``rank(query, batch)``                columns; the framework keeps the best by one
`Ranker`, `ValueModel`    ``rank(query, batch)``                columns
`ReRanker`                ``rank(query, batch)``                columns, having seen all others' scores
`Selector`                ``select(query, batch, n_wanted)``    row numbers, best first
`Blender`                 ``blend(query, slate)``               row numbers of the slate in their final order
`SideEffect`              ``run(query, result)``                nothing; runs after the answer
========================  ====================================  =============================================

Only the framework merges, compacts and sorts. Query hydrators, sources, hydrators and late filters may wait:
they then write ``async def``, run concurrently and have ``timeout_ms``. Everything else is a plain function of
the CPU. Stages hold stores and models, given to their constructor, and nothing of a request.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from millrace.base.order import top_k
from millrace.base.params import Param
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn, Attachment, BoolArray, Column, IntArray
from millrace.pipeline.query import Query, QueryField

if TYPE_CHECKING:
    from millrace.pipeline.result import PipelineResult

Readable = AnyColumn | QueryField[Any] | Attachment[Any]
FieldValues = Mapping[QueryField[Any], Any]
ColumnValues = Mapping[AnyColumn, Any]
HydratedValues = Mapping[AnyColumn | Attachment[Any], Any]


class OnError(enum.Enum):
    """What a filter's failure means for the candidates it could not judge."""

    DROP_ALL = "drop all"  # safety: nobody sees what could not be checked
    KEEP_ALL = "keep all"  # quality: a worse page is better than none


class Stage(ABC):
    """What all components have.

    Attributes
    ----------
    kind
        The kind of stage, for reports and descriptions.
    name
        Unique within the kind in one pipeline: ``"in_network"``.
    reads
        The query fields, columns and attachments it reads; somebody before it must write them.
    writes
        What it writes, all of it, every time.
    params
        The params it reads.
    timeout_ms
        How long it may wait, in all its turns of a request together: for components that are ``async``, and sources.
    can_be_skipped
        Whether it is left out when the deadline has passed before its turn. Filters and what they read never are:
        late pages are worse pages, not unsafe ones.
    """

    kind: ClassVar[str]
    name: str
    reads: tuple[Readable, ...] = ()
    writes: tuple[Readable, ...] = ()
    params: tuple[Param, ...] = ()
    timeout_ms: float = 50.0
    can_be_skipped: ClassVar[bool] = False

    def is_enabled(self, query: Query) -> bool:
        """Whether the component takes part in this request."""
        return True

    def abandon(self, query: Query) -> None:  # noqa: B027 - most stages take nothing
        """Give back what was taken for a request that ends without an answer (it failed or was cancelled).

        Must neither wait nor raise. Called for every stage, whether it had a turn or not.
        """

    async def settle(self) -> None:  # noqa: B027 - as above
        """Return once what `abandon` has begun so far has ended."""


class QueryHydrator(Stage):
    """Finds out something about the viewer or the request."""

    kind = "query hydrator"

    @abstractmethod
    def hydrate(self, query: Query) -> FieldValues | Awaitable[FieldValues]:
        """Return the values of all fields in `writes`."""

    def fallback(self, query: Query) -> FieldValues | None:
        """Return the last known values when `hydrate` failed or was late; None if there are none."""
        return None


class Source(Stage):
    """Finds candidates.

    Attributes
    ----------
    cap
        Param with the most rows it may return; the framework cuts what is beyond.
    timeout_ms
        20 ms by default; name 50 for one that asks another machine. A source that waits is given up then. One that is
        a plain function cannot be interrupted: its answer is used, and that it overran is counted.
    only_below
        Param with a number of rows: the source takes part only if the others found fewer, or if the filters left
        less than a page of what they found; 0 switches it off. For dear sources that are a last resort.
    """

    kind = "source"
    timeout_ms = 20.0
    can_be_skipped = True  # all but the first of a pipeline
    cap: Param | None = None
    only_below: Param | None = None

    @abstractmethod
    def retrieve(self, query: Query) -> CandidateBatch | Awaitable[CandidateBatch]:
        """Return the key column and the columns in `writes`, the source's best first."""

    def explain(self, query: Query, key: int) -> str:
        """Say why the source did not return this candidate, as its stores stand now. Called when somebody asks."""
        return "did not return it"


class Hydrator(Stage):
    """Adds columns to candidates; never drops or reorders them.

    After the selection (as a *late* hydrator) it gets rows of the slate only, each once, and may write
    attachments: dicts from key to object.
    """

    kind = "hydrator"

    @abstractmethod
    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues | Awaitable[HydratedValues]:
        """Return all that is in `writes`."""

    def fallback(self, query: Query, batch: CandidateBatch) -> HydratedValues | None:
        """Return the last known values when `hydrate` failed or was late; None if there are none."""
        return None


class Filter(Stage):
    """One rule about which candidates may stay.

    Attributes
    ----------
    on_error
        What happens if the filter fails, or something it reads could not be found out. Each filter must say.
    compares_rows
        Whether a row's verdict depends on other rows (duplicates). Such a filter gets only the rows that all
        filters before it keep; the others get all candidates, and their verdicts are put together.
    """

    kind = "filter"
    on_error: OnError
    compares_rows: ClassVar[bool] = False

    @abstractmethod
    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray | Awaitable[BoolArray]:
        """Return for each candidate whether it may stay, shape (n,). Only late filters may wait."""

    async def foresee(self, query: Query, reserve: CandidateBatch) -> BoolArray | None:
        """Return which ranked candidates are worth choosing, after the filter has dropped some of a page; None: all.

        For late filters whose verdicts others bring about meanwhile: without it a refill would choose what is gone
        as well, round after round. A guess: what it keeps is judged as ever. Must not raise.
        """
        return None

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say why the filter dropped this row, with the values that decided. Called when somebody asks."""
        return (type(self).__doc__ or self.name).strip().split("\n")[0]


class Ranker(Stage):
    """Gives scores or predictions; later rankers see what earlier ones wrote."""

    kind = "ranker"
    can_be_skipped = True

    @abstractmethod
    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return all columns in `writes`."""


class PreRanker(Ranker):
    """A cheap ranker that decides who is worth a dear one; where there are not too many it has no turn.

    What was cut is brought back if the page would be short without it.

    Attributes
    ----------
    score
        The column, one of `writes`, by which the best are kept.
    max_kept
        Param with how many; twice as many as the page has places stay in any case.
    """

    kind = "pre-ranker"
    score: Column[Any]
    max_kept: Param

    def choose(self, query: Query, batch: CandidateBatch, n_kept: int, key: Column[Any]) -> IntArray:
        """Return the rows that stay, at most ``n_kept``, none twice: the best by `score`, ties by key.

        ``batch`` has what `rank` wrote, or its fill where that failed. Must not raise.
        """
        return top_k(batch[self.score], batch[key], n_kept)


class ValueModel(Ranker):
    """A ranker that turns predictions into value."""

    kind = "value model"
    can_be_skipped = False  # without it there is no order at all


class ReRanker(Ranker):
    """A ranker that looks at the candidates beside each other (diversity)."""

    kind = "re-ranker"

    def explain(self, batch: CandidateBatch, row: int) -> str:
        """Say what it decided about this row, from the columns that it wrote; empty if nothing."""
        return ""


class Selector(Stage):
    """Chooses the page."""

    kind = "selector"

    @abstractmethod
    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:
        """Return at most ``n_wanted`` row numbers, best first, none twice.

        Called again without the rows that late filters dropped, so caps per author hold over the whole page.
        """


class Blender(Stage):
    """Orders the chosen page (spacing, alternation); may leave rows out."""

    kind = "blender"

    @abstractmethod
    def blend(self, query: Query, slate: CandidateBatch) -> IntArray:
        """Return row numbers of the slate in their final order, none twice."""


class SideEffect(Stage):
    """Something that happens because a page was made, after it has left."""

    kind = "side effect"

    @abstractmethod
    async def run(self, query: Query, result: PipelineResult) -> None:
        """Do it; a failure is reported and nothing else."""
