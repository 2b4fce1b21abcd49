"""Languages as rows of an embedding table: by name, so that a model can be used with another log's codes."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from millrace.base.int_table import Int32Array
from millrace.features.encoding.buckets import UInt8Array
from millrace.stores.codes import CodeTable

N_LANGUAGE_ROWS: Final = 256


class LanguageRows:
    """From codes of a `CodeTable` to rows 1 to 255; 0 is unknown. Two rare languages may share a row.

    Parameters
    ----------
    codes
        The table; names that it learns later are found too.
    """

    def __init__(self, codes: CodeTable) -> None:
        self._codes = codes
        self._rows: UInt8Array = np.zeros(1, dtype=np.uint8)

    def rows(self, codes: Int32Array) -> UInt8Array:
        """Return the row of each code, same shape, uint8."""
        if len(self._codes) >= len(self._rows):
            self._rows = np.array([0, *(language_row(name) for name in self._codes.names())], dtype=np.uint8)
        return self._rows[codes]


def language_row(name: str) -> int:
    """Return the row of a primary language subtag such as ``"en"``."""
    return 1 + hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % (N_LANGUAGE_ROWS - 1)
