"""The embedding tables of a served model: mapped from disk, gathered on the CPU, outside of every graph."""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.content.ngrams import UInt16Array
from millrace.content.semantic_ids import Int16Array, table_rows
from millrace.features.encoding.buckets import UInt8Array
from millrace.features.encoding.hashing import id_rows
from millrace.features.encoding.languages import N_LANGUAGE_ROWS
from millrace.models.config import TableConfig

Float32Array = npt.NDArray[np.float32]

TABLE_NAMES: Final[tuple[str, ...]] = ("tokens", "posts", "authors", "languages")
SIDS_NAME: Final = "sids"

_PAGE_BYTES: Final = 4_096


class EmbeddingTables:
    """Reads rows of a model's tables; row 0 of each is zeros: padding.

    Parameters
    ----------
    tokens, posts, authors, languages, sids
        Shape (rows, width), float32; mapped or in memory. The last is that of semantic ids: None where none are read.
    n_sid_codes
        Semantic ids of a level.
    """

    def __init__(
        self,
        tokens: Float32Array,
        posts: Float32Array,
        authors: Float32Array,
        languages: Float32Array,
        sids: Float32Array | None = None,
        *,
        n_sid_codes: int = 0,
    ) -> None:
        self.tokens = tokens
        self.posts = posts
        self.authors = authors
        self.languages = languages
        self._sids = sids
        self._n_sid_codes = n_sid_codes
        self.width = tokens.shape[1]

    @classmethod
    def open(cls, folder: Path, config: TableConfig) -> Self:
        """Return the tables of a folder, mapped.

        Raises
        ------
        ConfigError
            If a file is missing, damaged, or not of the configured size.
        """
        rows = [config.n_token_rows, config.n_post_rows, config.n_author_rows, N_LANGUAGE_ROWS]
        names = TABLE_NAMES
        if config.n_sid_levels:
            rows.append(config.n_sid_levels * config.n_sid_codes + 1)
            names = (*TABLE_NAMES, SIDS_NAME)
        tables = []
        for name, n_rows in zip(names, rows, strict=True):
            path = folder / f"{name}.npy"
            try:
                table = np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise ConfigError(
                    "embedding table", value=str(path), problem=str(error), remedy="export the model again"
                ) from error
            if table.shape != (n_rows, config.width) or table.dtype != np.float32:
                raise ConfigError(
                    "embedding table",
                    value=f"{path}: {table.dtype} {table.shape}",
                    problem=f"is not float32 {(n_rows, config.width)}",
                    remedy="export the model again",
                )
            tables.append(np.asarray(table))  # kernels are compiled for plain arrays; the pages stay mapped
        return cls(*tables, n_sid_codes=config.n_sid_codes)

    def touch(self) -> None:
        """Map every page of the tables, which takes milliseconds: the first requests would else do it row by row."""
        for table in (self.tokens, self.posts, self.authors, self.languages, self._sids):
            if table is not None:
                table.reshape(-1)[:: _PAGE_BYTES // table.itemsize].sum()

    def content(self, tokens: UInt16Array) -> Float32Array:
        """Return the mean of texts' token rows, shape (n, width); zeros for no text. ``tokens`` is (n, 64)."""
        return mean_rows(self.tokens, np.ascontiguousarray(tokens))

    def spoken(self, rows: UInt8Array) -> Float32Array:
        """Return the mean of language rows, shape (n, width); ``rows`` is (n, k)."""
        return mean_rows(self.languages, np.ascontiguousarray(rows))

    def language(self, rows: UInt8Array) -> Float32Array:
        """Return language rows, shape (n, width)."""
        return self.languages[rows]

    def post(self, post_ids: Int64Array) -> Float32Array:
        """Return posts' vectors, the sum of two hashed rows each, shape (n, width)."""
        return _sums(self.posts, post_ids)

    def author(self, author_ids: Int64Array) -> Float32Array:
        """Return authors' vectors, the sum of two hashed rows each, shape (n, width)."""
        return _sums(self.authors, author_ids)

    def semantic(self, codes: Int16Array) -> Float32Array:
        """Return the sum over levels of semantic ids' vectors, shape (n, width); ``codes`` are -1 where none are."""
        if self._sids is None:
            return np.zeros((len(codes), self.width), dtype=np.float32)
        summed: Float32Array = self._sids[table_rows(codes, self._n_sid_codes)].sum(axis=1)
        return summed


def _sums(table: Float32Array, ids: Int64Array) -> Float32Array:
    rows = id_rows(ids, len(table))
    return table[rows[:, 0]] + table[rows[:, 1]]


@njit(cache=True)
def mean_rows(table: Float32Array, rows: npt.NDArray[Any]) -> Float32Array:
    """Return the mean of the rows that are not 0, shape (n, width), as `mean_rows_reference` does."""
    out = np.zeros((len(rows), table.shape[1]), dtype=np.float32)
    for i in range(len(rows)):
        n = 0
        for k in range(rows.shape[1]):
            row = rows[i, k]
            if row != 0:
                n += 1
                for j in range(table.shape[1]):
                    out[i, j] += table[row, j]
        if n > 0:
            share = np.float32(1.0) / np.float32(n)
            for j in range(table.shape[1]):
                out[i, j] *= share
    return out


def mean_rows_reference(table: Float32Array, rows: npt.NDArray[Any]) -> Float32Array:
    """Return the mean of the rows that are not 0, shape (n, width); zeros where all are."""
    n = np.maximum(np.count_nonzero(rows, axis=1), 1)
    return (table[rows] * (rows != 0)[..., None]).sum(axis=1, dtype=np.float32) / n[:, None].astype(np.float32)
