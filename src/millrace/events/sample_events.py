"""Samples on the log: what the streaming join let out, request by request, for whoever learns or counts live.

Keys and labels, and the place of the features in the log, not the features again: a page of 30 rows is about a
kilobyte. The events have a topic of their own, which no replica reads. Written after the epoch that they are of was
committed; one that is written twice (a process was killed in between) has the same id, and readers take of each
(request, post) the newest revision (`millrace.flywheel.sample_topic.NewestSamples`).
"""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
from msgspec import Meta

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.events.envelope import Payload, TimeMs

SAMPLES_TOPIC: Final = "flywheel.samples"

ROW: Final = np.dtype(
    [
        ("post", "<i8"),
        ("looked_ms", "<i8"),
        ("page_row", "<i4"),
        ("position", "<i4"),
        ("revision", "<i4"),
        ("rate", "<f4"),
    ]
)
"""A row of `SamplesJoined.rows`: see `millrace.flywheel.join_rows.JoinedRows`."""

LABEL: Final = np.dtype([("row", "<u4"), ("action", "<u4"), ("value", "<f4")])
"""A label that is not zero: row within the event, column, value."""


class SamplesJoined(Payload, frozen=True, kw_only=True):
    """Samples of one request, as one epoch of the join let them out. Written by the server only.

    Attributes
    ----------
    request, viewer
        Inside ids: the join knows no others.
    epoch
        Number of the checkpoint that they are of.
    page_offset, page_ms
        Log offset of the page's `FeaturesLogged`; when the page was made.
    rows, labels
        Bytes of arrays of `ROW` and `LABEL`.
    """

    request: int
    viewer: int
    epoch: Annotated[int, Meta(ge=0)]
    page_offset: Annotated[int, Meta(ge=0)]
    page_ms: TimeMs
    rows: bytes
    labels: bytes = b""


def posts_of(payload: SamplesJoined) -> Int64Array:
    """Return the posts of an event's rows, shape (n,), int64; of damaged rows nobody can tell.

    Raises
    ------
    SchemaError
        If the rows are damaged.
    """
    if len(payload.rows) % ROW.itemsize:
        raise SchemaError(
            "joined samples", value=payload.request, problem="rows are cut short", remedy="leave the event out"
        )
    posts: Int64Array = np.frombuffer(payload.rows, dtype=ROW)["post"].astype(np.int64)
    return posts
