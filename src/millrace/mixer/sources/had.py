"""What the viewer has had: sources that look at everybody's posts leave it out, so that it takes no place."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.features.query_fields import SEEN, SERVED
from millrace.pipeline.query import Query

HAD: Final = (SEEN, SERVED)
"""The query fields that say so; a source that calls `had` reads them."""


def had(query: Query) -> Int64Array:
    """Return the posts that the viewer has had, shape (n,), int64, repeats included."""
    return np.concatenate([query[field] for field in HAD])
