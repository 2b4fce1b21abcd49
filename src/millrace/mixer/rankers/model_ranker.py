"""The ranker that has learned: P(action) for every head from the viewer's history and the posts themselves."""

from __future__ import annotations

from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.content.text_index import TextIndex
from millrace.features.columns import ACTION_PROBS, COUNTED_PROBS, INPUT_DENSE, INPUT_LANGUAGE
from millrace.features.encoding.candidates import READS
from millrace.features.encoding.encoders import Encoders
from millrace.features.query_fields import VIEWER_INPUTS
from millrace.mixer.home_models import ARM, IS_ON, MODELS, VectorsFor, is_learned, nothing_for, shares_of
from millrace.mixer.inputs_log import inputs_of
from millrace.models.blending import blended
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Ranker


class ModelRanker(Ranker):
    """Predicts every action by a trained model; keeps what it read, for whoever logs the page.

    It stands behind the counters-based ranker and takes the place of its predictions; where no model serves the
    request, or it fails, is late or is switched off, those stay.

    Parameters
    ----------
    encoders
        Over the stores of this process.
    texts
        Where the posts' texts are.
    vectors_for
        Gives the vectors that a model was trained with.
    """

    name = "model"
    reads = (*READS, ACTION_PROBS, INPUT_DENSE, INPUT_LANGUAGE, VIEWER_INPUTS, MODELS)
    writes = (ACTION_PROBS, COUNTED_PROBS, INPUT_DENSE, INPUT_LANGUAGE)
    params = (IS_ON, ARM)

    def __init__(self, encoders: Encoders, texts: TextIndex, vectors_for: VectorsFor = nothing_for) -> None:
        self._encoders = encoders
        self._texts = texts
        self._vectors_for = vectors_for

    def is_enabled(self, query: Query) -> bool:
        """Where the request's lane has a ranker, unless the param says no."""
        return is_learned(query)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the predictions, those that they take the place of, and what they were made from."""
        model = query[MODELS].ranker
        if model is None:
            return {}
        viewer = query[VIEWER_INPUTS] or self._encoders.viewers.encode(query.viewer_id)
        candidates = inputs_of(batch)  # the pre-ranker has encoded them, if there is one
        if candidates is None:
            candidates = self._encoders.candidates.encode(batch, query.now_ms, viewer.history.newest_ms)
        probs = model.predict(viewer, candidates, self._tokens_of, self._vectors_for(model))
        return {
            ACTION_PROBS: blended(probs, batch[ACTION_PROBS], shares_of(model)),
            COUNTED_PROBS: batch[ACTION_PROBS],
            INPUT_DENSE: candidates.dense,
            INPUT_LANGUAGE: candidates.languages,
        }

    def _tokens_of(self, post_ids: Int64Array) -> UInt16Array:
        return self._texts.content(post_ids)[0]
