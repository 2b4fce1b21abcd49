"""`Column`, `RaggedColumn`, `Attachment`: the declared names that stages exchange data under.

Each is declared once, as a constant (the home feed's are in `millrace.features.columns`), and compared by
identity: two declarations of one name are refused when a pipeline is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.base.errors import PipelineError
from millrace.pipeline.ragged import Ragged

AnyArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
Dims = Mapping[str, int]

T = TypeVar("T")
ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Column(Generic[ScalarT]):
    """One fact about every candidate: an array of length n on axis 0.

    Parameters
    ----------
    name
        Unique within a pipeline.
    dtype
        Of the values: ids int64, scores float32, flags bool, codes int32. Objects are refused.
    fill
        What a candidate has for which nobody wrote the column. For a safety flag that is the unsafe value.
    shape
        Trailing shape; a name (``"n_actions"``) stands for a size that the pipeline is built with.
    doc
        One line for ``millrace pipeline show``.
    """

    name: str
    dtype: np.dtype[ScalarT]
    fill: float
    shape: tuple[int | str, ...] = ()
    doc: str = ""

    def __post_init__(self) -> None:
        if self.dtype.hasobject or self.dtype.kind not in "biuf":
            raise PipelineError(
                f"column {self.name}",
                value=str(self.dtype),
                problem="not a numeric or bool type",
                remedy="turn text into codes; fetch text for the slate as an Attachment",
            )

    def __repr__(self) -> str:
        return f"Column({self.name})"

    def full(self, n: int, dims: Dims) -> npt.NDArray[ScalarT]:
        """Return ``n`` rows of the fill."""
        shape = tuple(dims[size] if isinstance(size, str) else size for size in self.shape)
        return np.full((n, *shape), self.fill, dtype=self.dtype)

    def check(self, data: Any, n: int) -> None:
        """Raise `PipelineError` unless ``data`` is an array of ``n`` rows of this type."""
        # Compared in this order because each comparison is the cheapest of those left.
        if type(data) is np.ndarray and data.dtype == self.dtype and data.ndim == 1 + len(self.shape):
            if data.shape[0] == n:
                return
            problem = f"{data.shape[0]} rows instead of {n}"
        else:
            problem = f"not an array of {self.dtype} with {1 + len(self.shape)} dimensions"
        shown = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise PipelineError(
            f"column {self.name}", value=shown, problem=problem, remedy="return one row per candidate, in its dtype"
        )


@dataclass(frozen=True, slots=True, eq=False)
class RaggedColumn:
    """A column whose rows have different lengths; missing rows are empty."""

    name: str
    dtype: np.dtype[Any]
    doc: str = ""

    def __repr__(self) -> str:
        return f"RaggedColumn({self.name})"

    def full(self, n: int, dims: Dims) -> Ragged:  # noqa: ARG002 - the signature of Column.full
        """Return ``n`` empty rows."""
        return Ragged.empty(n, self.dtype)

    def check(self, data: Any, n: int) -> None:
        """Raise `PipelineError` unless ``data`` is a `Ragged` of ``n`` rows of this type."""
        if type(data) is Ragged and len(data) == n and data.values.dtype == self.dtype:
            return
        raise PipelineError(
            f"ragged column {self.name}",
            value=data,
            problem=f"not a Ragged of {n} rows of {self.dtype}",
            remedy="return one row per candidate, in its dtype",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Attachment(Generic[T]):
    """Objects that belong to rows of the slate, by key: the text of a post. Only late hydrators write them.

    Late filters read them with `CandidateBatch.attached`, side effects and the response with `PipelineResult.attached`.
    """

    name: str
    doc: str = ""

    def __repr__(self) -> str:
        return f"Attachment({self.name})"


AnyColumn = Column[Any] | RaggedColumn

PROVENANCE: Final = Column(
    "provenance", np.dtype(np.uint32), 0, doc="which sources found the row: bit i is the i-th declared source"
)
MAX_SOURCES: Final = 32
