"""The walk down the ranked candidates that fills a page under its rules."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.pipeline.column import BoolArray


class Rules(NamedTuple):
    """What holds for a page.

    Attributes
    ----------
    n_wanted
        Its length.
    max_per_author, max_per_topic
        How often an author, a topic (but 0) may come.
    one_per_conversation
        Whether a conversation (but 0) may come once only.
    max_head
        How many may be of the popular head, unless the page would be shorter without more.
    """

    n_wanted: int
    max_per_author: int
    max_per_topic: int
    one_per_conversation: bool
    max_head: int


_IDS: Final = types.Array(types.int64, 1, "C", readonly=True)
_CODES: Final = types.Array(types.int32, 1, "C", readonly=True)
_FLAGS: Final = types.Array(types.boolean, 1, "C", readonly=True)
_RULES: Final[Any] = types.NamedTuple(  # type: ignore[no-untyped-call]
    [types.int64, types.int64, types.int64, types.boolean, types.int64], Rules
)


@njit(cache=True)
def _fits(
    place: int,
    authors: Int64Array,
    topics: Int32Array,
    conversations: Int64Array,
    taken: Int64Array,
    n_taken: int,
    rules: Rules,
) -> bool:
    """Whether a candidate may join those taken. A page is short: looking through it is quicker than any table."""
    n_author, n_topic = 0, 0
    author, topic, conversation = authors[place], topics[place], conversations[place]
    for i in range(n_taken):
        other = taken[i]
        n_author += authors[other] == author
        n_topic += topics[other] == topic
        if rules.one_per_conversation and conversation != 0 and conversations[other] == conversation:
            return False
    return n_author < rules.max_per_author and (topic == 0 or n_topic < rules.max_per_topic)


@njit([types.int64[::1](_IDS, _CODES, _IDS, _FLAGS, _RULES, types.boolean)], cache=True)
def fill_page(
    authors: Int64Array,
    topics: Int32Array,
    conversations: Int64Array,
    is_head: BoolArray,
    rules: Rules,
    is_all: bool,  # noqa: FBT001 - kernels take no names
) -> Int64Array:
    """Return the places of the candidates that make the page, ascending.

    Parameters
    ----------
    authors, topics, conversations, is_head
        Of the candidates, best first, shape (n,).
    rules
        The page's.
    is_all
        Whether there are no further candidates, so that a short page is to be filled up with the popular head.
    """
    n = len(authors)
    is_taken = np.zeros(n, dtype=np.bool_)
    taken = np.empty(min(rules.n_wanted, n), dtype=np.int64)
    n_taken, n_head = 0, 0
    for is_filling_up in (False, True):
        for place in range(n):
            if n_taken == rules.n_wanted or (is_filling_up and not is_all):
                break
            if is_taken[place] or (not is_filling_up and is_head[place] and n_head >= rules.max_head):
                continue
            if _fits(place, authors, topics, conversations, taken, n_taken, rules):
                is_taken[place] = True
                taken[n_taken] = place
                n_taken += 1
                n_head += is_head[place]
    return np.flatnonzero(is_taken)


def fill_page_reference(
    authors: Int64Array,
    topics: Int32Array,
    conversations: Int64Array,
    is_head: BoolArray,
    rules: Rules,
    is_all: bool,  # noqa: FBT001 - kernels take no names
) -> npt.NDArray[np.int64]:
    """Return the same as `fill_page`."""
    rows = list(zip(authors.tolist(), topics.tolist(), conversations.tolist(), is_head.tolist(), strict=True))
    page: list[int] = []

    def fits(place: int) -> bool:
        author, topic, conversation, _ = rows[place]
        on_page = [rows[other] for other in page]
        return (
            sum(other[0] == author for other in on_page) < rules.max_per_author
            and (topic == 0 or sum(other[1] == topic for other in on_page) < rules.max_per_topic)
            and not (rules.one_per_conversation and conversation and any(o[2] == conversation for o in on_page))
        )

    for max_head in (rules.max_head, len(rows)) if is_all else (rules.max_head,):
        for place in range(len(rows)):
            n_head = sum(rows[other][3] for other in page)
            is_allowed = place not in page and (not rows[place][3] or n_head < max_head)
            if len(page) < rules.n_wanted and is_allowed and fits(place):
                page.append(place)
    return np.array(sorted(page), dtype=np.int64)
