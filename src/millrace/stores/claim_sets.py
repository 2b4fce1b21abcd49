"""What a claim changes: a viewer's claims as one array, and the decision about a page, without any storage.

A claim is a row of four int64: the content, when it was published, when the claim ends, and the hash of its owner.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdKind, Int64Array, hash_id
from millrace.pipeline.membership import is_member

CONTENT: Final = 0
CREATED: Final = 1
EXPIRES: Final = 2
OWNER: Final = 3
N_WORDS: Final = 4

NO_CLAIMS: Final = np.empty((0, N_WORDS), dtype=np.int64)
NO_CLAIMS.setflags(write=False)


class Asked(NamedTuple):
    """What a request asks for; see `millrace.stores.claims.ClaimStore.claim`."""

    content_ids: Int64Array
    created_ms: Int64Array
    owner: str
    now_ms: int
    expires_ms: int
    max_claims: int


class Decision(NamedTuple):
    """What becomes of it.

    Attributes
    ----------
    granted
        Shape (n,), bool.
    held
        All live claims afterwards, shape (m, 4), the new ones last.
    n_new
        How many of them are new.
    gives_back
        Whether the owner gave claims back.
    floor_ms
        The viewer's floor afterwards.
    """

    granted: npt.NDArray[np.bool_]
    held: Int64Array
    n_new: int
    gives_back: bool
    floor_ms: int


def owner_hash(owner: str) -> int:
    """Return an owner as a word of a claim."""
    return hash_id(IdKind.REQUEST, owner)


def live_claims(held: Int64Array, floor_ms: int, now_ms: int) -> Int64Array:
    """Return the claims that still hold: neither run out nor covered by the floor."""
    is_live = (held[:, EXPIRES] > now_ms) & (held[:, CREATED] >= floor_ms)
    rows = np.flatnonzero(is_live)
    return held if len(rows) == len(held) else held.take(rows, axis=0)


def without_owner(held: Int64Array, owner: str) -> Int64Array:
    """Return the claims of all others."""
    others: Int64Array = held[held[:, OWNER] != owner_hash(owner)]
    return others


def decide(held: Int64Array, floor_ms: int, asked: Asked) -> Decision:
    """Return what is granted, and the viewer's claims and floor afterwards. O(held), some 50 microseconds for 8,000.

    Parameters
    ----------
    held
        The viewer's claims, shape (m, 4).
    floor_ms
        The viewer's floor.
    asked
        The page.
    """
    me = owner_hash(asked.owner)
    held = live_claims(held, floor_ms, asked.now_ms)
    is_asked = is_member(held[:, CONTENT], asked.content_ids)
    owner_by_content = dict(held[is_asked][:, (CONTENT, OWNER)].tolist())
    granted = np.zeros(len(asked.content_ids), dtype=np.bool_)
    new: list[tuple[int, int, int, int]] = []
    known: set[int] = set()
    for row, (content, created_ms) in enumerate(
        zip(asked.content_ids.tolist(), asked.created_ms.tolist(), strict=True)
    ):
        if content in known or created_ms < floor_ms or owner_by_content.get(content, me) != me:
            continue
        known.add(content)
        granted[row] = True
        if content not in owner_by_content:
            new.append((content, created_ms or asked.now_ms, asked.expires_ms, me))
    is_left = (held[:, OWNER] == me) & ~is_asked
    gives_back = bool(is_left.any())
    if gives_back:
        held = held[~is_left]
    if new:
        held = np.concatenate((held, np.array(new, dtype=np.int64)))
    n_too_many = len(held) - asked.max_claims
    n_new = len(new)
    if n_too_many > 0:
        created = held[:, CREATED].copy()
        floor_ms = int(np.partition(created, n_too_many - 1)[n_too_many - 1]) + 1
        is_kept = created >= floor_ms
        n_new = int(np.count_nonzero(is_kept[len(held) - n_new :]))
        held = held.take(np.flatnonzero(is_kept), axis=0)
    return Decision(granted, held, n_new, gives_back, floor_ms)
