"""`RedisClaims`: claims and limits shared by the processes of several machines, through Redis.

One key per viewer, one per owner and one per limit, each touched by single-key commands or scripts alone, so that a
Redis Cluster works as well as one server. Needs the ``redis`` extra.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from millrace.base.errors import ConfigError, StoreError
from millrace.base.ids import Int64Array
from millrace.base.urls import without_secrets
from millrace.stores.claims import BoolArray

_KEEP_MS: Final = 3_600_000
"""Keys outlive their contents by an hour of the server's time: callers may live in virtual time."""

# KEYS[1] the viewer's hash; ARGV: owner, now_ms, expires_ms, keep_ms, post ids. Values are "<expires_ms>|<owner>".
_CLAIM: Final = """
local now = tonumber(ARGV[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local value = redis.call('HGET', KEYS[1], field)
  if tonumber(string.match(value, '^(-?%d+)|')) <= now then redis.call('HDEL', KEYS[1], field) end
end
local granted = {}
for i = 5, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  if value and string.match(value, '|(.*)$') ~= ARGV[1] then
    granted[i - 4] = 0
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[3] .. '|' .. ARGV[1])
    granted[i - 4] = 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return granted
"""

# KEYS[1] the viewer's hash; ARGV: owner.
_RELEASE: Final = """
local n = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local value = redis.call('HGET', KEYS[1], field)
  if string.match(value, '|(.*)$') == ARGV[1] then
    redis.call('HDEL', KEYS[1], field)
    n = n + 1
  end
end
return n
"""

# KEYS[1] the limit's list of times; ARGV: limit, window_ms, now_ms, keep_ms.
_TAKE: Final = """
local oldest = tonumber(ARGV[3]) - tonumber(ARGV[2])
while true do
  local first = redis.call('LINDEX', KEYS[1], 0)
  if not first or tonumber(first) > oldest then break end
  redis.call('LPOP', KEYS[1])
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


class RedisClaims:
    """Claims in Redis; see `millrace.stores.claims.ClaimStore`.

    Parameters
    ----------
    url
        ``"redis://host:port/db"``.
    prefix
        Begins every key, so that several feeds can share one server.
    timeout_s
        Of connecting and of each command.

    Raises
    ------
    ConfigError
        If the ``redis`` package is not installed, or ``url`` is none.
    StoreError
        If the server does not answer.
    """

    def __init__(self, url: str, *, prefix: str = "millrace", timeout_s: float = 1.0) -> None:
        try:
            import redis
        except ImportError as error:
            raise ConfigError(
                "claims in redis",
                value=without_secrets(url),
                problem="the redis package is not installed",
                remedy="pip install 'millrace[redis]'",
            ) from error
        self._shown_url = without_secrets(url) if "://" in url else "***"
        self._prefix = prefix
        self._error: type[Exception] = redis.RedisError
        try:
            client: Any = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        except ValueError:  # its text may quote the password
            raise ConfigError(
                "claims.redis_url",
                value=self._shown_url,
                problem="not a redis URL",
                remedy="write redis://user:password@host:port/db, with the password percent-encoded",
            ) from None
        self._redis = client
        self._claim = client.register_script(_CLAIM)
        self._release = client.register_script(_RELEASE)
        self._take = client.register_script(_TAKE)
        try:
            client.ping()
        except self._error as problem:
            client.close()
            raise self._failed(problem) from problem

    def claim(self, viewer_id: int, post_ids: Int64Array, *, owner: str, now_ms: int, ttl_ms: int) -> BoolArray:
        """See `ClaimStore.claim`."""
        if len(post_ids) == 0:
            return np.zeros(0, dtype=np.bool_)
        owner_key = self._key("owner", owner)
        keep_ms = ttl_ms + _KEEP_MS
        try:
            # The owner's list first: a claim that nobody could release would be worse than an empty list.
            pipe = self._redis.pipeline(transaction=False)
            pipe.sadd(owner_key, viewer_id)
            pipe.pexpire(owner_key, keep_ms)
            pipe.execute()
            granted = self._claim(
                keys=[self._key("viewer", str(viewer_id))],
                args=[owner, now_ms, now_ms + ttl_ms, keep_ms, *post_ids.tolist()],
            )
        except self._error as error:
            raise self._failed(error) from error
        return np.array(granted, dtype=np.bool_)

    def release(self, owner: str) -> int:
        """See `ClaimStore.release`."""
        owner_key = self._key("owner", owner)
        try:
            viewers = sorted(int(raw) for raw in self._redis.smembers(owner_key))
            n_released = sum(
                int(self._release(keys=[self._key("viewer", str(viewer))], args=[owner])) for viewer in viewers
            )
            self._redis.delete(owner_key)
        except self._error as error:
            raise self._failed(error) from error
        return n_released

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `ClaimStore.take`."""
        try:
            answer = self._take(keys=[self._key("limit", key)], args=[limit, window_ms, now_ms, window_ms + _KEEP_MS])
        except self._error as error:
            raise self._failed(error) from error
        return bool(answer)

    def close(self) -> None:
        """Close the connections; claims stay on the server until they run out."""
        self._redis.close()

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:claims:{kind}:{name}"

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            "claims server",
            value=self._shown_url,
            problem=f"did not do as asked ({error})",
            remedy="start it or correct the url, or use the SQLite claims of one machine",
        )
