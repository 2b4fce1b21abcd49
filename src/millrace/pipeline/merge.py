"""Merging what the sources found: one row a candidate, whoever found it.

Order is that of first appearance, sources in the order of their declaration. A row's value in a column comes
from the first source, in that order, that wrote the column and found the row; provenance has every finder's bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.int_table import slot_of
from millrace.base.kernels import njit
from millrace.pipeline.batch import CandidateBatch, empty_batch
from millrace.pipeline.column import PROVENANCE, AnyColumn, Column, Dims, IntArray
from millrace.pipeline.ragged import Ragged

_READ_ONLY_IDS = types.Array(types.int64, 1, "C", readonly=True)


@njit([(_READ_ONLY_IDS,)], cache=True)
def first_appearances(keys: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return the rows at which a key appears first, and for every row its place among those.

    Parameters
    ----------
    keys
        Shape (n,), int64.

    Returns
    -------
    tuple
        ``firsts``, shape (n_unique,), and ``places``, shape (n,): ``keys[firsts][places] == keys``.
    """
    n = len(keys)
    size = 16
    while size < 2 * n:
        size *= 2
    mask = np.int64(size - 1)
    table = np.full(size, -1, dtype=np.int32)  # slot -> place
    firsts = np.empty(n, dtype=np.int64)
    places = np.empty(n, dtype=np.int64)
    n_unique = 0
    for row in range(n):
        slot = slot_of(keys[row], mask)
        while table[slot] >= 0 and keys[firsts[table[slot]]] != keys[row]:
            slot = (slot + 1) & mask
        if table[slot] < 0:
            table[slot] = n_unique
            firsts[n_unique] = row
            n_unique += 1
        places[row] = table[slot]
    return firsts[:n_unique].copy(), places


@njit([(types.Array(types.uint32, 1, "C"), _READ_ONLY_IDS, types.int64)], cache=True)
def _mark(provenance: npt.NDArray[np.uint32], places: Int64Array, bit: int) -> None:
    """Set one source's bit at the places of its rows."""
    for i in range(len(places)):
        provenance[places[i]] |= np.uint32(1) << np.uint32(bit)


def first_appearances_reference(keys: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return the same as `first_appearances`, in NumPy."""
    _, firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(firsts, kind="stable")
    place_of = np.empty(len(order), dtype=np.int64)
    place_of[order] = np.arange(len(order))
    return firsts[order].astype(np.int64), place_of[inverse.reshape(-1)]


def merge(
    parts: Sequence[tuple[int, CandidateBatch]], key: Column[Any], columns: Sequence[AnyColumn], dims: Dims
) -> CandidateBatch:
    """Return one batch without duplicates, with `PROVENANCE`.

    Parameters
    ----------
    parts
        Per source that answered: its number (the provenance bit) and its batch, in order of declaration.
    key
        The column that says which candidate a row is.
    columns
        All columns that the pipeline's sources write, whether or not their source answered.
    dims
        Sizes of named trailing dimensions.
    """
    parts = [(bit, batch) for bit, batch in parts if batch.n]
    if not parts:
        return empty_batch((*columns, PROVENANCE), dims)
    keys = np.concatenate([batch[key] for _, batch in parts])
    firsts, places = first_appearances(keys)
    n = len(firsts)
    provenance = np.zeros(n, dtype=np.uint32)
    places_by_part: list[IntArray] = []
    start = 0
    for bit, batch in parts:
        mine = places[start : start + batch.n]
        start += batch.n
        places_by_part.append(mine)
        _mark(provenance, mine, bit)
    data: dict[AnyColumn, Any] = {key: keys.take(firsts), PROVENANCE: provenance}
    for column in columns:
        if column is not key:
            data[column] = _merge_column(column, [batch for _, batch in parts], places_by_part, n, firsts, dims)
    return CandidateBatch(data, n)


def _merge_column(
    column: AnyColumn,
    batches: Sequence[CandidateBatch],
    places_by_part: Sequence[IntArray],
    n: int,
    firsts: Int64Array,
    dims: Dims,
) -> Any:
    writers = [number for number, batch in enumerate(batches) if column in batch]
    if not writers:
        return column.full(n, dims)
    found = [batches[number][column] for number in writers]
    if len(writers) == len(batches):
        return _concatenate(found).take(firsts, axis=0)
    # Rows of nobody take the last row, which is the fill; earlier sources overwrite later ones, first rows last.
    n_written = sum(len(data) for data in found)
    row_of = np.full(n, n_written, dtype=np.int64)
    stop = n_written
    for number in reversed(writers):
        places = places_by_part[number]
        rows = np.arange(stop - len(places), stop)
        row_of[places[::-1]] = rows[::-1]
        stop -= len(places)
    return _concatenate([*found, column.full(1, dims)]).take(row_of, axis=0)


def _concatenate(parts: Sequence[Any]) -> Any:
    return Ragged.concatenate(parts) if isinstance(parts[0], Ragged) else np.concatenate(parts)
