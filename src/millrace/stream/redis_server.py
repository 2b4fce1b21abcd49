"""`RedisServer`: the connection of a `RedisLog`, its keys, what it asks of the server, and errors with names."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from millrace.base.errors import ConfigError, LogError, LogFullError
from millrace.base.urls import without_secrets
from millrace.stream import redis_scripts
from millrace.stream.log import DUPLICATE_WINDOW
from millrace.stream.server_config import RedisLogConfig

_WANTED: Final = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
_OLDEST_VERSION: Final = 7
_FULL: Final = ("OOM", "MISCONF")


class Keys:
    """The names of a log's keys; the braces keep all of them on one server of a Redis Cluster."""

    def __init__(self, prefix: str) -> None:
        self.stem = f"{{{prefix}:log}}"
        self.meta = f"{self.stem}:meta"
        self.records = f"{self.stem}:records"
        self.data = f"{self.stem}:data"
        self.topics = f"{self.stem}:topics"
        self.known = f"{self.stem}:known"
        self.order = f"{self.stem}:order"
        self.letters = f"{self.stem}:letters"
        self.groups = f"{self.stem}:groups"

    def appender(self, token: str) -> str:
        """Return the key of an appender's last answer."""
        return f"{self.stem}:appender:{token}"

    def commits(self, group: str) -> str:
        """Return the key of what a group has committed."""
        return f"{self.stem}:group:{group}:commits"

    def leases(self, group: str) -> str:
        """Return the key of which member of a group has which partition."""
        return f"{self.stem}:group:{group}:leases"

    def members(self, group: str) -> str:
        """Return the key of a group's members, and until when each counts as alive."""
        return f"{self.stem}:group:{group}:members"


class RedisServer:
    """One log on one Redis server; safe to use from several threads, and to be made after a fork, not before.

    Parameters
    ----------
    config
        Where, and how long to try.
    n_partitions, duplicate_window
        Written into a new log; must agree with an existing one.

    Raises
    ------
    ConfigError
        If the ``redis`` package is not installed, or ``url`` is none.
    LogError
        If the server does not answer, keeps too little, or holds a log of other settings.
    """

    log_id: str
    """Drawn when the log was made: tells it from any other."""

    def __init__(self, config: RedisLogConfig, n_partitions: int, duplicate_window: int = DUPLICATE_WINDOW) -> None:
        try:
            import redis
            from redis.backoff import ExponentialWithJitterBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ConfigError(
                "log in redis",
                value=without_secrets(config.url),
                problem="the redis package is not installed",
                remedy="pip install -e '.[redis]'",
            ) from error
        self.config = config
        self.keys = Keys(config.prefix)
        self.shown_url = without_secrets(config.url) if "://" in config.url else "***"
        self._redis_error: type[Exception] = redis.RedisError
        self._response_error: type[Exception] = redis.ResponseError
        try:
            client: Any = redis.Redis.from_url(
                config.url,
                socket_timeout=config.timeout_s,
                socket_connect_timeout=config.timeout_s,
                # Whatever is sent again because its answer was lost changes nothing the second time.
                retry=Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), config.n_retries),
                retry_on_error=[redis.ConnectionError, redis.TimeoutError],
            )
        except ValueError:  # its text may quote the password
            raise ConfigError(
                "log.redis.url",
                value=self.shown_url,
                problem="not a redis URL",
                remedy="write redis://user:password@host:port/db, with the password percent-encoded",
            ) from None
        # As it comes: the client's own parsing makes a dictionary of every entry.
        client.set_response_callback("XRANGE", lambda response, **_: response)
        self.client = client
        self._scripts: dict[str, Any] = {}
        try:
            self._check_server()
            self._open(n_partitions, duplicate_window)
        except BaseException:
            client.close()
            raise

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], *, min_replicas: int = 0) -> Any:
        """Run a script; the first key is always ``meta``, the first argument the log's id.

        With ``min_replicas``, that many replicas of the server must have what it wrote.
        """
        names, values = [self.keys.meta, *keys], [self.log_id, *arguments]
        with self.errors():
            if not min_replicas:
                return self.script(script)(keys=names, args=values)
            pipe = self.client.pipeline(transaction=False)  # a connection waits for its own writes only
            self.script(script)(keys=names, args=values, client=pipe)
            pipe.wait(min_replicas, int(self.config.timeout_s * 900))
            answer, n = pipe.execute()
        if int(n) < min_replicas:
            raise LogError(
                "log server",
                value=self.shown_url,
                problem=f"only {n} of {min_replicas} replicas have the append, after {self.config.timeout_s} s",
                remedy="look after the replicas, then send the events again: what is in is dropped as a duplicate",
            )
        return answer

    def rewrite_files(self) -> None:
        """Ask the server to write its append-only file anew, so that it does not keep what was purged."""
        with self.errors(), contextlib.suppress(self._response_error):  # forbidden, or under way already
            if self.client.info("persistence").get("aof_enabled"):
                self.client.bgrewriteaof()

    def script(self, script: str) -> Any:
        """Return a script that loads itself where the server does not know it."""
        found = self._scripts.get(script)
        if found is None:
            found = self._scripts[script] = self.client.register_script(script)
        return found

    def range(self) -> tuple[int, int]:
        """Return the offsets of the oldest kept record and after the newest one."""
        with self.errors():
            return self.checked_range(self.client.hmget(self.keys.meta, "log_id", "begin", "end"))

    def checked_range(self, found: Sequence[bytes | None]) -> tuple[int, int]:
        """Return begin and end as ``meta`` tells them, after its log id."""
        log_id, begin, end = found[:3]
        if log_id is None or log_id.decode() != self.log_id:
            raise self._gone()
        return int(begin or 0), int(end or 0)

    def committed(self, group: str) -> dict[int, int]:
        """Return what a group has committed, by partition."""
        with self.errors():
            found: Mapping[bytes, bytes] = self.client.hgetall(self.keys.commits(group))
        return {int(partition): int(offset) for partition, offset in found.items()}

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        try:
            yield
        except self._response_error as error:
            raise self._our_error(error) from error
        except self._redis_error as error:
            raise LogError(
                "log server",
                value=self.shown_url,
                problem=f"does not answer ({error}), after {self.config.n_retries + 1} tries",
                remedy="start it or correct log.redis.url; send again what was not acknowledged: what is in the log "
                "already is dropped as a duplicate",
            ) from error

    def _our_error(self, error: Exception) -> LogError:
        text = str(error)
        if text.startswith(redis_scripts.GONE):
            return self._gone()
        if text.startswith(_FULL) or "used memory > 'maxmemory'" in text:
            return LogFullError(
                "log server",
                value=self.shown_url,
                problem=f"no room left ({text}); nothing was changed",
                remedy="trim the log, or give the server more memory (maxmemory) or disk, then try again",
            )
        return LogError(
            "log server",
            value=self.shown_url,
            problem=f"did not do as asked ({text})",
            remedy="see the server's own log; docs/howto/redis.md tells what the log needs of it",
        )

    def _gone(self) -> LogError:
        return LogError(
            "log server",
            value=self.shown_url,
            problem=f"does not hold the log {self.log_id} any more: it was emptied, or restored from elsewhere",
            remedy="restore the server's data, or start again with an empty home on a new log",
        )

    def _check_server(self) -> None:
        with self.errors():
            version = str(self.client.info("server")["redis_version"])
        if int(version.split(".")[0]) < _OLDEST_VERSION:
            raise LogError(
                "log server",
                value=self.shown_url,
                problem=f"is Redis {version}",
                remedy=f"use Redis {_OLDEST_VERSION} or newer, or Valkey",
            )
        if not self.config.requires_fsync:
            return
        try:
            found: Mapping[str, str] = self.client.config_get(*_WANTED)
        except self._response_error:  # managed servers often forbid it
            found = {}
        wrong = [f"{name} {found.get(name, 'unknown')}" for name, value in _WANTED.items() if found.get(name) != value]
        if wrong:
            raise LogError(
                "log server",
                value=self.shown_url,
                problem=f"may lose what it acknowledges ({', '.join(wrong)})",
                remedy=f"set {', '.join(f'{name} {value}' for name, value in _WANTED.items())} there, or accept the "
                "loss with log.redis.requires_fsync = false",
            )

    def _open(self, n_partitions: int, duplicate_window: int) -> None:
        with self.errors():
            found = self.script(redis_scripts.OPEN)(
                keys=[self.keys.meta], args=[secrets.token_hex(8), n_partitions, duplicate_window]
            )
        self.log_id = found[0].decode()
        for name, wanted, there in (
            ("n_partitions", n_partitions, int(found[1])),
            ("duplicate_window", duplicate_window, int(found[2])),
        ):
            if wanted != there:
                raise LogError(
                    f"log setting {name}",
                    value=wanted,
                    problem=f"the log {self.config.prefix} of {self.shown_url} was made with {there}",
                    remedy=f"set log.{name} = {there}, or begin a new log (another log.redis.prefix)",
                )
