"""`RedisKeyValue`: keys and values shared by the processes of several machines, through Redis.

A value stands behind the time when it runs out, by the caller's clock, which may be virtual; the server itself lets go
of it by real time, a little later. Every script has one key, so a Redis Cluster runs them too. How durable a write is
when it returns is the server's setting (``appendfsync``). Needs the ``redis`` extra.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from millrace.base.clock import Clock
from millrace.base.errors import ConfigError, StoreError
from millrace.base.urls import without_secrets
from millrace.stores.key_value import Change, expiry_ms

_GRACE_MS: Final = 5_000
"""So much longer the server keeps a value, for machines whose clocks are behind the writer's."""
_N_END_BYTES: Final = 8
_KEYS_PER_PAGE: Final = 500
_FOR_EVER: Final = (2**63 - 1).to_bytes(_N_END_BYTES, "big")

# KEYS: one. ARGV: now as eight bytes, what is expected behind '1' or else '0', what to set behind its end or '', the
# server's life of it in ms or ''. Ends are big-endian, so that as texts they compare as the times they are.
_COMPARE_AND_SET: Final = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 8) <= ARGV[1] then held = false end
local found = '0'
if held then found = '1' .. string.sub(held, 9) end
if found ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1
"""
_SHA: Final = hashlib.sha1(_COMPARE_AND_SET.encode(), usedforsecurity=False).hexdigest()


class RedisKeyValue:
    """See `millrace.stores.key_value.KeyValueStore`.

    Parameters
    ----------
    url
        ``"redis://host:port/db"``.
    clock
        Gives event time; all processes must mean the same.
    prefix
        Begins every key, so that several stores can share one server.
    timeout_s
        Of connecting and of each command.

    Raises
    ------
    ConfigError
        If the ``redis`` package is not installed, or ``url`` is none.
    """

    is_remote = True

    def __init__(self, url: str, clock: Clock, *, prefix: str = "millrace", timeout_s: float = 1.0) -> None:
        try:
            import redis
        except ImportError as error:
            raise ConfigError(
                "key-value store in redis",
                value=without_secrets(url),
                problem="the redis package is not installed",
                remedy="pip install -e '.[redis]'",
            ) from error
        self._shown_url = without_secrets(url) if "://" in url else "***"
        self._clock = clock
        self._prefix = f"{prefix}:".encode()
        self._error: type[Exception] = redis.RedisError
        try:
            # Nothing is sent before the first call: a process may fork before it.
            client: Any = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        except ValueError:  # its text may quote the password
            raise ConfigError(
                "redis url",
                value=self._shown_url,
                problem="not a redis URL",
                remedy="write redis://user:password@host:port/db, with the password percent-encoded",
            ) from None
        self._redis = client
        self._is_unknown: type[Exception] = redis.exceptions.NoScriptError

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `KeyValueStore.get_many`."""
        if not len(keys):
            return []
        now = _word(self._clock.now_ms())
        with self._errors():
            found: list[bytes | None] = self._redis.mget([self._prefix + key for key in keys])
        return [_alive(value, now) for value in found]

    def set_many(self, values: Mapping[bytes, bytes], *, ttl_ms: int | None = None) -> None:
        """See `KeyValueStore.set_many`."""
        end = _end(self._clock.now_ms(), ttl_ms)
        kept_ms = None if ttl_ms is None else ttl_ms + _GRACE_MS
        with self._errors():
            pipe = self._redis.pipeline(transaction=False)
            for key, value in values.items():
                pipe.set(self._prefix + key, end + value, px=kept_ms)
            pipe.execute()

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """See `KeyValueStore.delete_many`."""
        now = _word(self._clock.now_ms())
        with self._errors():
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.getdel(self._prefix + key)
            return sum(_alive(value, now) is not None for value in pipe.execute())

    def compare_and_set(self, changes: Sequence[Change], *, ttl_ms: int | None = None) -> list[bool]:
        """See `KeyValueStore.compare_and_set`."""
        now_ms = self._clock.now_ms()
        end, now = _end(now_ms, ttl_ms), _word(now_ms)
        kept = "" if ttl_ms is None else str(ttl_ms + _GRACE_MS)
        calls: list[tuple[bytes | str, ...]] = []
        for change in changes:
            expected = b"0" if change.expected is None else b"1" + change.expected
            value = b"" if change.value is None else end + change.value
            calls.append((self._prefix + change.key, now, expected, value, kept))
        with self._errors():
            answers = self._run(calls)
            unknown = [row for row, answer in enumerate(answers) if isinstance(answer, self._is_unknown)]
            if unknown:  # a server that was just started; asking it first each time would be a round trip more
                self._redis.script_load(_COMPARE_AND_SET)
                for row, answer in zip(unknown, self._run([calls[row] for row in unknown]), strict=True):
                    answers[row] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return [bool(answer) for answer in answers]

    def _run(self, calls: Sequence[tuple[bytes | str, ...]]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for call in calls:
            pipe.evalsha(_SHA, 1, *call)
        answers: list[Any] = pipe.execute(raise_on_error=False)
        return answers

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `KeyValueStore.scan`."""
        pattern = _literally(self._prefix + prefix) + b"*"
        seen: set[bytes] = set()  # the server may name a key twice
        cursor = 0
        while True:
            with self._errors():
                cursor, names = self._redis.scan(cursor, match=pattern, count=_KEYS_PER_PAGE)
            new = [name[len(self._prefix) :] for name in dict.fromkeys(names) if name not in seen]
            seen.update(names)
            yield from ((k, value) for k, value in zip(new, self.get_many(new), strict=True) if value is not None)
            if cursor == 0:
                return

    def close(self) -> None:
        """See `KeyValueStore.close`."""
        self._redis.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise StoreError(
                "key-value server",
                value=self._shown_url,
                problem=f"did not do as asked ({error})",
                remedy="start it or correct the url",
            ) from error


def _word(value: int) -> bytes:
    return value.to_bytes(_N_END_BYTES, "big")


def _end(now_ms: int, ttl_ms: int | None) -> bytes:
    expires_ms = expiry_ms(now_ms, ttl_ms)
    return _FOR_EVER if expires_ms is None else _word(expires_ms)


def _alive(value: bytes | None, now: bytes) -> bytes | None:
    return None if value is None or value[:_N_END_BYTES] <= now else value[_N_END_BYTES:]


def _literally(text: bytes) -> bytes:
    """Return a pattern that means these bytes themselves."""
    return b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]\\^" else bytes((byte,)) for byte in text)
