"""The ranker that has learned: P(action) for every head from the viewer's history and the posts themselves."""

from __future__ import annotations

from typing import Final, Protocol

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.content.ngrams import UInt16Array
from millrace.content.text_index import TextIndex
from millrace.features.columns import ACTION_PROBS, COUNTED_PROBS, INPUT_DENSE, INPUT_LANGUAGE
from millrace.features.encoding.candidates import READS, CandidateInputs
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.viewers import ViewerInputs
from millrace.features.query_fields import VIEWER_INPUTS
from millrace.inference.assembler import TokensOf
from millrace.inference.tables import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Ranker

IS_ON: Final = Param("model.is_on", True, doc="whether the learned ranker predicts; else counters do")


class Predictor(Protocol):
    """What predicts: `millrace.inference.ranker_model.RankerModel`, or whatever stands in its place."""

    def predict(self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf) -> Float32Array:
        """Return P(action), seconds for the continuous one, shape (n, n_actions)."""


class ModelRanker(Ranker):
    """Predicts every action by a trained model; keeps what it read, for whoever logs the page.

    It stands behind the counters-based ranker and takes the place of its predictions; where it fails, is late or is
    switched off, those stay.

    Parameters
    ----------
    model
        The trained ranker.
    encoders
        Over the stores of this process.
    texts
        Where the posts' texts are.
    """

    name = "model"
    reads = (*READS, ACTION_PROBS, VIEWER_INPUTS)
    writes = (ACTION_PROBS, COUNTED_PROBS, INPUT_DENSE, INPUT_LANGUAGE)
    params = (IS_ON,)

    def __init__(self, model: Predictor, encoders: Encoders, texts: TextIndex) -> None:
        self._model = model
        self._encoders = encoders
        self._texts = texts

    def is_enabled(self, query: Query) -> bool:
        """Unless the param says no."""
        return query.params.get_bool(IS_ON)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the predictions, those that they take the place of, and what they were made from."""
        viewer = query[VIEWER_INPUTS] or self._encoders.viewers.encode(query.viewer_id)
        candidates = self._encoders.candidates.encode(batch, query.now_ms, viewer.history.newest_ms)
        return {
            ACTION_PROBS: self._model.predict(viewer, candidates, self._tokens_of),
            COUNTED_PROBS: batch[ACTION_PROBS],
            INPUT_DENSE: candidates.dense,
            INPUT_LANGUAGE: candidates.languages,
        }

    def _tokens_of(self, post_ids: Int64Array) -> UInt16Array:
        return self._texts.content(post_ids)[0]
