"""`RedisLog`: the log on a Redis server (7 or newer), for several machines.

One total order over all topics, as in the embedded log: offsets count records. An append is one script, so it is
there whole or not at all, and the duplicate window, kept by the server, is exact for all who append. Where things
are: scripts and keys in `redis_scripts`, connection and errors in `redis_server`, reading and group commits in
`redis_consumer`, members that share a group in `redis_member`.

Groups are kept by position and not by ``XREADGROUP``: that hands out entries one by one to whoever asks, which would
break the order of a key's events. What it does for entries (pending ones of a member that died are claimed by others)
is done here for partitions. How durable an append is, is the server's setting; `RedisLogConfig.requires_fsync` asks
for the strictest.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.clock import Clock
from millrace.base.errors import LogError
from millrace.base.ids import Int64Array
from millrace.stream import redis_scripts
from millrace.stream.config import LogConfig
from millrace.stream.dedup import DIGEST_BYTES, digest_bytes
from millrace.stream.log import DUPLICATE_WINDOW, AppendResult, DeadLetter, Message, Position
from millrace.stream.partitions import partition_mask, partition_of
from millrace.stream.positions import check_messages, check_offset
from millrace.stream.redis_consumer import RedisConsumer
from millrace.stream.redis_lag import lag_of
from millrace.stream.redis_member import RedisMember
from millrace.stream.redis_server import RedisServer
from millrace.stream.server_config import RedisLogConfig

_DEFAULTS: Final = LogConfig()
_MAX_ROW_RECORDS: Final = 4096
_MAX_ROW_BYTES: Final = 4 << 20
_MAX_APPEND_BYTES: Final = 256 << 20
_MAX_TOPICS: Final = 1 << 15
_ROWS_PER_TRIM: Final = 256
_OFFSETS_PER_PURGE: Final = 1024
_LETTERS_PER_READ: Final = 256


class RedisLog:
    """A durable log on a Redis server. Safe to use from several threads; to be opened after a fork, not before.

    Parameters
    ----------
    server_config
        Where the server is, and what is asked of it.
    clock
        Stamps appends and dead letters.
    n_partitions, duplicate_window
        Written into a new log; must agree with an existing one.
    max_dead_letters, max_dead_letter_bytes
        See `LogConfig`.

    Raises
    ------
    ConfigError
        If the ``redis`` package is not installed, or the URL is none.
    LogError
        If the server does not answer, may lose what it acknowledges, or holds a log of other settings.
    """

    def __init__(
        self,
        server_config: RedisLogConfig,
        clock: Clock,
        n_partitions: int = 16,
        *,
        duplicate_window: int = DUPLICATE_WINDOW,
        max_dead_letters: int = _DEFAULTS.max_dead_letters,
        max_dead_letter_bytes: int = _DEFAULTS.max_dead_letter_bytes,
    ) -> None:
        self._clock = clock
        self._n_partitions = n_partitions
        self._max_dead_letters = max_dead_letters
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._server = RedisServer(server_config, n_partitions, duplicate_window)
        self._code_by_topic: dict[str, int] = {}
        # Each thread counts its own appends: the server knows by it which of them it has seen.
        self._appenders = threading.local()
        self._is_open = True

    @classmethod
    def from_config(cls, clock: Clock, config: LogConfig) -> RedisLog:
        """Open a log as its settings say."""
        return cls(
            config.redis,
            clock,
            config.n_partitions,
            duplicate_window=config.duplicate_window,
            max_dead_letters=config.max_dead_letters,
            max_dead_letter_bytes=config.max_dead_letter_bytes,
        )

    @property
    def log_id(self) -> str:
        """Drawn when the log was made."""
        return self._server.log_id

    @property
    def n_partitions(self) -> int:
        """How many partitions keys are spread over."""
        return self._n_partitions

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Make messages durable, all or none; see `Log.append`."""
        server = self._open_server()
        if not messages:
            return AppendResult(np.zeros(0, dtype=np.int64), self.end())
        check_messages(messages)
        rows = self._rows(messages)
        token, number = self._next_append()
        keys = server.keys
        names = [keys.records, keys.data, keys.known, keys.order, keys.appender(token)]
        arguments = [number, self._clock.now_ms(), *rows]
        answer = server.run(redis_scripts.APPEND, names, arguments, min_replicas=server.config.min_replicas)
        first, end = np.frombuffer(answer, dtype="<i8", count=2).tolist()
        is_new = np.frombuffer(answer, dtype=np.bool_, offset=16)
        if not len(is_new):
            is_new = np.ones(len(messages), dtype=np.bool_)
        offsets = np.where(is_new, first + np.cumsum(is_new) - 1, -1).astype(np.int64)
        return AppendResult(offsets, (end,))

    def subscribe(
        self,
        group: str,
        *,
        topics: Collection[str] | None = None,
        without: Collection[str] = (),
        partitions: Collection[int] | None = None,
        start: Position | None = None,
    ) -> RedisConsumer:
        """Return a consumer; see `Log.subscribe`."""
        server = self._open_server()
        mask = partition_mask(partitions, self._n_partitions)
        return RedisConsumer(server, group, topics, without, mask, self._n_partitions, start)

    def join(self, group: str, *, topics: Collection[str] | None = None, without: Collection[str] = ()) -> RedisMember:
        """Return a consumer that shares the group's partitions with its other members; see `SharedLog.join`."""
        return RedisMember(self._open_server(), group, topics, without, self._n_partitions)

    def begin(self) -> Position:
        """Return the position of the oldest kept record."""
        return (self._open_server().range()[0],)

    def end(self) -> Position:
        """Return the position after the newest record."""
        return (self._open_server().range()[1],)

    def lag(self, group: str) -> int:
        """Return how many kept records the group has not committed yet."""
        return lag_of(self._open_server(), group, self._n_partitions)

    def trim(self, before: Position) -> int:
        """Forget records before ``before``; return how many. Waiting appends get their turn in between."""
        server = self._open_server()
        offset = check_offset(before, server.range()[1])
        n_gone, is_more = 0, True
        while is_more:
            n, is_more = server.run(
                redis_scripts.TRIM, [server.keys.records, server.keys.data], [offset, _ROWS_PER_TRIM]
            )
            n_gone += int(n)
        return n_gone

    def purge(self, offsets: Int64Array) -> int:
        """Overwrite the data of single records with nothing; return how many changed.

        The server's append-only file keeps what was there until it is rewritten, which is asked for here; backups
        and files of replicas are their owner's to renew.
        """
        server = self._open_server()
        wanted = np.unique(offsets)
        n_changed = 0
        for start in range(0, len(wanted), _OFFSETS_PER_PURGE):
            part = wanted[start : start + _OFFSETS_PER_PURGE].tolist()
            n_changed += int(server.run(redis_scripts.PURGE, [server.keys.records, server.keys.data], part))
        if n_changed:
            server.rewrite_files()
        return n_changed

    def dead_letter(self, letters: Sequence[tuple[str, str, str, bytes]]) -> None:
        """Keep refused messages: (topic, origin, reason, data) each; beyond the bounds the oldest are dropped."""
        server = self._open_server()
        if letters:
            flat = itertools.chain.from_iterable(letters)
            arguments = [self._clock.now_ms(), self._max_dead_letters, self._max_dead_letter_bytes, *flat]
            server.run(redis_scripts.ADD_LETTERS, [server.keys.letters], arguments)

    def dead_letters(self, *, after_id: int = 0) -> Iterator[DeadLetter]:
        """Yield the kept refused messages, oldest first."""
        server = self._open_server()
        while True:
            with server.errors():
                found = server.client.execute_command(
                    "XRANGE", server.keys.letters, f"({after_id}", "+", "COUNT", _LETTERS_PER_READ
                )
            for name, fields in found:
                after_id = int(name.partition(b"-")[0])
                _, at, _, topic, _, origin, _, reason, _, data = fields
                yield DeadLetter(after_id, topic.decode(), origin.decode(), reason.decode(), data, int(at))
            if len(found) < _LETTERS_PER_READ:
                return

    def remove_dead_letters(self, letter_ids: Sequence[int]) -> int:
        """Remove letters; return how many there were."""
        server = self._open_server()
        return int(server.run(redis_scripts.REMOVE_LETTERS, [server.keys.letters], list(letter_ids)))

    def groups(self) -> tuple[str, ...]:
        """Return the groups that ever committed, sorted."""
        server = self._open_server()
        with server.errors():
            return tuple(sorted(name.decode() for name in server.client.smembers(server.keys.groups)))

    def flush(self) -> None:
        """Return at once: the server acknowledges what it has made as durable as it is set to."""
        self._open_server()

    def close(self) -> None:
        """Close the connections; consumers use the same ones."""
        self._is_open = False
        self._server.client.close()

    def _rows(self, messages: Sequence[Message]) -> list[bytes]:
        """Return the arguments of the append script: rows bounded in records and in bytes."""
        codes = self._topic_codes({message.topic for message in messages})
        data = [message.data for message in messages]
        lengths = np.fromiter(map(len, data), dtype="<u4", count=len(data))
        ends = np.cumsum(lengths, dtype=np.int64)
        if int(ends[-1]) > _MAX_APPEND_BYTES:
            raise LogError(
                "append",
                value=f"{int(ends[-1])} bytes",
                problem=f"more than the {_MAX_APPEND_BYTES} that one append may have; nothing was changed",
                remedy="append less at once (log.max_batch_events)",
            )
        digests = digest_bytes([message.event_id for message in messages])
        topics = np.array([codes[message.topic] for message in messages], dtype="<i2")
        n = self._n_partitions
        partitions = np.array([partition_of(message.key, n) for message in messages], dtype="<u2")
        rows: list[bytes] = []
        for row in _cuts(ends):
            rows += [
                digests[row.start * DIGEST_BYTES : row.stop * DIGEST_BYTES],
                topics[row].tobytes(),
                partitions[row].tobytes(),
                lengths[row].tobytes(),
                b"".join(data[row]),
            ]
        return rows

    def _topic_codes(self, used: set[str]) -> dict[str, int]:
        known = self._code_by_topic
        if not known.keys() >= used:
            server = self._server
            found = server.run(redis_scripts.TOPICS, [server.keys.topics], [_MAX_TOPICS, *sorted(used)])
            known = {name.decode(): int(code) for name, code in zip(found[::2], found[1::2], strict=True)}
            if missing := used - known.keys():
                raise LogError(
                    "topic", value=min(missing), problem=f"the log has {len(known)} already", remedy="use fewer topics"
                )
            self._code_by_topic = known
        return known

    def _next_append(self) -> tuple[str, int]:
        local = self._appenders
        if not hasattr(local, "token"):
            local.token, local.number = secrets.token_hex(8), 0
        local.number += 1
        return local.token, local.number

    def _open_server(self) -> RedisServer:
        if not self._is_open:
            raise LogError("log", value=self._server.shown_url, problem="already closed", remedy="open it again")
        return self._server


def _cuts(ends: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Cut records, by where their bytes end, into rows."""
    start = 0
    while start < len(ends):
        base = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, base + _MAX_ROW_BYTES, side="right"))
        stop = min(max(stop, start + 1), start + _MAX_ROW_RECORDS)
        yield slice(start, stop)
        start = stop
