"""`NearLineUpdated`: what the near-line learner changes about a ranker's predictions, for every server to fold.

One process learns from what was served and what came of it (`millrace.flywheel.near_line`); what it learns is an event,
so that every replica holds the same at the same place of the log, and a page replays from it. Values are absolute, not
increments: an event that is heard twice changes nothing the second time.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from millrace.events.envelope import Name, Payload


class NearLineUpdated(Payload, frozen=True, kw_only=True):
    """New values of one ranker's near-line layer. Written by the server only.

    Attributes
    ----------
    model
        The ranker's version, as pages name it.
    is_reset
        Forget all weights first: the learner began anew.
    n_slots
        Size of the table of hashed weights, a power of two.
    arrays
        `millrace.events.packed`: ``slopes``, ``shifts``, ``is_calibrated``, ``fast_gates`` (a value a head),
        ``slots`` (k,) and ``weights`` (k, n_heads): the rows of the table that changed.
    """

    model: Name
    n_slots: Annotated[int, Meta(ge=2, le=1 << 24)]
    is_reset: bool = False
    arrays: bytes
