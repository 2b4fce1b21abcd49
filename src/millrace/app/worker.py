"""A worker: one process that folds the log into its own state and answers requests from it.

Everything happens on one event loop: requests, and between them folding. All workers accept connections from one
listening socket that they got from the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from millrace.app.lifeline import Lifeline
from millrace.app.settings import Settings

_GRACE_S: Final = 10
_CHECK_S: Final = 0.005
"""Neither replica nor uvicorn has an event to wait for; both are asked this often, for a moment, once."""


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to us: the worker ends in an order of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_worker(settings: Settings, listening: socket.socket, lifeline: Lifeline, *, serves_early: bool) -> None:
    """Be a worker until told to end.

    Parameters
    ----------
    settings
        The home.
    listening
        The bound socket that all workers share.
    lifeline
        Ties this process to its supervisor.
    serves_early
        Whether to answer before the state has caught up: health is told, pages are refused with 503. Right for
        the first workers of a home, wrong for one that joins others which are able to answer.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_work(settings, listening, lifeline, serves_early))


async def _work(settings: Settings, listening: socket.socket, lifeline: Lifeline, serves_early: bool) -> None:
    from millrace.app import wiring
    from millrace.app.home_retrieval import HomeRetrieval

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(lifeline.parent_fd, stop.set)
    if lifeline.should_stop():
        stop.set()
    clock = wiring.build_event_clock(settings)
    log = wiring.build_log(settings, clock)
    retrieval = HomeRetrieval()
    replica = wiring.build_replica(settings, log, clock=clock, listeners=(retrieval,))
    app = wiring.build_http_app(settings, replica, clock, retrieval)
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    serving: asyncio.Task[None] | None = None
    if serves_early:
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
        await asyncio.sleep(0)
    await replica.restore_aside()  # health is told meanwhile
    # What the process has built so far stays for its life: collections need not look at it again.
    gc.collect()
    gc.freeze()
    following = asyncio.create_task(replica.follow(), name="follow")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    tasks: set[asyncio.Task[Any]] = {following, stopping}
    try:
        while not replica.is_ready() and not any(task.done() for task in tasks):  # noqa: ASYNC110 - see _CHECK_S
            await asyncio.sleep(_CHECK_S)
        if serving is None:
            serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(_CHECK_S)
        tasks.add(serving)
        if not any(task.done() for task in tasks):
            lifeline.say_ready()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Requests under way are answered, then the app's own shutdown (served events) runs, then folding ends.
        server.should_exit = True
        if serving is not None:
            await asyncio.gather(serving, return_exceptions=True)
        following.cancel()
        stopping.cancel()
        await asyncio.gather(following, stopping, return_exceptions=True)
        replica.close()
        log.close()
    for task in (following, serving):
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
