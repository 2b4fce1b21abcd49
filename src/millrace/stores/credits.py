"""Credits: to whom what is done to a post is counted (its author, its topics), and to whom it was counted before.

A post may be acted on before its creation is read, and be annotated anew at any time. What was counted until then stays
where it was counted; an undo must therefore know what its do was counted under. A credit is that answer as one word,
three topics and whether the author was known; a mark keeps the number of its credit (`millrace.stores.marks`). A post
whose credit never changed after something was counted, as nearly all, has number 0 and takes no room.

A post keeps `MAX_CREDITS` different ones. Beyond that the last is overwritten, and undos of what was counted
under it go to the wrong topics: a limit that needs an annotator gone mad.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.stores.codes import MAX_TOPICS
from millrace.stores.slab_lists import COUNT, Slab, slab_insert, slab_slot

TOPIC_BITS: Final = 21
TOPIC_MASK: Final = (1 << TOPIC_BITS) - 1
N_TOPICS: Final = MAX_TOPICS

MAX_CREDITS: Final = 256
"""Their number fits the low byte of a mark's word."""

_HAS_AUTHOR: Final = -(1 << 63)


@njit(cache=True)
def credit_of(author_ids: Int64Array, topics: Int32Array, row: int) -> int:
    """Return a post's credit as it is now: 21 bits a topic, the sign bit where the author is known."""
    packed = np.int64(_HAS_AUTHOR) if author_ids[row] != 0 else np.int64(0)
    for k in range(N_TOPICS):
        packed |= np.int64(topics[row, k]) << (k * TOPIC_BITS)
    return packed


@njit(cache=True)
def change_credit(lists: Slab, numbers: npt.NDArray[np.uint8], row: int, before: int, after: int) -> None:
    """Give a post, to which something was counted already, the number of its new credit.

    Parameters
    ----------
    lists
        One list per post row: credits by number. It must have room for two more.
    numbers
        Shape (n_rows,), uint8: each post's present number.
    row
        The post's row.
    before, after
        Its credits, from `credit_of`.
    """
    if before == after:
        return
    if lists.rows[row, COUNT] == 0:
        lists.words[slab_insert(lists, row, 0), 0] = before
    count = np.int64(lists.rows[row, COUNT])
    for k in range(count):
        if lists.words[slab_slot(lists, row, k), 0] == after:
            numbers[row] = k
            return
    if count == MAX_CREDITS:
        count -= 1
        lists.words[slab_slot(lists, row, count), 0] = after
    else:
        lists.words[slab_insert(lists, row, count), 0] = after
    numbers[row] = count


@njit(cache=True)
def credit_by_number(lists: Slab, row: int, number: int, now: int) -> int:
    """Return the credit with a number; ``now`` where the post (forgotten and known anew) has none with it."""
    if number >= lists.rows[row, COUNT]:
        return now
    return lists.words[slab_slot(lists, row, number), 0]


@njit(cache=True, inline="always")
def credit_has_author(credit: int) -> bool:
    """Whether the author was known."""
    return credit < 0


@njit(cache=True, inline="always")
def credit_topic(credit: int, k: int) -> int:
    """Return the ``k``-th topic, 0 for none."""
    return (credit >> (k * TOPIC_BITS)) & TOPIC_MASK
