"""`CandidateBatch`: a request's candidates as columns. Immutable; intermediate batches share what is untouched.

Taking rows gathers nothing: the new batch remembers its parent and its rows, and gathers a column when it is
first asked for it. So a filter group costs one index array, however many columns there are, and columns that
nobody reads after it are never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar, overload

import numpy as np
import numpy.typing as npt

from millrace.base.errors import PipelineError
from millrace.pipeline.column import AnyArray, AnyColumn, Attachment, BoolArray, Column, IntArray, RaggedColumn, ScalarT
from millrace.pipeline.ragged import Ragged

T = TypeVar("T")

Attachments = Mapping[Attachment[Any], Mapping[int, Any]]

_NOTHING: Final[Attachments] = {}


class CandidateBatch:
    """``n`` candidates; row ``i`` of every column is one of them.

    Parameters
    ----------
    data
        The columns; every one checked against its declaration and made read-only: a batch owns what it is given.
    n
        How many rows; taken from the first column where absent.

    Raises
    ------
    PipelineError
        If a column is not of its declared type or has another number of rows.
    """

    __slots__ = ("_attachments", "_data", "_parent", "_rows", "n")

    def __init__(self, data: Mapping[AnyColumn, Any], n: int | None = None) -> None:
        if n is None:
            n = len(next(iter(data.values()))) if data else 0
        for column, array in data.items():
            column.check(array, n)
            _freeze(array)
        self._fill(n, dict(data), None, None, _NOTHING)

    def _fill(
        self,
        n: int,
        data: dict[AnyColumn, Any],
        parent: CandidateBatch | None,
        rows: IntArray | None,
        attachments: Attachments,
    ) -> CandidateBatch:
        self.n = n
        self._attachments = attachments
        self._data = data
        self._parent = parent
        self._rows = rows
        return self

    def __len__(self) -> int:
        return self.n

    def __contains__(self, column: object) -> bool:
        return column in self._data or (self._parent is not None and column in self._parent)

    @overload
    def __getitem__(self, column: Column[ScalarT]) -> npt.NDArray[ScalarT]: ...
    @overload
    def __getitem__(self, column: RaggedColumn) -> Ragged: ...
    def __getitem__(self, column: AnyColumn) -> AnyArray | Ragged:
        found = self._data.get(column)
        if found is None:
            if self._parent is None:
                raise PipelineError(
                    f"column {column.name}",
                    value=None,
                    problem="not in this batch",
                    remedy="name it under the stage's reads, so that the pipeline checks who writes it",
                )
            found = self._parent[column].take(self._rows, axis=0)  # type: ignore[arg-type]
            _freeze(found)
            self._data[column] = found
        return found

    @property
    def columns(self) -> tuple[AnyColumn, ...]:
        """All columns, in the order in which they were written."""
        inherited = self._parent.columns if self._parent is not None else ()
        return tuple(dict.fromkeys((*inherited, *self._data)))

    def with_columns(self, new: Mapping[AnyColumn, Any]) -> CandidateBatch:
        """Return a batch that has ``new`` too; the others are shared, not copied."""
        for column, array in new.items():
            column.check(array, self.n)
        return self.with_checked_columns(new)

    def with_checked_columns(self, new: Mapping[AnyColumn, Any]) -> CandidateBatch:
        """Return the same as `with_columns` for columns that were checked already."""
        for array in new.values():
            _freeze(array)
        data = {**self._data, **new}
        return _bare()._fill(self.n, data, self._parent, self._rows, self._attachments)  # noqa: SLF001 - our own class

    def take(self, rows: IntArray) -> CandidateBatch:
        """Return the given rows, in the given order; columns are gathered when they are read."""
        return _bare()._fill(len(rows), {}, self, rows, self._attachments)  # noqa: SLF001 - our own class

    def compact(self, keep: BoolArray) -> CandidateBatch:
        """Return the rows whose flag is set; the batch itself if that is all of them."""
        rows = np.flatnonzero(keep)
        return self if len(rows) == self.n else self.take(rows)

    def with_attachments(self, attachments: Attachments) -> CandidateBatch:
        """Return the same rows with what late hydrators attached to them."""
        return _bare()._fill(self.n, self._data, self._parent, self._rows, attachments)  # noqa: SLF001 - our own class

    def attached(self, attachment: Attachment[T]) -> Mapping[int, T]:
        """Return the objects of one attachment by key; only the slate has any, for late filters and what follows."""
        return self._attachments.get(attachment, {})

    def row(self, i: int) -> dict[str, Any]:
        """Return one candidate as a dict, for tests and the debugger alone."""
        return {
            column.name: self[column].row(i) if isinstance(column, RaggedColumn) else self[column][i]
            for column in self.columns
        }


def empty_batch(columns: Iterable[AnyColumn], dims: Mapping[str, int]) -> CandidateBatch:
    """Return a batch of no rows that has the given columns."""
    return CandidateBatch({column: column.full(0, dims) for column in columns}, 0)


def _bare() -> CandidateBatch:
    """Return a batch to be filled at once, without the checks of the constructor."""
    return CandidateBatch.__new__(CandidateBatch)


def _freeze(data: Any) -> None:
    if type(data) is Ragged:
        data.freeze()
    else:
        data.setflags(write=False)
