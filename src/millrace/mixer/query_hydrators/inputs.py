"""What models read of the viewer."""

from __future__ import annotations

from millrace.features.encoding.viewers import ViewerEncoder
from millrace.features.query_fields import VIEWER_INPUTS
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator


class ViewerInputsQueryHydrator(QueryHydrator):
    """Encodes the viewer, once a request: models read it, and the log keeps it.

    Parameters
    ----------
    viewers
        The encoder.
    is_wanted
        Whether anybody reads it.
    """

    name = "viewer_inputs"
    writes = (VIEWER_INPUTS,)

    def __init__(self, viewers: ViewerEncoder, *, is_wanted: bool = True) -> None:
        self._viewers = viewers
        self._is_wanted = is_wanted

    def is_enabled(self, query: Query) -> bool:
        """Where anybody reads it."""
        return self._is_wanted

    def hydrate(self, query: Query) -> FieldValues:
        """Return the viewer's inputs; of an unknown viewer they are empty."""
        return {VIEWER_INPUTS: self._viewers.encode(query.viewer_id)}
