"""Keys and values with a life: the contract of every key-value store, and the one in this process's memory.

The same contract stands over memory (one process), SQLite (one machine, `millrace.stores.sqlite_key_value`) and Redis
(several machines, `millrace.stores.redis_key_value`): what is written against it moves from one to another by a
setting, and one suite (`millrace.testing.key_value_contract`) runs over all three.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from millrace.base.clock import Clock

SWEEP_EVERY_MS: Final = 60_000
"""How often what has run out is looked for, where nobody asks for it any more."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key's change, on the condition of what it holds.

    Attributes
    ----------
    key
        Which.
    expected
        What it must hold; None: nothing.
    value
        What it shall hold; None: nothing.
    """

    key: bytes
    expected: bytes | None
    value: bytes | None


class KeyValueStore(Protocol):
    """Bytes by bytes. All methods may be called from any thread, and fail with `StoreError` alone.

    Values live for ``ttl_ms`` by the store's clock, for ever where it is None: a value that has run out is not there
    for any method. A server may let go of it by its own clock, a little later, and may run out of room.

    Attributes
    ----------
    is_remote
        Whether a call waits for another machine.
    """

    is_remote: bool

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what keys hold, in their order; None where they hold nothing."""

    def set_many(self, values: Mapping[bytes, bytes], *, ttl_ms: int | None = None) -> None:
        """Let keys hold values, whatever they held. Others may see some of them before the rest."""

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Let keys hold nothing; return how many held something."""

    def compare_and_set(self, changes: Sequence[Change], *, ttl_ms: int | None = None) -> list[bool]:
        """Change each key that holds what is expected, leave the others; return which were changed.

        Each change is atomic by itself: of callers who race for one key and expect the same, one succeeds. A key that
        is named twice is changed in the order of the list.
        """

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys that begin with ``prefix`` and their values, in no order, each once.

        What is there from beginning to end is yielded; what comes, goes or changes meanwhile may be.
        """

    def close(self) -> None:
        """Release what the store holds open; what is stored stays as long as its place does."""


class MemoryKeyValue:
    """A key-value store of this process alone.

    Parameters
    ----------
    clock
        Gives event time.
    """

    is_remote = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[bytes, tuple[bytes, int | None]] = {}
        self._lock = threading.Lock()
        self._next_sweep_ms = clock.now_ms() + SWEEP_EVERY_MS

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `KeyValueStore.get_many`."""
        now_ms = self._clock.now_ms()
        with self._lock:
            return [self._get(key, now_ms) for key in keys]

    def set_many(self, values: Mapping[bytes, bytes], *, ttl_ms: int | None = None) -> None:
        """See `KeyValueStore.set_many`."""
        now_ms = self._clock.now_ms()
        expires_ms = expiry_ms(now_ms, ttl_ms)
        with self._lock:
            self._sweep(now_ms)
            for key, value in values.items():
                self._held[key] = (value, expires_ms)

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """See `KeyValueStore.delete_many`."""
        now_ms = self._clock.now_ms()
        with self._lock:
            n_held = 0
            for key in keys:
                n_held += self._get(key, now_ms) is not None
                self._held.pop(key, None)
        return n_held

    def compare_and_set(self, changes: Sequence[Change], *, ttl_ms: int | None = None) -> list[bool]:
        """See `KeyValueStore.compare_and_set`."""
        now_ms = self._clock.now_ms()
        expires_ms = expiry_ms(now_ms, ttl_ms)
        answers: list[bool] = []
        with self._lock:
            self._sweep(now_ms)
            for change in changes:
                is_as_expected = self._get(change.key, now_ms) == change.expected
                answers.append(is_as_expected)
                if is_as_expected and change.value is None:
                    self._held.pop(change.key, None)
                elif is_as_expected and change.value is not None:
                    self._held[change.key] = (change.value, expires_ms)
        return answers

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `KeyValueStore.scan`."""
        now_ms = self._clock.now_ms()
        with self._lock:
            keys = [key for key in self._held if key.startswith(prefix)]
            found = [(key, self._get(key, now_ms)) for key in keys]
        yield from ((key, value) for key, value in found if value is not None)

    def close(self) -> None:
        """See `KeyValueStore.close`."""

    def _get(self, key: bytes, now_ms: int) -> bytes | None:
        value, expires_ms = self._held.get(key, (None, None))
        return value if expires_ms is None or expires_ms > now_ms else None

    def _sweep(self, now_ms: int) -> None:
        if now_ms >= self._next_sweep_ms:
            self._next_sweep_ms = now_ms + SWEEP_EVERY_MS
            gone = [
                key for key, (_, expires_ms) in self._held.items() if expires_ms is not None and expires_ms <= now_ms
            ]
            for key in gone:
                del self._held[key]


def expiry_ms(now_ms: int, ttl_ms: int | None) -> int | None:
    """Return when a value that is written now runs out; None for never.

    Raises
    ------
    ValueError
        If ``ttl_ms`` is not above 0.
    """
    if ttl_ms is None:
        return None
    if ttl_ms <= 0:
        raise ValueError(f"ttl_ms is {ttl_ms}: a value lives for at least a millisecond, or for ever (None)")
    return now_ms + ttl_ms
