"""The near-line layer over a learned ranker: calibration and the fast layer's part, as the log has them by now."""

from __future__ import annotations

from typing import Final

from millrace.base.params import Param
from millrace.base.surfaces import surface_code
from millrace.features.columns import ACTION_PROBS, AUTHOR_ID, CONTENT_ID, COUNTED_PROBS, DEEP_PROBS, FAST_SHIFTS
from millrace.features.hashed_crosses import cross_slots
from millrace.features.query_fields import CONTEXT
from millrace.inference.near_line_layer import NearLineLayer, corrected
from millrace.inference.near_line_store import NearLineStore
from millrace.mixer.home_models import MODELS, is_learned
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Ranker

FAST_LAYER: Final = Param(
    "ranker.fast_layer",
    1.0,
    low=0.0,
    high=1.0,
    doc="how much of the fast layer over the learned ranker is used, where it has proved its worth; 0: nothing",
)
CALIBRATES: Final = Param(
    "ranker.near_line_calibration",
    True,
    doc="whether the learned ranker's predictions are calibrated within seconds, where that has proved its worth",
)


class NearLineRanker(Ranker):
    """Changes the predictions of the learned ranker by its near-line layer (`millrace.inference.near_line_layer`).

    Where counters predicted, because no model serves the request or it failed, or where the log has no layer for the
    version, nothing is changed.

    Parameters
    ----------
    layers
        Of this process's state.
    """

    name = "near_line"
    reads = (ACTION_PROBS, COUNTED_PROBS, CONTENT_ID, AUTHOR_ID, CONTEXT, MODELS)
    writes = (ACTION_PROBS, DEEP_PROBS, FAST_SHIFTS)
    params = (FAST_LAYER, CALIBRATES)

    def __init__(self, layers: NearLineStore) -> None:
        self._layers = layers

    def is_enabled(self, query: Query) -> bool:
        """Where the request has a ranker with a layer that changes something."""
        layer = self._layer(query)
        return layer is not None and not layer.changes_nothing

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the predictions, those of the ranker itself, and the fast layer's part."""
        layer = self._layer(query)
        if layer is None or not batch[COUNTED_PROBS].any():  # the ranker was late, or failed
            return {}
        surface = surface_code(query[CONTEXT].surface)
        slots = cross_slots(query.viewer_id, batch[CONTENT_ID], batch[AUTHOR_ID], surface, len(layer.weights))
        deep = batch[ACTION_PROBS]
        probs, fast = corrected(
            layer,
            deep,
            slots,
            fast_weight=query.params.get_float(FAST_LAYER),
            calibrates=query.params.get_bool(CALIBRATES),
        )
        return {ACTION_PROBS: probs, DEEP_PROBS: deep, FAST_SHIFTS: fast}

    def _layer(self, query: Query) -> NearLineLayer | None:
        return self._layers.layer(query[MODELS].versions.get("ranker", "")) if is_learned(query) else None
