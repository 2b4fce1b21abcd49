"""`TraceKeeper`: every finished request leaves a trace, and no request fails for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from millrace.mixer.trace import Trace, TracePacker
from millrace.pipeline.result import PipelineResult
from millrace.stores.trace_store import TraceStore

logger = logging.getLogger(__name__)


class TraceKeeper:
    """Packs and writes traces, and reads them back.

    Parameters
    ----------
    packers
        Make records of results, by the name of the pipeline that they come from.
    store
        Where they go; None keeps none.
    is_strict
        Raise what goes wrong instead of going on without the trace (tests, development).
    """

    def __init__(self, packers: Mapping[str, TracePacker], store: TraceStore | None, *, is_strict: bool) -> None:
        self._packers = dict(packers)
        self._store = store
        self._is_strict = is_strict

    def keep(self, result: PipelineResult) -> None:
        """Keep the trace of a request, unless it was a dry run."""
        if self._store is None or result.query.is_dry_run:
            return
        try:
            self._store.write(result.query.request_id, self._packers[result.report.pipeline].pack(result))
        except Exception:
            if self._is_strict:
                raise
            logger.exception("request %s leaves no trace", result.query.request_id)

    def of(self, result: PipelineResult) -> Trace:
        """Return the trace of a result at hand."""
        return Trace(self._packers[result.report.pipeline].pack(result))
