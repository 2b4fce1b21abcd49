"""`Team`: processes that run the same simulation and share the making of pages.

Every process has the whole world and its own replica of the feed's state, and does everything that is cheap itself; a
page is made by the one process whose viewer it is, and then known to all. So any number of processes gives the same
bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from millrace.base.errors import MillraceError

T = TypeVar("T")


class Team:
    """One process's place among the others; alone by default.

    Parameters
    ----------
    rank, size
        Which process of how many.
    others
        Ways to all others for the first process; the way to the first for each other.
    """

    def __init__(self, rank: int = 0, size: int = 1, others: tuple[Connection, ...] = ()) -> None:
        self.rank = rank
        self.size = size
        self._others = others

    @property
    def is_first(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.rank == 0

    def is_mine(self, viewer_id: str) -> bool:
        """Whether this process makes that viewer's pages."""
        return zlib.crc32(viewer_id.encode()) % self.size == self.rank

    def gather(self, mine: T) -> list[T]:
        """Return what every process has, in order of rank, in every process; waits for the slowest."""
        if self.size == 1:
            return [mine]
        try:
            if not self.is_first:
                self._others[0].send(mine)
                shares: list[T] = self._others[0].recv()
                return shares
            shares = [mine, *(other.recv() for other in self._others)]
            for other in self._others:
                other.send(shares)
        except (EOFError, OSError) as error:
            raise MillraceError(
                "team",
                value=f"process {self.rank} of {self.size}",
                problem="another process of the run has ended",
                remedy="see its message above; start the run again, it goes on from the last whole slice",
            ) from error
        return shares


def run_team(n_processes: int, work: Callable[[Team, Any], T], spec: Any) -> T:
    """Run ``work(team, spec)`` in several processes, this one the first; return what it returns here.

    ``work`` and ``spec`` must be picklable: the others are started fresh.
    """
    if n_processes == 1:
        return work(Team(), spec)
    context = get_context("spawn")
    ways = [context.Pipe() for _ in range(n_processes - 1)]
    others = [
        context.Process(target=_be_other, args=(work, spec, rank + 1, n_processes, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(ways)
    ]
    for other in others:
        other.start()
    for _, theirs in ways:
        theirs.close()
    try:
        return work(Team(0, n_processes, tuple(ours for ours, _ in ways)), spec)
    finally:
        for ours, _ in ways:
            ours.close()
        for other in others:
            other.join(timeout=30)
            if other.is_alive():
                other.terminate()


def _be_other(work: Callable[[Team, Any], Any], spec: Any, rank: int, size: int, way: Connection) -> None:
    try:
        work(Team(rank, size, (way,)), spec)
    except MillraceError as error:
        raise SystemExit(f"process {rank}: {error}") from None
