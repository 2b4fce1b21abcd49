"""`Feature`: one declaration; `FeatureTable`: the declarations of one kind of thing, and where each lies in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from millrace.base.errors import NotFoundError

Freshness = Literal["event", "minute", "request"]
"""When a value changes: with the event that is folded; when a minute of event time ends, too; with the reader's time,
too."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What one feature is.

    Attributes
    ----------
    name
        Unique within its table.
    dtype
        Of its values. Those of float32 lie side by side in one row; others are columns of their own.
    shape
        Trailing shape, () for one number.
    source
        The store that it is read from.
    freshness
        `Freshness`.
    doc
        What it says, with its unit.
    labels
        What the places of its last axis are called, where they have names.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    source: str
    freshness: Freshness
    doc: str
    labels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers it is."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_dense(self) -> bool:
        """Whether it lies in the row of float32 numbers."""
        return self.dtype == np.float32


class FeatureTable:
    """Declarations in order.

    Parameters
    ----------
    features
        All of them, names unique.

    Raises
    ------
    ValueError
        If a name is declared twice, or labels do not fit a shape.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        self._by_name = {feature.name: feature for feature in features}
        if len(self._by_name) != len(features):
            raise ValueError("a feature is declared twice")
        self._slices: dict[str, slice] = {}
        at = 0
        for feature in features:
            if feature.labels and feature.shape[-1] != len(feature.labels):
                raise ValueError(f"labels of {feature.name}")
            if feature.is_dense:
                self._slices[feature.name] = slice(at, at + feature.width)
                at += feature.width
        self.n_dense = at

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def n_columns(self) -> int:
        """How many numbers all features are together."""
        return sum(feature.width for feature in self.features)

    def feature(self, name: str) -> Feature:
        """Return a declaration.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise NotFoundError("feature", value=name, problem="is not declared", remedy=f"one of {known}") from None

    def place(self, name: str) -> slice:
        """Return where a float32 feature lies in the dense row."""
        return self._slices[self.feature(name).name]

    def dense_names(self) -> tuple[str, ...]:
        """Return the name of each number of the dense row, ``feature`` or ``feature:label``."""
        names: list[str] = []
        for feature in self.features:
            if feature.is_dense and feature.shape:
                labels = feature.labels or tuple(str(place) for place in range(feature.width))
                names.extend(f"{feature.name}:{label}" for label in labels)
            elif feature.is_dense:
                names.append(feature.name)
        return tuple(names)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRows:
    """Features of n things.

    Attributes
    ----------
    table
        What they mean.
    ids
        Shape (n,), int64.
    is_known
        Shape (n,), bool: the stores know the thing; rows of others hold what is said of nothing.
    dense
        Shape (n, n_dense), float32: all float32 features, as ``table.place`` says.
    columns
        By name: every other feature, shape (n, ...).
    """

    table: FeatureTable
    ids: npt.NDArray[np.int64]
    is_known: npt.NDArray[np.bool_]
    dense: npt.NDArray[np.float32]
    columns: dict[str, npt.NDArray[np.generic]]

    def __getitem__(self, name: str) -> npt.NDArray[np.generic]:
        """Return one feature of all rows, shape (n, ...)."""
        feature = self.table.feature(name)
        if not feature.is_dense:
            return self.columns[name]
        return self.dense[:, self.table.place(name)].reshape(len(self.ids), *feature.shape)

    def equals(self, other: FeatureRows) -> bool:
        """Whether both say the same, bit for bit."""
        return (
            self.table.dense_names() == other.table.dense_names()
            and self.ids.tobytes() == other.ids.tobytes()
            and self.is_known.tobytes() == other.is_known.tobytes()
            and self.dense.tobytes() == other.dense.tobytes()
            and self.columns.keys() == other.columns.keys()
            and all(column.tobytes() == other.columns[name].tobytes() for name, column in self.columns.items())
        )
