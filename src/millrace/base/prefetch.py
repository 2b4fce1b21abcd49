"""`prefetch`: tell the processor of memory that a kernel is about to read, so that many waits become one.

A kernel that gathers rows from large arrays waits for memory most of its time: a tenth of a microsecond a row, one
after the other, where what is done with a row fills the processor's window. Told some rows ahead, it fetches them
beside. It is a hint: nothing that is read or written changes, and an address that is not there is no error.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, slot_of
from millrace.base.kernels import njit

_BYTE: Any = ir.IntType(8).as_pointer()
_INT: Any = ir.IntType(32)
_declared: Any = cgutils.get_or_insert_function
_FOR_READING, _TO_KEEP, _DATA = 0, 3, 1


def _hint(_typing: Any, array: Any, index: Any) -> Any:
    if not isinstance(array, types.Array) or array.layout != "C" or not isinstance(index, types.Integer):
        return None

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), _BYTE)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _INT, _INT, _INT])
        hint = _declared(builder.module, kind, "llvm.prefetch")
        builder.call(hint, [address, _INT(_FOR_READING), _INT(_TO_KEEP), _INT(_DATA)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


prefetch = cast("Callable[[npt.NDArray[Any], Any], None]", intrinsic(_hint))
"""Fetch the cache line of an element of an array in C order, counted in that order; for kernels only."""


@njit(cache=True, nogil=True)
def prefetch_slots(keys: Int64Array, values: Int32Array, wanted: npt.NDArray[Any]) -> None:
    """Fetch where keys would lie in a table of `millrace.base.int_table`, and their values."""
    mask = len(keys) - 1
    for i in range(len(wanted)):
        slot = slot_of(wanted[i], mask)
        prefetch(keys, slot)
        prefetch(values, slot)
