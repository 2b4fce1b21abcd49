"""`RankServerThread`: a rank server on a port of loopback in a thread of this process, for tests and benches."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Self

from millrace.inference.rank_server import CallObserver, RankServer
from millrace.inference.served_rankers import ServedRanker, ServedRankers

_PATIENCE_S = 30.0


class RankServerThread:
    """Serves rankers until the block ends; the first one serves those who name none.

    Parameters
    ----------
    *first
        Started and closed with the server.
    rankers
        Used as they are instead of these, which then are none.
    observer
        Hears of calls.
    port
        Where it listens; 0 takes a free one.
    """

    def __init__(
        self,
        *first: ServedRanker,
        rankers: ServedRankers | None = None,
        observer: CallObserver | None = None,
        port: int = 0,
    ) -> None:
        self.rankers = rankers or ServedRankers()
        for ranker in first:
            self.rankers.hold(ranker.identity, partial(_itself, ranker))
        if first:
            self.rankers.let_serve(first[0].identity)
        self._observer = observer
        self._port = port
        self._failed: BaseException | None = None
        self._is_up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="rank-server", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._is_up.wait(_PATIENCE_S):
            raise TimeoutError("the rank server did not start")
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer what is under way, and end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_PATIENCE_S)
        self.rankers.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._is_up.set()
            self._loop.close()

    async def _serve(self) -> None:
        server = RankServer(self.rankers, f"127.0.0.1:{self._port}", observer=self._observer)
        self._port = await server.start()
        self._is_up.set()
        await self._stop.wait()
        await server.stop(5.0)


def _itself(ranker: ServedRanker) -> ServedRanker:
    return ranker
