"""What the viewer has had already, by all that is known: for sources that look further than that."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.features.query_fields import CLAIMED, SEEN, SERVED
from millrace.pipeline.query import Query

HAD: Final = (SEEN, SERVED, CLAIMED)
"""What `had` reads."""


def had(query: Query) -> Int64Array:
    """Return posts and contents that were seen, sent lately or claimed, shape (n,), int64, with repeats."""
    return np.concatenate([query[field] for field in HAD])
