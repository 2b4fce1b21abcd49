"""Replies and reposts by strangers: conversations that the viewer has no part in."""

from __future__ import annotations

from millrace.features.columns import IS_IN_NETWORK, KIND
from millrace.mixer.kinds import KIND_NAMES, REPLY, REPOST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class OutOfNetworkReplyFilter(Filter):
    """Drops replies and reposts by accounts that the viewer does not follow."""

    name = "out_of_network_reply"
    reads = (IS_IN_NETWORK, KIND)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are in-network, or originals or quotes."""
        kind = batch[KIND]
        keep: BoolArray = batch[IS_IN_NETWORK] | ((kind != REPLY) & (kind != REPOST))
        return keep

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say which of the two it is."""
        return f"a {KIND_NAMES[int(batch[KIND][row])]} by an account that the viewer does not follow"
