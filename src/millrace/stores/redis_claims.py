"""`RedisClaims`: claims, kept pages and limits shared by the processes of several machines, through Redis.

A viewer's claims are a hash from content to (published, end, owner), all of eight bytes; the keys that one script
touches have the viewer in braces, so that a Redis Cluster keeps them on one server. How durable a claim is when
`claim` returns is the server's setting: ``appendfsync always`` for a power cut, ``everysec`` for a killed process.
Needs the ``redis`` extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from millrace.base.errors import ConfigError, StoreError
from millrace.base.ids import Int64Array
from millrace.base.urls import without_secrets
from millrace.stores.claim_sets import owner_hash
from millrace.stores.claims import BoolArray, Claimed

_KEEP_MS: Final = 3_600_000
"""Keys outlive their contents by an hour of the server's time: callers may live in virtual time."""

# KEYS: the viewer's claims, the viewer's floor, what the owner has. ARGV: owner, now_ms, expires_ms, keep_ms,
# max_claims, then a content and when it was published, for each. The rules: `claim_sets.decide`, in the same order.
_CLAIM: Final = """
local owner, now, expires, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most = tonumber(ARGV[5])
local floor = tonumber(redis.call('GET', KEYS[2]) or '0')
local asked, mine, granted = {}, {}, {}
for i = 6, #ARGV, 2 do asked[ARGV[i]] = true end
local before = redis.call('GET', KEYS[3]) or ''
for i = 1, #before, 8 do
  local content = string.sub(before, i, i + 7)
  local value = redis.call('HGET', KEYS[1], content)
  if value and string.sub(value, 17, 24) == owner then
    if asked[content] then mine[#mine + 1] = content else redis.call('HDEL', KEYS[1], content) end
  end
end
local known = {}
for i = 6, #ARGV, 2 do
  local content, created, answer = ARGV[i], tonumber(ARGV[i + 1]), 0
  if not known[content] and created >= floor then
    local value = redis.call('HGET', KEYS[1], content)
    local was_created, ends = -1, -1
    if value then was_created, ends = struct.unpack('<i8i8', value) end
    if ends <= now or was_created < floor then
      if created == 0 then created = now end
      redis.call('HSET', KEYS[1], content, struct.pack('<i8i8', created, expires) .. owner)
      mine[#mine + 1] = content
      answer = 1
    elseif string.sub(value, 17, 24) == owner then
      answer = 1
    end
    if answer == 1 then known[content] = true end
  end
  granted[#granted + 1] = answer
end
if redis.call('HLEN', KEYS[1]) > most then
  local all = redis.call('HGETALL', KEYS[1])
  local live, times = {}, {}
  for i = 1, #all, 2 do
    local created, ends = struct.unpack('<i8i8', all[i + 1])
    if ends <= now or created < floor then
      redis.call('HDEL', KEYS[1], all[i])
    else
      live[#live + 1] = {all[i], created}
      times[#times + 1] = created
    end
  end
  if #live > most then
    table.sort(times)
    floor = times[#live - most] + 1
    redis.call('SET', KEYS[2], string.format('%.0f', floor))
    for _, claim in ipairs(live) do
      if claim[2] < floor then redis.call('HDEL', KEYS[1], claim[1]) end
    end
  end
end
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('SET', KEYS[3], table.concat(mine), 'PX', keep)
return granted
"""

# KEYS: the viewer's claims, what the owner has. ARGV: owner.
_RELEASE: Final = """
local mine = redis.call('GET', KEYS[2]) or ''
for i = 1, #mine, 8 do
  local content = string.sub(mine, i, i + 7)
  local value = redis.call('HGET', KEYS[1], content)
  if value and string.sub(value, 17, 24) == ARGV[1] then redis.call('HDEL', KEYS[1], content) end
end
redis.call('DEL', KEYS[2])
return 1
"""

# KEYS: a page. ARGV: the page, now_ms, expires_ms, keep_ms. A page stands behind the time when it runs out.
_KEEP_PAGE: Final = """
local kept = redis.call('GET', KEYS[1])
if kept and struct.unpack('<i8', kept) > tonumber(ARGV[2]) then return kept end
local page = struct.pack('<i8', tonumber(ARGV[3])) .. ARGV[1]
redis.call('SET', KEYS[1], page, 'PX', ARGV[4])
return page
"""

# KEYS: the limit's list of times. ARGV: limit, window_ms, now_ms, keep_ms.
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

# KEYS: the budget. ARGV: n, per_s, burst, now_ms, keep_ms. The rule: `claims.spent`.
_SPEND: Final = """
local n, per_s, burst, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
local after = math.max(full, now) + n * 1000.0 / per_s
local wait = after - now - burst * 1000.0 / per_s
if wait > 1e-3 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.17g', after), 'PX', math.ceil(after - now) + tonumber(ARGV[5]))
return 0
"""


class RedisClaims:
    """See `millrace.stores.claims.ClaimStore`.

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

    is_remote = True

    def __init__(self, url: str, *, prefix: str = "millrace", timeout_s: float = 1.0) -> None:
        try:
            import redis
        except ImportError as error:
            raise ConfigError(
                "claims in redis",
                value=without_secrets(url),
                problem="the redis package is not installed",
                remedy="pip install -e '.[redis]'",
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
        self._keep_page = client.register_script(_KEEP_PAGE)
        self._take = client.register_script(_TAKE)
        self._spend = client.register_script(_SPEND)
        try:
            with self._errors():
                client.ping()
        except StoreError:
            client.close()
            raise

    def claimed(self, viewer_id: int, now_ms: int) -> Claimed:
        """See `ClaimStore.claimed`."""
        with self._errors():
            # Claims first: what is let go meanwhile is below the floor that is read after them.
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(self._key(viewer_id, "claims"))
            pipe.get(self._key(viewer_id, "floor"))
            found, floor = pipe.execute()
        floor_ms = int(floor or 0)
        ids = np.frombuffer(b"".join(found.keys()), dtype="<i8").astype(np.int64)
        values = np.frombuffer(b"".join(found.values()), dtype="<i8").reshape(-1, 3)
        return Claimed(ids[(values[:, 1] > now_ms) & (values[:, 0] >= floor_ms)], floor_ms)

    def claim(
        self,
        viewer_id: int,
        content_ids: Int64Array,
        created_ms: Int64Array,
        *,
        owner: str,
        now_ms: int,
        ttl_ms: int,
        max_claims: int,
    ) -> BoolArray:
        """See `ClaimStore.claim`."""
        pairs = zip(content_ids.tolist(), created_ms.tolist(), strict=True)
        asked = [part for content, created in pairs for part in (_word(content), created)]
        keys = [self._key(viewer_id, "claims"), self._key(viewer_id, "floor"), self._owner_key(viewer_id, owner)]
        args = [_word(owner_hash(owner)), now_ms, now_ms + ttl_ms, ttl_ms + _KEEP_MS, max_claims, *asked]
        with self._errors():
            granted = self._claim(keys=keys, args=args)
        return np.array(granted, dtype=np.bool_)

    def release(self, viewer_id: int, owner: str) -> None:
        """See `ClaimStore.release`."""
        keys = [self._key(viewer_id, "claims"), self._owner_key(viewer_id, owner)]
        with self._errors():
            self._release(keys=keys, args=[_word(owner_hash(owner))])

    def keep_page(self, viewer_id: int, key: str, page: bytes, *, now_ms: int, ttl_ms: int) -> bytes:
        """See `ClaimStore.keep_page`."""
        args = [page, now_ms, now_ms + ttl_ms, ttl_ms + _KEEP_MS]
        with self._errors():
            kept: bytes = self._keep_page(keys=[self._key(viewer_id, f"page:{key}")], args=args)
        return kept[8:]

    def page(self, viewer_id: int, key: str, now_ms: int) -> bytes | None:
        """See `ClaimStore.page`."""
        with self._errors():
            kept: bytes | None = self._redis.get(self._key(viewer_id, f"page:{key}"))
        return kept[8:] if kept is not None and int.from_bytes(kept[:8], "little", signed=True) > now_ms else None

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `ClaimStore.take`."""
        with self._errors():
            answer = self._take(
                keys=[f"{self._prefix}:limit:{key}"], args=[limit, window_ms, now_ms, window_ms + _KEEP_MS]
            )
        return bool(answer)

    def spend(self, key: str, n: int, *, per_s: float, burst: int, now_ms: int) -> int:
        """See `ClaimStore.spend`."""
        with self._errors():
            wait_ms = self._spend(keys=[f"{self._prefix}:budget:{key}"], args=[n, per_s, burst, now_ms, _KEEP_MS])
        return int(wait_ms)

    def forget(self, user_id: int) -> None:
        """See `ClaimStore.forget`."""
        with self._errors():
            # What owners have is only a list of what to look at: with no claims it changes nothing, and it runs out.
            self._redis.delete(self._key(user_id, "claims"))
            self._redis.delete(self._key(user_id, "floor"))
            for key in self._redis.scan_iter(match=f"{self._prefix}:{{*}}:page:*", count=1_000):
                self._redis.delete(key)

    def close(self) -> None:
        """Close the connections; what the server holds stays until it runs out."""
        self._redis.close()

    def _key(self, viewer_id: int, name: str) -> str:
        return f"{self._prefix}:{{{viewer_id}}}:{name}"

    def _owner_key(self, viewer_id: int, owner: str) -> str:
        return self._key(viewer_id, f"owner:{owner_hash(owner)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise StoreError(
                "claims server",
                value=self._shown_url,
                problem=f"did not do as asked ({error})",
                remedy="start it or correct the url, or use the SQLite claims of one machine",
            ) from error


def _word(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)
