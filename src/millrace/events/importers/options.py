"""`ImportOptions`: what the operator decides about an import."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

HOUR_MS = 3_600_000


class ImportOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to bring a data set into the log.

    Parameters
    ----------
    now_ms
        The moment of the import; no event is later.
    span_ms
        Compress time so that the data set's events fill this span and the newest is ``now_ms``; None keeps the
        data set's own times.
    seed
        Decides everything that the data set does not say.
    n_viewers
        How many viewers are made where the data set has none.
    """

    now_ms: Annotated[int, Meta(ge=0)]
    span_ms: Annotated[int, Meta(ge=60_000)] | None = None
    seed: Annotated[int, Meta(ge=0)] = 1
    n_viewers: Annotated[int, Meta(ge=0, le=1_000_000)] = 500

    def id_suffix(self) -> str:
        """Return what an event id needs besides its row.

        With a span, times depend on the moment of the import: importing again later means other events. With
        the data set's own times, importing again means the same ones, and the log drops them as duplicates.
        """
        return "" if self.span_ms is None else f"@{self.now_ms}"
