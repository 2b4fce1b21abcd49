"""Encoding what is logged: rows that no model has encoded, at the state that the page is made from.

Logging happens after the page has left, and by then the state has moved on. So the rows of the page are encoded before
it leaves, unless a model has done so; for a sampled request all ranked rows are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import INPUT_DENSE, INPUT_LANGUAGE
from millrace.features.encoding.candidates import READS, CandidateEncoder
from millrace.features.query_fields import VIEWER_INPUTS
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, HydratedValues, Hydrator, Ranker

FEATURES_SHARE: Final = Param(
    "features_log.share", 1.0, low=0.0, high=1.0, doc="share of pages whose features are logged; 0: none"
)
CANDIDATES_SHARE: Final = Param(
    "candidates_log.share", 0.01, low=0.0, high=1.0, doc="share of requests whose candidates are all logged; 0: none"
)


def is_page_logged(query: Query) -> bool:
    """Whether the features of this request's page are logged: the same answer wherever it is asked."""
    return not query.is_dry_run and _is_drawn(query, FEATURES_SHARE)


def is_request_logged(query: Query) -> bool:
    """Whether all candidates of this request are logged: the same answer wherever it is asked."""
    return not query.is_dry_run and _is_drawn(query, CANDIDATES_SHARE)


def _is_drawn(query: Query, share: Param) -> bool:
    wanted = query.params.get_float(share)
    return wanted >= 1.0 or (wanted > 0.0 and query.rng(share.name).random() < wanted)


def is_encoded(batch: CandidateBatch) -> BoolArray:
    """Return which rows are encoded, shape (n,)."""
    return np.asarray(batch[INPUT_DENSE].any(axis=1))  # the hour alone is never 0


class RankedInputs(Ranker):
    """Encodes all ranked rows of a request whose candidates are logged, if no model has encoded them.

    Parameters
    ----------
    encoder
        Over the stores of this process.
    is_wanted
        Whether anything is logged at all.
    """

    name = "ranked_inputs"
    reads = (*READS, VIEWER_INPUTS)
    writes = (INPUT_DENSE, INPUT_LANGUAGE)
    params = (CANDIDATES_SHARE,)

    def __init__(self, encoder: CandidateEncoder, *, is_wanted: bool) -> None:
        self._encoder = encoder
        self._is_wanted = is_wanted

    def is_enabled(self, query: Query) -> bool:
        """Only for sampled requests."""
        return self._is_wanted and is_request_logged(query)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the inputs of all rows."""
        return _inputs(self._encoder, query, batch)


class SlateInputs(Hydrator):
    """Encodes the rows of a page that is logged, if no model has encoded them (late, first).

    First, for what other late hydrators find out was not known to whoever predicted.

    Parameters
    ----------
    encoder
        Over the stores of this process.
    is_wanted
        Whether anything is logged at all.
    """

    name = "slate_inputs"
    reads = (*READS, VIEWER_INPUTS, INPUT_DENSE, INPUT_LANGUAGE)
    writes = (INPUT_DENSE, INPUT_LANGUAGE)
    params = (FEATURES_SHARE,)

    def __init__(self, encoder: CandidateEncoder, *, is_wanted: bool) -> None:
        self._encoder = encoder
        self._is_wanted = is_wanted

    def is_enabled(self, query: Query) -> bool:
        """Only for pages that are logged."""
        return self._is_wanted and is_page_logged(query)

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the inputs of the page's rows."""
        return _inputs(self._encoder, query, batch)


def _inputs(encoder: CandidateEncoder, query: Query, batch: CandidateBatch) -> dict[Any, Any]:
    if INPUT_DENSE in batch and is_encoded(batch).all():
        return {INPUT_DENSE: batch[INPUT_DENSE], INPUT_LANGUAGE: batch[INPUT_LANGUAGE]}
    viewer = query[VIEWER_INPUTS]
    newest_ms = 0 if viewer is None else viewer.history.newest_ms
    found = encoder.encode(batch, query.now_ms, newest_ms)
    return {INPUT_DENSE: found.dense, INPUT_LANGUAGE: found.languages}
