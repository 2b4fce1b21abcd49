"""`VectorRows`: vectors and columns of posts in lists of blocks, found by post, changed in place.

A list is a chain of blocks of 64 rows, full but for the last. A new row goes to the end of the last block; the hole
that a removed row leaves is filled by the list's last row, so lists stay dense, rows that are let go are used again at
once, and adding and removing cost the same however many there are. Arrays grow by doubling. Blocks of a chain are read
in the order in which they were taken: a list that has all of them lies in memory as it is read.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment, no-any-return, arg-type, return-value"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, IntTable, table_get, table_put, table_remove
from millrace.base.kernels import njit
from millrace.inference.vector_index_codes import Int8Array
from millrace.inference.vector_index_kernels import BLOCK, Columns, Float32Array, UInt8Array
from millrace.stores.slab_lists import doubled

INT8_MAX: Final = 127

_SAMPLE_MIX: Final = np.uint64(0xD6E8FEB86659FD93)

_N_ROWS: Final = 0
_N_BLOCKS: Final = 1
_FREE_BLOCK: Final = 2


@dataclass(frozen=True)
class PostVectors:
    """Rows to add, or that were gathered: arrays of one length n.

    Attributes
    ----------
    post_ids, created_ms, author_ids
        int64.
    vectors
        Shape (n, d), float32, of length 1.
    languages
        int32 codes.
    """

    post_ids: Int64Array
    vectors: Float32Array
    created_ms: Int64Array
    author_ids: Int64Array
    languages: Int32Array

    def __len__(self) -> int:
        return len(self.post_ids)


class _Table(NamedTuple):
    """The arrays that adding and removing change besides the columns.

    Attributes
    ----------
    keys, values, n_keys
        From post to row: `millrace.base.int_table`.
    list_of_block, previous_block
        Of each block, its list, and the block before it plus 1, 0 for the first.
    last_blocks
        Of each list, its last block plus 1.
    state
        How many rows are here, how many blocks were ever used, the first free block plus 1 (free ones are a chain).
    """

    keys: Int64Array
    values: Int32Array
    n_keys: Int64Array
    list_of_block: Int32Array
    previous_block: Int32Array
    last_blocks: Int32Array
    state: Int64Array


class VectorRows:
    """Owner of the rows.

    Parameters
    ----------
    n_dims
        Length of a vector.
    n_lists
        How many lists.
    code_size
        Bytes of a row's product-quantised code. 0: vectors are kept as float32 and there are no codes; otherwise they
        are kept as int8 with the largest component at 127, which their length of 1 turns back into what they were.
    n_expected
        For how many rows, and a quarter more, there is room before arrays grow.
    """

    def __init__(self, n_dims: int, n_lists: int, code_size: int = 0, n_expected: int = 0) -> None:
        n_blocks = 1 + (n_lists if n_expected else 0) + (n_expected + n_expected // 4) // BLOCK
        self.n_dims = n_dims
        self.code_size = code_size
        self._table = IntTable(2 * BLOCK)
        self._state = np.zeros(3, dtype=np.int64)
        self._list_of_block = np.zeros(n_blocks, dtype=np.int32)
        self._previous_block = np.zeros(n_blocks, dtype=np.int32)
        self._last_blocks = np.zeros(n_lists, dtype=np.int32)
        self.columns = Columns(
            post_ids=np.zeros(n_blocks * BLOCK, dtype=np.int64),
            created_ms=np.zeros(n_blocks * BLOCK, dtype=np.int64),
            author_ids=np.zeros(n_blocks * BLOCK, dtype=np.int64),
            languages=np.zeros(n_blocks * BLOCK, dtype=np.int32),
            next_block=np.zeros(n_blocks, dtype=np.int32),
            heads=np.zeros(n_lists, dtype=np.int32),
            n_by_list=np.zeros(n_lists, dtype=np.int64),
        )
        self.vectors: npt.NDArray[Any] = np.zeros(
            (n_blocks * BLOCK, n_dims), dtype=np.int8 if code_size else np.float32
        )
        self.codes: UInt8Array = np.zeros((n_blocks * BLOCK, code_size), dtype=np.uint8)

    def __len__(self) -> int:
        return int(self._state[_N_ROWS])

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""
        arrays = (*self.columns, *self._tables(), self.vectors, self.codes)
        return sum(array.nbytes for array in arrays)

    def add(self, rows: PostVectors, lists: Int32Array, codes: UInt8Array) -> None:
        """Add rows to their lists; a post that is here is replaced. Of one post given twice the last counts."""
        vectors = as_int8(rows.vectors) if self.code_size else rows.vectors
        done = 0
        while True:
            done = _add(
                self.columns,
                self._tables(),
                self.vectors,
                self.codes,
                rows.post_ids,
                rows.created_ms,
                rows.author_ids,
                rows.languages,
                vectors,
                codes,
                lists,
                done,
            )
            if done == len(rows):
                return
            self._make_room()

    def remove(self, post_ids: Int64Array) -> int:
        """Remove posts, those unknown passed over; return how many were here."""
        return int(_remove(self.columns, self._tables(), self.vectors, self.codes, post_ids))

    def post_ids(self) -> Int64Array:
        """Return the posts that are here, in no order."""
        keys = self._table.keys
        return keys[keys != 0]

    def sample_ids(self, n: int) -> Int64Array:
        """Return about ``n`` of the posts, all if there are fewer, ascending: which ones, the ids alone decide."""
        post_ids = self.post_ids()
        share = min(n / max(len(post_ids), 1), 1.0)
        # Ids are hashes outside of tests; mixed once more, any ids will do. Cheaper than a draw from a million.
        mixed = (post_ids.view(np.uint64) * _SAMPLE_MIX) >> np.uint64(32)
        return np.sort(post_ids[mixed < np.uint64(round(share * 2**32))])

    def gather(self, post_ids: Int64Array) -> PostVectors:
        """Return the rows of those of the posts that are here."""
        at = self._table.get_many(post_ids)
        at = at[at >= 0]
        columns, vectors = self.columns, self.vectors[at]
        return PostVectors(
            post_ids=columns.post_ids[at],
            vectors=from_int8(vectors) if self.code_size else vectors,
            created_ms=columns.created_ms[at],
            author_ids=columns.author_ids[at],
            languages=columns.languages[at],
        )

    def _tables(self) -> _Table:
        table = self._table
        return _Table(
            keys=table.keys,
            values=table.values,
            n_keys=table.n,
            list_of_block=self._list_of_block,
            previous_block=self._previous_block,
            last_blocks=self._last_blocks,
            state=self._state,
        )

    def _make_room(self) -> None:
        if self._table.is_full():
            self._table.grow()
            return
        per_row = ("post_ids", "created_ms", "author_ids", "languages", "next_block")
        self.columns = self.columns._replace(**{name: doubled(getattr(self.columns, name)) for name in per_row})
        self.vectors, self.codes = doubled(self.vectors), doubled(self.codes)
        self._list_of_block = doubled(self._list_of_block)
        self._previous_block = doubled(self._previous_block)


def as_int8(vectors: Float32Array) -> Int8Array:
    """Return vectors as int8, each one's largest component at 127; zeros stay zeros."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = vectors * (np.float32(INT8_MAX) / np.where(largest > 0, largest, np.float32(1.0)))
    return np.rint(scaled).astype(np.int8)


def from_int8(whole: Int8Array) -> Float32Array:
    """Return what `as_int8` was given, of length 1."""
    vectors = whole.astype(np.float32)
    length = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return vectors / np.where(length > 0, length, np.float32(1.0))


@njit(cache=True)
def _add(
    columns: Columns,
    table: _Table,
    vectors: npt.NDArray[Any],
    codes: UInt8Array,
    post_ids: Int64Array,
    created_ms: Int64Array,
    author_ids: Int64Array,
    languages: Int32Array,
    new_vectors: npt.NDArray[Any],
    new_codes: UInt8Array,
    lists: Int32Array,
    start: int,
) -> int:
    """Add rows from ``start`` on; return how far it came: less than all where there was no room for the next."""
    for i in range(start, len(post_ids)):
        row = table_get(table.keys, table.values, post_ids[i])
        if row >= 0 and table.list_of_block[row // BLOCK] != lists[i]:
            _drop(columns, table, vectors, codes, post_ids[i], row)
            row = np.int64(-1)
        if row < 0:
            at_end = columns.n_by_list[lists[i]] % BLOCK
            has_block = at_end != 0 or table.state[_FREE_BLOCK] != 0 or table.state[_N_BLOCKS] < len(columns.next_block)
            if not has_block or (table.n_keys[0] + 1) * 2 > len(table.keys):
                return i
            row = _take(columns, table, lists[i])
            table_put(table.keys, table.values, post_ids[i], row)
            table.n_keys[0] += 1
        columns.post_ids[row] = post_ids[i]
        columns.created_ms[row] = created_ms[i]
        columns.author_ids[row] = author_ids[i]
        columns.languages[row] = languages[i]
        for dim in range(vectors.shape[1]):
            vectors[row, dim] = new_vectors[i, dim]
        for part in range(codes.shape[1]):
            codes[row, part] = new_codes[i, part]
    return len(post_ids)


@njit(cache=True)
def _remove(columns: Columns, table: _Table, vectors: npt.NDArray[Any], codes: UInt8Array, post_ids: Int64Array) -> int:
    n_removed = 0
    for i in range(len(post_ids)):
        row = table_get(table.keys, table.values, post_ids[i])
        if row >= 0:
            _drop(columns, table, vectors, codes, post_ids[i], row)
            n_removed += 1
    return n_removed


@njit(cache=True)
def _take(columns: Columns, table: _Table, number: int) -> int:
    """Return the row after a list's last, in a new block where the first one is full."""
    at_end = columns.n_by_list[number] % BLOCK
    if at_end == 0:
        state = table.state
        if state[_FREE_BLOCK] != 0:
            block = state[_FREE_BLOCK] - 1
            state[_FREE_BLOCK] = columns.next_block[block]
        else:
            block = state[_N_BLOCKS]
            state[_N_BLOCKS] = block + 1
        before = table.last_blocks[number]
        if before == 0:
            columns.heads[number] = block + 1
        else:
            columns.next_block[before - 1] = block + 1
        columns.next_block[block] = 0
        table.previous_block[block] = before
        table.last_blocks[number] = block + 1
        table.list_of_block[block] = number
    columns.n_by_list[number] += 1
    table.state[_N_ROWS] += 1
    return (table.last_blocks[number] - 1) * BLOCK + at_end


@njit(cache=True)
def _drop(
    columns: Columns, table: _Table, vectors: npt.NDArray[Any], codes: UInt8Array, post_id: int, row: int
) -> None:
    """Remove a row: the last one of its list takes its place."""
    number = table.list_of_block[row // BLOCK]
    block = table.last_blocks[number] - 1
    at_end = (columns.n_by_list[number] - 1) % BLOCK
    last = block * BLOCK + at_end
    table_remove(table.keys, table.values, np.int64(post_id))
    table.n_keys[0] -= 1
    if last != row:
        columns.post_ids[row] = columns.post_ids[last]
        columns.created_ms[row] = columns.created_ms[last]
        columns.author_ids[row] = columns.author_ids[last]
        columns.languages[row] = columns.languages[last]
        for dim in range(vectors.shape[1]):
            vectors[row, dim] = vectors[last, dim]
        for part in range(codes.shape[1]):
            codes[row, part] = codes[last, part]
        table_put(table.keys, table.values, columns.post_ids[row], np.int64(row))
    columns.n_by_list[number] -= 1
    table.state[_N_ROWS] -= 1
    if at_end == 0:
        before = table.previous_block[block]
        table.last_blocks[number] = before
        if before == 0:
            columns.heads[number] = 0
        else:
            columns.next_block[before - 1] = 0
        columns.next_block[block] = table.state[_FREE_BLOCK]
        table.state[_FREE_BLOCK] = block + 1
