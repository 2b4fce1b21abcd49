"""`SharedLevel`: the second level of a cache, a key-value store that many processes share, such as Redis.

It may be away: then it is left alone for a moment, and the cache goes on without it.

A removal leaves a mark for a few seconds. Whoever read the store before the removal may want to put the old value in
after it: the mark refuses that, as a revoked lease does (Nishtala and others, "Scaling Memcache at Facebook", NSDI
2013).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from millrace.base.backoff import Backoff
from millrace.base.clock import Clock
from millrace.base.errors import StoreError
from millrace.stores.key_value import Change, KeyValueStore
from millrace.stores.memory_level import ABSENT, Absent

ValueT = TypeVar("ValueT")

LEASE_MS: Final = 5_000
"""How long a removal refuses what was loaded before it: longer than any load takes."""
_HEAD_BYTES: Final = 9
_VALUE, _NOTHING, _REMOVED = b"v", b"n", b"r"
_UNREADABLE: Final = (ValueError, TypeError, LookupError, msgspec.MsgspecError)
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 10.0

logger = logging.getLogger(__name__)


class Held(NamedTuple, Generic[ValueT]):
    """What stands under a key.

    Attributes
    ----------
    value
        The value, `ABSENT` for a negative entry, None where there is nothing to be used.
    n_bytes
        The value's size.
    left_s
        How long it may still be used.
    packed
        All that stands there: what a change of it expects.
    """

    value: ValueT | Absent | None
    n_bytes: int
    left_s: float
    packed: bytes | None


class SharedLevel(Generic[ValueT]):
    """Keys to values, or to `ABSENT`, with the time when they run out.

    Parameters
    ----------
    store
        Where they are; closed with the level.
    encode, decode
        A value to bytes and back.
    clock
        Gives real time.
    prefix
        Begins every key, so that several caches can share a store.

    Attributes
    ----------
    n_failures
        Calls that failed.
    n_unreadable
        Values that nothing could be made of, as another release may have left them; they count as missing.
    """

    def __init__(
        self,
        store: KeyValueStore,
        encode: Callable[[ValueT], bytes],
        decode: Callable[[bytes], ValueT],
        clock: Clock,
        prefix: bytes = b"",
    ) -> None:
        self._store = store
        self._encode = encode
        self._decode = decode
        self._clock = clock
        self._prefix = prefix
        self._rest = Backoff(clock, _FIRST_REST_S, _LONGEST_REST_S)
        self.n_failures = self.n_unreadable = 0

    def get_many(self, keys: Sequence[bytes]) -> list[Held[ValueT]] | None:
        """Return what stands under the keys, in their order; None where the store does not answer."""
        if self._rest.left_s > 0:
            return None
        try:
            packed = self._store.get_many([self._prefix + key for key in keys])
        except StoreError as error:
            self._fail(error)
            return None
        self._rest.succeed()
        now_ms = self._clock.now_ms()
        return [self._held(data, now_ms) for data in packed]

    def fill(self, loaded: Mapping[bytes, ValueT | Absent], before: Mapping[bytes, bytes | None], ttl_ms: int) -> None:
        """Hold what was loaded, under each key where still stands what stood there before, and no mark."""
        changes = [
            Change(self._prefix + key, before[key], self._packed(value, ttl_ms))
            for key, value in loaded.items()
            if (before[key] or b"")[:1] != _REMOVED
        ]
        if changes:
            try:
                self._store.compare_and_set(changes, ttl_ms=ttl_ms)
            except StoreError as error:
                self._fail(error)

    def remove_many(self, keys: Iterable[bytes]) -> None:
        """Put the mark of a removal under the keys.

        Raises
        ------
        StoreError
            If the store does not answer.
        """
        mark = _REMOVED + self._end(LEASE_MS)
        self._store.set_many({self._prefix + key: mark for key in keys}, ttl_ms=LEASE_MS)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _held(self, packed: bytes | None, now_ms: int) -> Held[ValueT]:
        if packed is None or len(packed) < _HEAD_BYTES or packed[:1] == _REMOVED:
            return Held(None, 0, 0.0, packed)
        left_s = (int.from_bytes(packed[1:_HEAD_BYTES], "big") - now_ms) / 1_000
        if packed[:1] == _NOTHING:
            return Held(ABSENT, 0, left_s, packed)
        try:
            value = self._decode(packed[_HEAD_BYTES:])
        except _UNREADABLE as error:  # what is loaded instead is put in its place
            if self.n_unreadable == 0:
                logger.warning("a value of a shared cache cannot be read, and counts as missing: %s", error)
            self.n_unreadable += 1
            return Held(None, 0, 0.0, packed)
        return Held(value, len(packed) - _HEAD_BYTES, left_s, packed)

    def _packed(self, value: ValueT | Absent, ttl_ms: int) -> bytes:
        if isinstance(value, Absent):
            return _NOTHING + self._end(ttl_ms)
        return _VALUE + self._end(ttl_ms) + self._encode(value)

    def _end(self, ttl_ms: int) -> bytes:
        return (self._clock.now_ms() + ttl_ms).to_bytes(_HEAD_BYTES - 1, "big")

    def _fail(self, error: StoreError) -> None:
        self.n_failures += 1
        if self._rest.n_failures == 0:
            logger.warning("a cache goes on without its shared level: %s", error)
        self._rest.fail()
