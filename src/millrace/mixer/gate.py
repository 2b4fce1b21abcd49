"""What the service needs of whoever holds the state: that it stands still while a request reads it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Reading(Protocol):
    """What a reader of the state is told."""

    @property
    def position(self) -> tuple[int, ...]:
        """The log position at which the state stands, for as long as it is held."""


class StateGate(Protocol):
    """Holds the state still while a request reads it; `millrace.stores.replica.Replica` is one."""

    def read(self) -> AbstractAsyncContextManager[Reading]:
        """Hold the state; folding waits."""
