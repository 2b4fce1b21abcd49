"""`ModelWithdrawn`: a guard has taken a model away from the feed; told in the log beside the traffic that showed it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from millrace.events.envelope import Name, Payload


class ModelWithdrawn(Payload, frozen=True, kw_only=True):
    """A model serves no more, because of what was seen of it on live traffic. Written by the server only.

    Nothing follows from the event: what serves is what the registry says. It is for whoever reads the log.

    Attributes
    ----------
    kind, version
        What was withdrawn.
    guard
        Which guard tripped, such as ``auc_drop``; on what, ``reason`` says.
    reason
        In words, as the registry's history has it.
    instead
        The version of the kind that serves the default lane now; empty: none.
    """

    kind: Name
    version: Name
    guard: Annotated[str, Meta(max_length=200)]
    reason: Annotated[str, Meta(max_length=2_000)]
    instead: str = ""
