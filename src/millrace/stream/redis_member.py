"""`RedisMember`: one of several consumers that share a group's partitions, each partition having one reader at a time.

What Kafka's brokers do by rebalancing, a script on the server does here: a member that polls is alive for a lease
and is given its fair share of the partitions that nobody has; what it has too much it lets go at its next poll. A
member that stops polling loses its share to the others once its lease is over (the server's time), and they begin
where it had committed. Commits are checked against the leases: a member that lost a partition cannot commit it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np

from millrace.base.errors import LogError
from millrace.stream import redis_scripts
from millrace.stream.log import PartitionsMovedError, Position, RecordBatch
from millrace.stream.redis_consumer import RedisConsumer
from millrace.stream.redis_server import RedisServer


class RedisMember(RedisConsumer):
    """See `millrace.stream.log.Member`; made by `RedisLog.join`."""

    def __init__(
        self,
        server: RedisServer,
        group: str,
        topics: Iterable[str] | None,
        without: Iterable[str],
        n_partitions: int,
    ) -> None:
        super().__init__(server, group, topics, without, None, n_partitions, server_begin(server))
        self._own[:] = False
        self._name = secrets.token_hex(8)

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that were this member's at its newest poll."""
        return frozenset(np.flatnonzero(self._own).tolist())

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records of the member's partitions, which change with the group; see `Consumer.poll`."""
        self._check_open()
        self._take(self._share(stays=True))
        batch = super().poll(max_records, before=before)
        np.maximum(self._floors, batch.end[0], out=self._floors, where=self._own)
        return batch

    def commit(self, position: Position) -> None:
        """Record that everything that this member was given so far is applied; ``position`` is its newest batch's end.

        Raises
        ------
        PartitionsMovedError
            If a partition was given to another member meanwhile: what was read of it comes there again.
        """
        self._check_open()
        if position != self.position:
            raise LogError(
                "log position",
                value=position,
                problem=f"not the end of the member's newest batch, {self.position}",
                remedy="apply a batch, commit its end, then poll the next one",
            )
        own = np.flatnonzero(self._own).tolist()
        pairs = [number for partition in own for number in (partition, int(self._floors[partition]))]
        keys = self._server.keys
        try:
            self._server.run(
                redis_scripts.COMMIT,
                [keys.commits(self._group), keys.groups, keys.leases(self._group)],
                [self._group, self._name, *pairs],
            )
        except LogError as error:
            if redis_scripts.LOST not in str(error):
                raise
            raise PartitionsMovedError(
                "member of a group",
                value=self._group,
                problem="its lease ran out and another member has its partitions; nothing was committed",
                remedy="forget what was read since the last commit and poll again; commit more often, or raise "
                "log.redis.lease_ms",
            ) from error

    def seek(self, position: Position) -> None:
        """Refuse: a member reads on where its group is."""
        raise LogError(
            "member of a group",
            value=self._group,
            problem=f"cannot be moved to {position}: its partitions come and go",
            remedy="subscribe with a start, or commit a position for the group before anybody joins",
        )

    def close(self) -> None:
        """Leave the group: its other members take over at once. Commits stay."""
        if self._is_open:
            self._share(stays=False)
        super().close()

    def _share(self, *, stays: bool) -> list[int]:
        keys, config = self._server.keys, self._server.config
        arguments = [self._name, config.lease_ms, len(self._own), int(stays)]
        found = self._server.run(redis_scripts.SHARE, [keys.leases(self._group), keys.members(self._group)], arguments)
        return [int(partition) for partition in found]

    def _take(self, partitions: list[int]) -> None:
        gained = [partition for partition in partitions if not self._own[partition]]
        self._own[:] = False
        self._own[partitions] = True
        if not gained:
            return
        begin, _ = self._server.range()
        committed = self._server.committed(self._group)
        for partition in gained:
            self._floors[partition] = max(committed.get(partition, begin), begin)
        self._offset = int(self._floors[self._own].min())


def server_begin(server: RedisServer) -> Position:
    """Return the position of the oldest kept record."""
    return (server.range()[0],)
